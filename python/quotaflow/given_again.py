"""How are answers forgotten that would be given again?"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow._quotaflow import Core


class CacheFace:
    """The answers that an object with a `Core` keeps for calls with `cache=`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: Core

    def clear_cache(self) -> int:
        """Forgets every answer that was kept for calls with `cache=`, for all processes that share the state.

        Returns:
            How many there were.

        Raises:
            StateError: the state cannot be written.

        >>> llm.clear_cache()
        0
        """
        return self._core.clear_cache()
