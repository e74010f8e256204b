"""A scripted double of `quotaflow._quotaflow` that records its calls."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from quotaflow import InvalidPromptError
from quotaflow._call.prompt import encode_text

if TYPE_CHECKING:
    import asyncio

OPTION_NAMES = (
    "task_name",
    "provider",
    "model",
    "retry",
    "fallback",
    "max_retries",
    "retry_delay",
    "system",
    "priority",
    "timeout",
    "deadline",
    "user",
    "skip_rate_limit",
    "params_json",
    "cache",
    "on_retry",
    "debug",
)

ATTEMPT = ("openai", "gpt-4o-mini", "OPENAI_API_KEY", None, 200, 1_700_000_000.0, 0.25, 0.5)


class Options:
    """The double of `CallOptions`: takes exactly what the contract names."""

    def __init__(self, *values: object) -> None:
        assert len(values) == len(OPTION_NAMES)
        self.facts = dict(zip(OPTION_NAMES, values, strict=True))

    def __getitem__(self, name: str) -> Any:
        return self.facts[name]


@dataclass(frozen=True)
class ScriptedOutcome:
    text: str = "Paris"
    provider: str = "openai"
    model: str = "gpt-4o-mini"
    key: str = "OPENAI_API_KEY"
    usage: tuple[int, int, int, int, int] | None = (30, 12, 4, 2, 5)
    latency: float = 0.75
    first_token_latency: float | None = None
    cached: bool = False
    finish_reason: str | None = "stop"
    tool_calls: str | None = None
    raw: bytes = b'{"id": "chatcmpl-1"}'
    attempts: list[tuple[Any, ...]] = field(default_factory=lambda: [ATTEMPT])


@dataclass
class ScriptedStream:
    """The double of `StreamCall`: hands out these pieces, in as many crossings as there are lists."""

    answer: ScriptedOutcome
    pieces: list[list[str | tuple[Any, ...]]]
    closed: int = 0

    def next(self) -> list[str | tuple[Any, ...]]:
        return self.pieces.pop(0) if self.pieces else []

    def outcome(self) -> ScriptedOutcome:
        return self.answer

    def close(self) -> None:
        self.closed += 1


class ScriptedCore:
    """The double of `Core`: answers every call with `outcome`, or raises it."""

    made: list[ScriptedCore]
    call_timeout: float | None = None
    limits_money = False

    def __init__(self, *arguments: object) -> None:
        self.arguments = arguments
        self.calls: list[tuple[str | bytes, Options]] = []
        self.resets: list[tuple[str | None, str | None]] = []
        self.closed = 0
        self.outcome: ScriptedOutcome | Exception = ScriptedOutcome()
        self.streams: list[tuple[str | None, float | None]] = []
        self.pieces: list[list[str | tuple[Any, ...]]] = [["Pa", "ris"]]
        self.made.append(self)

    def send(self, prompt: str | bytes, options: Options) -> ScriptedOutcome:
        self.calls.append((prompt, options))
        if isinstance(self.outcome, Exception):
            raise self.outcome
        if isinstance(prompt, str):
            encode_text(prompt)  # the border refuses it with the same error
        return self.outcome

    def asend(
        self,
        prompt: str | bytes,
        options: Options,
        _port: object,
        future: asyncio.Future[ScriptedOutcome],
    ) -> int:
        try:
            future.set_result(self.send(prompt, options))
        except InvalidPromptError:
            raise  # as Rust does before anything begins
        except Exception as error:  # noqa: BLE001 - whatever the script says goes to whoever awaits
            future.set_exception(error)
        return len(self.calls)

    def stream(
        self, prompt: str | bytes, options: Options, resume: str | None, idle_timeout: float | None
    ) -> ScriptedStream:
        outcome = self.send(prompt, options)
        self.streams.append((resume, idle_timeout))
        return ScriptedStream(outcome, list(self.pieces))

    def status(self) -> str:
        return json.dumps({"keys": []})

    def reset(self, provider: str | None, key: str | None) -> int:
        self.resets.append((provider, key))
        return 3

    def close(self) -> None:
        self.closed += 1


class ScriptedSimulator:
    """The double of `Simulator`."""

    address = "127.0.0.1:40123"

    def __init__(self, settings: str, port: int) -> None:
        self.settings, self.port, self.faults, self.stopped = settings, port, [], False  # type: ignore[var-annotated]

    def stats(self) -> str:
        return json.dumps({"requests": 2})

    def add_faults(self, faults: str) -> None:
        self.faults += json.loads(faults)

    def stop(self) -> None:
        self.stopped = True
