"""What does a Jinja template say? (needs Jinja; nothing imports this before a template of Jinja is met)"""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import StrictUndefined, TemplateSyntaxError, meta, nodes
from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateError as JinjaError
from jinja2.exceptions import SecurityError
from jinja2.sandbox import ImmutableSandboxedEnvironment

from quotaflow.errors import TemplateError
from quotaflow.templates import check_names

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

_MOST_CHARACTERS = 10_000_000
_MOST_TURNS = 1_000_000
_LARGEST_POWER = 1_000


def render_jinja(template: str, params: Mapping[str, Any]) -> str:
    """The text of a template; raises `TemplateError` for whatever is wrong with it or with its parameters."""
    compiled, needed, known = _compiled(template)
    check_names(set(needed), set(known), params)
    turns = _Turns()
    pieces: list[str] = []
    length = 0
    try:
        for piece in compiled.generate({"range": turns.range, **params}):
            length += len(piece)
            if length > _MOST_CHARACTERS:
                break
            pieces.append(piece)
    except RecursionError as error:
        raise TemplateError(f"{_place(error)}it calls itself without end") from error
    # What a value does when it is printed is anybody's code.
    except Exception as error:
        raise TemplateError(f"{_place(error)}{_words(error)}") from error
    if length > _MOST_CHARACTERS:
        raise TemplateError(f"the template makes more than {_MOST_CHARACTERS:,} characters")
    return "".join(pieces)


class _Sandbox(ImmutableSandboxedEnvironment):
    """A sandbox that reckons with small numbers only."""

    intercepted_binops = frozenset({"*", "**"})

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "**" and isinstance(right, int | float) and abs(right) > _LARGEST_POWER:
            raise SecurityError(f"a power of more than {_LARGEST_POWER}")
        if operator == "*":
            for many, times in ((left, right), (right, left)):
                too_many = isinstance(many, str | bytes | list | tuple) and isinstance(times, int)
                if too_many and len(many) * times > _MOST_CHARACTERS:
                    raise SecurityError(f"a product of more than {_MOST_CHARACTERS:,} parts")
        return super().call_binop(context, operator, left, right)


class _Turns:
    """How many turns the loops of one text have taken over `range`."""

    def __init__(self) -> None:
        self._left = _MOST_TURNS

    def range(self, *bounds: int) -> range:
        """`range`, until it has been enough."""
        turns = range(*bounds)
        self._left -= len(turns)
        if self._left < 0:
            raise SecurityError(f"its loops take more than {_MOST_TURNS:,} turns")
        return turns


def _printed(value: object) -> object:
    return "" if value is None else value


def _environment() -> _Sandbox:
    made = _Sandbox(
        undefined=StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_printed, cache_size=0
    )
    # It makes up as much text as one likes.
    del made.globals["lipsum"]
    return made


@lru_cache(maxsize=64)
def _compiled(template: str) -> tuple[JinjaTemplate, frozenset[str], frozenset[str]]:
    """The template, the names it cannot do without, and all names it knows; kept, for a batch has one for all."""
    environment = _environment()
    try:
        parsed = environment.parse(template)
        known = meta.find_undeclared_variables(parsed)
        compiled = environment.from_string(parsed)
    except TemplateSyntaxError as error:
        raise TemplateError(f"line {error.lineno} of the template: {error.message}") from error
    except (JinjaError, RecursionError) as error:
        raise TemplateError(f"the template cannot be read: {_words(error)}") from error
    needed = known - set(environment.globals) - set(_provided_for(parsed))
    return compiled, frozenset(needed), frozenset(known - set(environment.globals))


def _provided_for(parsed: nodes.Template) -> Iterator[str]:
    """Names that the template can do without: it asks whether they are there, or has something in their place."""
    for test in parsed.find_all(nodes.Test):
        if test.name in {"defined", "undefined"} and isinstance(test.node, nodes.Name):
            yield test.node.name
    for kind in parsed.find_all(nodes.Filter):
        if kind.name in {"default", "d"} and isinstance(kind.node, nodes.Name):
            yield kind.node.name


def _words(error: Exception) -> str:
    words = str(error) or type(error).__name__
    return words if isinstance(error, JinjaError) else f"{type(error).__name__}: {words}"


def _place(error: BaseException) -> str:
    """The line of the template, which Jinja writes into the traceback."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return "the template: " if line is None else f"line {line} of the template: "
