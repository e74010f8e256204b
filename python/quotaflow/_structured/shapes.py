"""The shapes of many calls, each understood once."""

from __future__ import annotations

import json

from quotaflow._call.options import takes_a_shape

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any

    from quotaflow._structured.repair import Wanted

_MOST_REMEMBERED = 256


class Shapes:
    """The shapes of many prompts, each understood once.

    >>> params, wanted = Shapes().handed_on({"temperature": 0, "response_format": {"type": "integer"}})
    >>> params["response_format"]["type"], wanted.shape
    ('answer_schema', ResponseFormat(answer, repair=True))
    >>> Shapes().handed_on({"temperature": 0})
    ({'temperature': 0}, None)
    """

    def __init__(self) -> None:
        self._known: dict[object, Wanted] = {}

    def handed_on(self, params: dict[str, Any]) -> tuple[dict[str, Any], Wanted | None]:
        """Return the parameters as they go out, and what an answer is held to; `None` for nothing.

        Raises:
            InvalidArgumentError: the `response_format` is no shape.
        """
        given = params.get("response_format")
        if not takes_a_shape(given):
            return params, None
        wanted = self._understood(given)
        return params | {"response_format": wanted.param}, wanted

    def kind(self, params: dict[str, Any]) -> str:
        """Return the kind of the objects that answers are held to; another kind makes another prompt."""
        _, wanted = self.handed_on(params)
        if wanted is None or not wanted.is_binding or wanted.shape is None:
            return ""
        shape = wanted.shape.shape
        return shape.__qualname__ if isinstance(shape, type) else type(shape).__name__

    def _understood(self, given: Any) -> Wanted:
        from quotaflow._structured.repair import Wanted

        try:
            name: object = json.dumps(given) if isinstance(given, dict) else given
            known = self._known.get(name)
        except (TypeError, ValueError, RecursionError):
            # Neither JSON nor a type: what is wrong with it is said best where it is looked at.
            return Wanted(given)
        if known is None:
            known = Wanted(given)
            if len(self._known) >= _MOST_REMEMBERED:
                self._known.clear()
            self._known[name] = known
        return known


def handed_on(params: dict[str, Any]) -> dict[str, Any]:
    """Return the parameters of a call whose answer is not read, with what goes out in place of a shape.

    Raises:
        InvalidArgumentError: the `response_format` is no shape.

    >>> handed_on({"response_format": {"type": "integer"}})["response_format"]["schema"]
    {'type': 'integer'}
    """
    return Shapes().handed_on(params)[0]
