"""A simulator of the providers on loopback, for tests.

`simulator()` starts a stand-in for the providers on loopback. It enforces its own limits, answers with the
headers and error bodies of the provider each key plays, and fails as it is configured to.
"""

from __future__ import annotations

import json
from contextlib import contextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from quotaflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping
    from types import TracebackType
    from typing import Self

    from quotaflow._quotaflow import Simulator

# Which part of the address a provider's official SDK takes as its base URL.
_BASE_PATHS = {"openai": "/v1", "groq": "/v1", "openrouter": "/v1", "ollama": "/v1", "anthropic": "", "gemini": ""}

DEFAULT_KEYS: tuple[Mapping[str, Any], ...] = (
    {"key": "sk-test-1", "label": "OPENAI_API_KEY", "provider": "openai"},
    {"key": "sk-ant-test-1", "label": "ANTHROPIC_API_KEY", "provider": "anthropic"},
    {"key": "gemini-test-1", "label": "GEMINI_API_KEY", "provider": "gemini"},
)


class SimulatedProviders:
    """A running stand-in; `simulator()` makes it."""

    def __init__(self, running: Simulator, keys: Iterable[Mapping[str, Any]]) -> None:
        self._running = running
        self._keys = [dict(key) for key in keys]

    @property
    def url(self) -> str:
        """Where it listens, for instance `http://127.0.0.1:40123`."""
        return f"http://{self._running.address}"

    @property
    def base_urls(self) -> dict[str, str]:
        """What `LLMInterface(base_urls=…)` takes: the address, for every provider a key plays."""
        return {provider: self.url + _BASE_PATHS.get(provider, "/v1") for provider in self.keys}

    @property
    def keys(self) -> dict[str, list[dict[str, str]]]:
        """What `LLMInterface(keys=…)` takes: all keys by provider, with their labels."""
        by_provider: dict[str, list[dict[str, str]]] = {}
        for key in self._keys:
            entry = {name: key[name] for name in key if name in {"key", "label"}}
            by_provider.setdefault(key["provider"], []).append(entry)
        return by_provider

    def stats(self) -> dict[str, Any]:
        """Return what it has seen so far: requests, refusals by kind, the largest number in flight, by key."""
        seen: dict[str, Any] = json.loads(self._running.stats())
        return seen

    def add_faults(self, *faults: Mapping[str, Any]) -> None:
        """Add faults: `{"when": {"key": "OPENAI_API_KEY", "first": 2}, "do": {"status": 503}}`.

        Raises:
            ConfigError: a fault is invalid.
        """
        self._running.add_faults(_as_json("faults", list(faults)))

    def stop(self) -> None:
        """Stop it; connections in use are cut. Stopping twice is fine."""
        self._running.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()


@contextmanager
def simulator(
    settings: Mapping[str, Any] | None = None,
    *,
    keys: Iterable[Mapping[str, Any]] | None = None,
    latency: float | timedelta | Mapping[str, float] | None = None,
    stream: Mapping[str, float] | None = None,
    faults: Iterable[Mapping[str, Any]] | None = None,
    seed: int | None = None,
    port: int = 0,
) -> Iterator[SimulatedProviders]:
    """Return a stand-in for the providers, for the length of a `with`.

    Args:
        settings: everything at once, in the shape of the settings file; the other arguments overrule it.
        keys: the keys it knows: `{"key", "label", "provider", "organization", "limits": {"rpm", "burst", "tpm",
            "rpd", …}}`; keys of one organisation share their limits. Default: one each that plays OpenAI,
            Anthropic and Gemini, without limits.
        latency: how long each answer takes, in seconds, as a timedelta, or `{"min": …, "max": …}`; default 0.
        stream: how streams come: `{"pieces": 4, "pause": 0.02}` is the number of events with text and the seconds
            before each; default 4 and 0. A text with fewer characters goes on until it fills them.
        faults: what goes wrong, and when: `{"when": {"provider", "key", "model", "stream", "between", "nth",
            "every", "first", "rate"}, "do": {"status": 529}}`; the first that fits is taken.
            `"do": {"after": 2, "then": "reset"}` breaks streams after so many pieces; also `"end"`, `"error"`,
            `{"error": 429}` and `{"stall": 30}`.
        seed: where its chance starts; default 0.
        port: where it listens on 127.0.0.1; 0 for any free port.

    Raises:
        ConfigError: the settings are invalid; it names the field.

    >>> with simulator(keys=[{"key": "sk-test-1", "label": "one", "provider": "openai"}]) as world:
    ...     sorted(world.base_urls), world.keys["openai"][0]["label"]
    (['openai'], 'one')
    """
    from quotaflow._quotaflow import simulate

    chosen = dict(settings or {})
    if keys is not None:
        chosen["keys"] = list(keys)
    chosen["keys"] = _labelled(chosen.get("keys", DEFAULT_KEYS))
    if latency is not None:
        chosen["latency"] = latency.total_seconds() if isinstance(latency, timedelta) else latency
    if stream is not None:
        chosen["stream"] = dict(stream)
    if faults is not None:
        chosen["faults"] = list(faults)
    if seed is not None:
        chosen["seed"] = seed
    with SimulatedProviders(simulate(_as_json("settings", chosen), port), chosen["keys"]) as running:
        yield running


def _labelled(keys: Iterable[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return the keys with a label each, so that both sides call them the same."""
    return [{"label": f"key-{number}", **key} for number, key in enumerate(keys, start=1)]


def _as_json(name: str, value: object) -> str:
    try:
        return json.dumps(value, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise ConfigError(f"the simulator's {name} cannot be written as JSON: {error}", path=name) from None
