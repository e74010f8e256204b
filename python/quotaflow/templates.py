"""How does a caller's data get into a prompt?"""

from __future__ import annotations

from collections.abc import Mapping

from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any


def prepare_prompt_with_context(template: str, data: Mapping[str, Any]) -> str:
    """Puts `data` where `template` has `$name` or `${name}`.

    What a value holds is never looked at again, so nobody's data can pull in other data. `$$` is a dollar sign; a
    name that `data` does not have stays as it is written, and so does any other `$`.

    Args:
        template: the prompt with names in it.
        data: values by name; `None` becomes nothing, everything else its `str()`.

    Raises:
        InvalidArgumentError: the template is no string, or the data no mapping.

    >>> prepare_prompt_with_context("Dear $name, ${news}! That is $$5 a $unit.", {"name": "Ada", "news": "$hi"})
    'Dear Ada, $hi! That is $5 a $unit.'
    """
    _check("template", template, str, "a string with $names in it")
    _check("data", data, Mapping, "a dict with a value for each name")
    # Loads regular expressions, which nothing else here needs.
    from string import Template

    return Template(template).safe_substitute(_AsText(data))


def _check(name: str, value: object, kind: type, expected: str) -> None:
    if not isinstance(value, kind):
        raise InvalidArgumentError(f"{name} is of type {type(value).__name__}", hint=f"pass {expected}")


class _AsText(dict[str, str]):
    """Values as text, made when they are asked for: data may hold much that the template does not name."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, name: str) -> str:
        value = self._data[name]
        return "" if value is None else str(value)
