# The private Rust module; only files of this package import it.

from asyncio import Future
from collections.abc import Awaitable, Callable
from typing import TypeAlias, final

__all__ = [
    "CallOptions",
    "Core",
    "LoopPort",
    "Outcome",
    "Simulator",
    "Verdict",
    "__version__",
    "classify_error",
    "simulate",
]

__version__: str

# provider, model, key, failure, status, started_unix, seconds, waited_seconds
_Attempt: TypeAlias = tuple[str, str, str, str | None, int | None, float, float, float]

@final
class Core:
    def __new__(
        cls,
        config: str | None,
        config_is_path: bool,
        keys: str | None,
        limits: str | None,
        base_urls: str | None,
        state: str | None,
    ) -> Core: ...
    def send(self, prompt: str, is_messages: bool, options: CallOptions) -> Outcome: ...
    def asend(
        self, prompt: str, is_messages: bool, options: CallOptions, port: LoopPort, future: Future[Outcome]
    ) -> int: ...
    def asend_anywhere(self, prompt: str, is_messages: bool, options: CallOptions) -> Awaitable[Outcome]: ...
    def status(self) -> str: ...
    def reset(self, provider: str | None, key: str | None) -> int: ...
    def close(self) -> None: ...

@final
class LoopPort:
    def __new__(cls) -> LoopPort: ...
    def fileno(self) -> int: ...
    def drain(self) -> None: ...
    def cancel(self, call: int) -> None: ...

@final
class CallOptions:
    def __new__(
        cls,
        task_name: str | None,
        provider: str | None,
        model: str | None,
        retry: bool,
        fallback: bool,
        max_retries: int | None,
        retry_delay: float | None,
        system: str | None,
        priority: int,
        timeout: float | None,
        deadline: float | None,
        user: str | None,
        skip_rate_limit: bool,
        params_json: str | None,
        on_retry: Callable[[_Attempt], object] | None,
        debug: bool,
    ) -> CallOptions: ...

@final
class Outcome:
    @property
    def text(self) -> str: ...
    @property
    def provider(self) -> str: ...
    @property
    def model(self) -> str: ...
    @property
    def key(self) -> str: ...
    @property
    def usage(self) -> tuple[int, int, int, int, int] | None: ...
    @property
    def latency(self) -> float: ...
    @property
    def finish_reason(self) -> str | None: ...
    @property
    def tool_calls(self) -> str | None: ...
    @property
    def raw(self) -> bytes: ...
    @property
    def attempts(self) -> list[_Attempt]: ...

@final
class Simulator:
    @property
    def address(self) -> str: ...
    def stats(self) -> str: ...
    def add_faults(self, json: str) -> None: ...
    def stop(self) -> None: ...

def simulate(settings_json_or_yaml: str, port: int) -> Simulator: ...

@final
class Verdict:
    def __new__(
        cls, failure: str, *, status: int | None = None, retry_after: float | None = None, message: str = ""
    ) -> Verdict: ...
    @property
    def failure(self) -> str: ...
    @property
    def scope(self) -> str: ...
    @property
    def retry_after(self) -> float | None: ...
    @property
    def until(self) -> float | None: ...
    @property
    def is_word(self) -> bool: ...
    @property
    def status(self) -> int | None: ...
    @property
    def message(self) -> str: ...
    @property
    def never_here(self) -> bool: ...
    @property
    def never_sent(self) -> bool: ...
    @property
    def limit(self) -> tuple[str, str, int | None, int | None] | None: ...
    @property
    def request_id(self) -> str | None: ...
    def __eq__(self, other: object, /) -> bool: ...
    def __ne__(self, other: object, /) -> bool: ...

def classify_error(
    provider: str | None,
    host: str | None,
    library: str | None,
    status: int | None,
    headers: list[tuple[str, str]],
    body: bytes | None,
    kind: str | None,
    text: str,
) -> Verdict | None: ...
