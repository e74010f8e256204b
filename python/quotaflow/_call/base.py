"""The base of `LLMInterface` and `RateLimiter`: core, hooks, waiting lines, end."""

from __future__ import annotations

from quotaflow._call.caller import Caller
from quotaflow._call.options import config_json, config_source, make_options, state_address
from quotaflow._quotaflow import Core

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from os import PathLike
    from types import TracebackType
    from typing import Any, ClassVar, Self

    from quotaflow._call.config_manager import ConfigManager
    from quotaflow.events import EventName
    from quotaflow.records import QueuedCall


class Base:
    """An object with a `Core`: opened and closed, with event hooks and the waiting lines."""

    __slots__ = ("__weakref__", "_caller", "_core", "_state")

    # With its article.
    _NAME: ClassVar[str]

    def __init__(
        self,
        config: str | PathLike[str] | Mapping[str, Any] | ConfigManager | None,
        keys: Mapping[str, Any] | None,
        limits: Mapping[str, Any] | None,
        base_urls: Mapping[str, str] | None,
        state: str | PathLike[str] | None,
        *,
        errors_as_text: bool = False,
        others: bool = False,
    ) -> None:
        # Loaded now and not with the package: many programs import what they do not use.
        from quotaflow._call.logs import logger

        logs_at = logger().isEnabledFor
        managed = None
        if callable(getattr(config, "get_model_config", None)):
            from quotaflow._call.config_manager import ManagedConfig

            managed = ManagedConfig(config)
        source, is_path = config_source(config if managed is None else managed.config)
        self._state = state_address(managed.state if managed is not None and state is None else state)
        settings = (
            source,
            is_path,
            config_json("keys", keys),
            config_json("limits", limits),
            config_json("base_urls", base_urls),
            self._state,
        )
        self._core = Core(*settings, others=True) if others else Core(*settings)
        make = make_options if managed is None else managed.make_options
        self._caller = Caller(self._core, make, logs_at, errors_as_text)
        if managed is not None:
            managed.knows_keys_by(self._core.status)

    def on(self, event: EventName, hook: Callable[[Any], object]) -> Callable[[], None]:
        """Call `hook` with a record of each event of this object; see `quotaflow.events` for which there are.

        One thread of quotaflow calls all hooks. What a hook raises is logged and ignored; while one hangs, calls
        go on and up to 10,000 events wait.

        Returns:
            A function that removes the hook.

        >>> off = llm.on("blocked", lambda event: print(event.key, event.failure))
        >>> off()
        """
        if self._caller.hooks is None:
            from quotaflow._call.hooks import Hooks

            self._caller.hooks = Hooks(self._core)
        return self._caller.hooks.on(event, hook)

    def queue(self) -> list[QueuedCall]:
        """Return every call that waits in this process, line by line, in the order in which they will be served.

        Behind them stand those that pause after a failure, by the end of their pause. Every tenth turn, which
        belongs to the one who waited longest, is left out of account.

        >>> llm.queue()
        []
        """
        import json

        from quotaflow.records import QueuedCall

        return [QueuedCall(**call) for call in json.loads(self._core.queue())]

    def clear_queue(self, provider: str | None = None, below_priority: int | None = None) -> int:
        """End calls of this process that wait or pause, not what was sent; each raises `QueueCleared`.

        Args:
            provider: only those that wait for this provider; `None` for all.
            below_priority: only those of a lower priority than this, 0 to 10; `None` for all.

        Returns:
            How many were ended.

        Raises:
            InvalidArgumentError: there is no such provider, or no such priority.

        >>> llm.clear_queue(below_priority=5)
        0
        """
        from quotaflow._call.checks import optional_name, optional_whole

        below = optional_whole("below_priority", below_priority, 10)
        return self._core.clear_queue(optional_name("provider", provider), below)

    def close(self) -> None:
        """Close it: calls that wait and streams raise `ClosedError`, and so does every later call.

        Prompts that were sent come to their end. Closing twice is fine.

        >>> llm.close()
        """
        self._core.close()
        if self._caller.hooks is not None:
            self._caller.hooks.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<{self._NAME.rpartition(' ')[2]} state={self._state or 'default'!r}>"

    def __reduce__(self) -> str | tuple[Any, ...]:
        raise TypeError(
            f"{self._NAME} holds keys and is not pickled: make one in each process, they share their state"
        )
