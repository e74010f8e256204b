"""Limits of what a Jinja template may make: characters, turns, numbers.

What is asked for is weighed before it is made: what is printed, joined, padded, repeated and multiplied. Nothing
is worked out while a template is read.
"""

from __future__ import annotations

import re
from functools import wraps
from itertools import islice
from types import BuiltinMethodType
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, nodes, pass_context
from jinja2.compiler import CodeGenerator
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

MOST_CHARACTERS = 10_000_000
_MOST_TURNS = 1_000_000
_LARGEST_POWER = 1_000
_MOST_BITS = 1_000_000
_DEEPEST = 4


class Turns:
    """How many turns the loops of one text have taken over `range`."""

    def __init__(self) -> None:
        self._left = _MOST_TURNS

    def range(self, *bounds: int) -> range:
        """Yield as `range` does, until the turns are used up."""
        turns = range(*bounds)
        self._left -= len(turns)
        if self._left < 0:
            raise SecurityError(f"its loops take more than {_MOST_TURNS:,} turns")
        return turns


class _Writer(CodeGenerator):
    """Jinja's own but for `~`, which it would join itself."""

    def visit_Concat(self, node: nodes.Concat, frame: Any) -> None:  # noqa: N802 - Jinja's name
        self.write("environment.together((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class Sandbox(ImmutableSandboxedEnvironment):
    """A sandbox that makes small things only; raises `SecurityError` before it makes a large one."""

    code_generator_class = _Writer
    intercepted_binops = frozenset({"*", "**", "%", "+"})

    def __init__(self) -> None:
        super().__init__(
            undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_printed,
            cache_size=0, optimized=False,
        )  # fmt: skip
        # It makes up as much text as one likes.
        del self.globals["lipsum"]
        for name, weigh in _FILTERS.items():
            self.filters[name] = _weighed(self.filters[name], weigh)

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        """Compute, after a check of how much it would come to."""
        if operator == "**" and isinstance(right, int | float):
            if abs(right) > _LARGEST_POWER:
                raise SecurityError(f"a power of more than {_LARGEST_POWER}")
            if isinstance(left, int):
                _few_bits(left.bit_length() * abs(right))
        elif operator == "*" and isinstance(left, int) and isinstance(right, int):
            _few_bits(left.bit_length() + right.bit_length())
        elif operator == "*":
            for many, times in ((left, right), (right, left)):
                if isinstance(many, str | bytes | list | tuple) and isinstance(times, int):
                    _bounded(_weight(many) * times, "a product of more than {} parts")
        elif operator == "%" and isinstance(left, str | bytes):
            _bounded(_widths(left, right))
        elif operator == "+" and isinstance(left, str | bytes | list | tuple):
            _bounded(_weight(left) + _weight(right))
        return super().call_binop(context, operator, left, right)

    def call(self, context: Any, function: Any, /, *args: Any, **kwargs: Any) -> Any:
        """Call something, after a check of how much a method of a text or a number would make."""
        # `format` was wrapped by Jinja when it was looked up.
        method = getattr(function, "__wrapped__", function)
        subject = getattr(method, "__self__", None)
        name = getattr(method, "__name__", "")
        if isinstance(subject, str) and name in {"format", "format_map"}:
            _bounded(_format_widths(subject, (*args, *kwargs.values())))
        elif isinstance(method, BuiltinMethodType) and isinstance(subject, str | bytes | int | float):
            _bounded(sum(arg for arg in (*args, *kwargs.values()) if isinstance(arg, int)))
            weigh = _METHODS.get(name)
            if weigh is not None and isinstance(subject, str | bytes):
                args = weigh(subject, *args, **kwargs) or args
        return super().call(context, function, *args, **kwargs)

    def together(self, parts: Iterable[Any]) -> str:
        """Return what `~` makes."""
        parts = list(parts)
        _bounded(_weight(parts))
        return "".join(map(str, parts))

    @staticmethod
    def concat(pieces: Iterable[str]) -> str:
        """Return what a macro, a block or a `set` has written."""
        pieces = list(pieces)
        _bounded(sum(map(len, pieces)))
        return "".join(pieces)


@pass_context
def _printed(_context: Any, value: object) -> object:
    """Return what is printed; it takes the context so that nothing is printed before there is one."""
    _bounded(_weight(value))
    return "" if value is None else value


def _bounded(size: float, words: str = "it makes more than {} characters") -> None:
    if size > MOST_CHARACTERS:
        raise SecurityError(words.format(f"{MOST_CHARACTERS:,}"))


def _few_bits(bits: float) -> None:
    if bits > _MOST_BITS:
        raise SecurityError("a number that is too large")


def _weight(value: object, depth: int = 0) -> int:
    """Return about how many characters it is as text, never much less."""
    if isinstance(value, str | bytes):
        return len(value)
    if isinstance(value, list | tuple | set | frozenset | dict) and depth < _DEEPEST:
        parts = [*value, *value.values()] if isinstance(value, dict) else value
        return sum(1 + _weight(part, depth + 1) for part in parts)
    return 1


def _widths(template: str | bytes, values: object) -> int:
    """Return the widths in a template of `%`."""
    text = template.decode("latin-1") if isinstance(template, bytes) else template
    # Longer than this they are too large in any case.
    size = sum(int(digits[:12]) for digits in re.findall(r"\d+", text))
    if "*" in text:
        listed = values if isinstance(values, tuple) else (values,)
        size += sum(abs(value) for value in listed if isinstance(value, int))
    return size + _weight(values)


def _format_widths(template: str, values: tuple[object, ...]) -> int:
    """Return the widths in a template of `format`."""
    size = sum(int(digits[:12]) for digits in re.findall(r":[^{}]*?(\d+)", template))
    if re.search(r":[^{}]*\{", template):
        size += sum(abs(value) for value in values if isinstance(value, int))
    return size + template.count("{") * max((_weight(value) for value in values), default=0)


def _of_replace(text: Any, old: Any = "", new: Any = "", *_: Any, **others: Any) -> None:
    old, new = others.get("old", old), others.get("new", new)
    text, old, new = (part if isinstance(part, str | bytes) else str(part) for part in (text, old, new))
    _bounded(len(text) + text.count(old) * len(new))


def _of_join(between: Any, parts: Any = (), *_: Any, **__: Any) -> tuple[list[Any]]:
    """Read the parts, which may be made one after the other, and hand them on."""
    read = list(islice(parts, MOST_CHARACTERS))
    _bounded(_weight(read) + len(read) * _weight(between))
    return (read,)


def _of_tabs(text: Any, size: Any = 8, **others: Any) -> None:
    size = others.get("tabsize", size)
    if isinstance(size, int):
        _bounded(len(text) + text.count("\t" if isinstance(text, str) else b"\t") * size)


def _joined(parts: Any, d: Any = "", *_: Any, **__: Any) -> tuple[list[Any]]:
    return _of_join(d, parts)


def _indented(text: Any, width: Any = 4, *_: Any, **__: Any) -> None:
    size = width if isinstance(width, int) else _weight(width)
    _bounded(_weight(text) + (str(text).count("\n") + 1) * size)


def _wrapped(text: Any, *others: Any, **named: Any) -> None:
    wrapped = others[2] if len(others) > 2 else named.get("wrapstring")
    _bounded(_weight(text) * max(1, _weight(wrapped)))


def _formatted(template: Any, *values: Any, **named: Any) -> None:
    _bounded(_widths(str(template), (*values, *named.values())))


def _rounded(_: Any, precision: Any = 0, *__: Any, **___: Any) -> None:
    if isinstance(precision, int) and abs(precision) > _LARGEST_POWER:
        raise SecurityError(f"a precision of more than {_LARGEST_POWER}")


def _of_few(_: Any, *others: Any, **named: Any) -> None:
    """Refuse numbers larger than loops may be long, for what pads or splits."""
    if any(isinstance(number, int) and number > _MOST_TURNS for number in (*others, *named.values())):
        raise SecurityError(f"a width of more than {_MOST_TURNS:,}")


# What looks at the arguments first; what it returns takes the place of the first of them.
_METHODS: dict[str, Callable[..., tuple[list[Any]] | None]] = {
    "replace": _of_replace, "join": _of_join, "expandtabs": _of_tabs,
}  # fmt: skip
_FILTERS: dict[str, Callable[..., tuple[list[Any]] | None]] = {
    "batch": _of_few, "center": _of_few, "format": _formatted, "indent": _indented, "join": _joined,
    "replace": _of_replace, "round": _rounded, "slice": _of_few, "tojson": _of_few, "wordwrap": _wrapped,
}  # fmt: skip


def _weighed(made: Callable[..., Any], weigh: Callable[..., tuple[list[Any]] | None]) -> Callable[..., Any]:
    """Return a filter that checks its arguments first, but not those that Jinja itself adds in front."""
    added = 1 if hasattr(made, "jinja_pass_arg") else 0

    @wraps(made)
    def filtered(*args: Any, **kwargs: Any) -> Any:
        subject, *others = args[added:]
        (subject,) = weigh(subject, *others, **kwargs) or (subject,)
        return made(*args[:added], subject, *others, **kwargs)

    return filtered
