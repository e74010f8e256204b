"""Jinja templates, rendered in a sandbox; imported only when one is met."""

from __future__ import annotations

from functools import lru_cache
from typing import TYPE_CHECKING, Any

from jinja2 import Template as JinjaTemplate
from jinja2 import TemplateError as JinjaError
from jinja2 import TemplateSyntaxError, meta, nodes

from quotaflow._templates.jinja_limits import MOST_CHARACTERS, Sandbox, Turns
from quotaflow._templates.names import check_names
from quotaflow.errors import TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping


def render_jinja(template: str, params: Mapping[str, Any]) -> str:
    """Return the text of a template; raise `TemplateError` for any fault of it or of its parameters."""
    compiled, needed, known = _compiled(template)
    check_names(set(needed), set(known), params)
    turns = Turns()
    pieces: list[str] = []
    length = 0
    try:
        for piece in compiled.generate({"range": turns.range, **params}):
            length += len(piece)
            if length > MOST_CHARACTERS:
                break
            pieces.append(piece)
    except RecursionError as error:
        raise TemplateError(f"{_place(error)}it calls itself without end") from error
    # Printing a value may run any code.
    except Exception as error:
        raise TemplateError(f"{_place(error)}{_words(error)}") from error
    if length > MOST_CHARACTERS:
        raise TemplateError(f"the template makes more than {MOST_CHARACTERS:,} characters")
    return "".join(pieces)


@lru_cache(maxsize=64)
def _compiled(template: str) -> tuple[JinjaTemplate, frozenset[str], frozenset[str]]:
    """Return the template, the names it needs, and all names it knows; kept, for a batch has one for all."""
    environment, without_globals = Sandbox(), Sandbox()
    without_globals.globals.clear()
    try:
        parsed = without_globals.parse(template)
        known = meta.find_undeclared_variables(parsed)
        values = set(_used_as_values(parsed))
        compiled = environment.from_string(template)
    except TemplateSyntaxError as error:
        raise TemplateError(f"line {error.lineno} of the template: {error.message}") from error
    except Exception as error:
        # It may be too deep, or too large.
        raise TemplateError(f"the template cannot be read: {_words(error)}") from error
    known -= set(environment.globals) - values
    return compiled, frozenset(known - set(_provided_for(parsed))), frozenset(known)


def _used_as_values(parsed: nodes.Template) -> Iterator[str]:
    """Return names that are more than called: what Jinja has of that name is a function, not a value."""
    called = {id(call.node) for call in parsed.find_all(nodes.Call)}
    for name in parsed.find_all(nodes.Name):
        if name.ctx == "load" and id(name) not in called:
            yield name.name


def _provided_for(parsed: nodes.Template) -> Iterator[str]:
    """Return names that the template can do without: it tests for them, or has a default in their place."""
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
    """Return the line of the template, which Jinja writes into the traceback."""
    line, trace = None, error.__traceback__
    while trace is not None:
        if trace.tb_frame.f_code.co_filename == "<template>":
            line = trace.tb_lineno
        trace = trace.tb_next
    return "the template: " if line is None else f"line {line} of the template: "
