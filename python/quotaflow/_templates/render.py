"""`render`: a prompt from a template and its parameters."""

from __future__ import annotations

from collections.abc import Mapping

from quotaflow._call.checks import wrong_type
from quotaflow._templates.names import check_names
from quotaflow.errors import InvalidArgumentError, TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal

_ENGINES = ("auto", "jinja2", "dollar")


def render(
    template: str, params: Mapping[str, Any], *, engine: Literal["auto", "jinja2", "dollar"] = "auto"
) -> str:
    """Return a prompt from a template and exactly the parameters it needs.

    With `dollar` a template has `$name` or `${name}`, and `$$` for a dollar sign; any other `$` stays. With
    `jinja2` it is a Jinja template in a sandbox without files, where what is undefined is an error and output is
    bounded; `pip install 'quotaflow[templates]'` brings it. `auto` takes what has `{{ … }}` or `{% … %}` for
    Jinja's and any other for one of dollars. What a value holds is never taken for a template itself; `None`
    becomes nothing.

    Args:
        template: the text with names in it.
        params: a value for each name. In Jinja a name may be missing whose absence the template provides for, with
            `default` or `is defined`.
        engine: `auto`, `jinja2` or `dollar`.

    Raises:
        TemplateError: a parameter is missing or unused, the template is wrong, or Jinja is needed and missing.
        InvalidArgumentError: an argument is of the wrong type.

    >>> render("Translate to $language: ${text}.", {"language": "French", "text": "$5"})
    'Translate to French: $5.'
    >>> render("Translate to $language.", {"langauge": "French"})
    Traceback (most recent call last):
    quotaflow.errors.TemplateError: the template needs $language, which is missing — did you mean it by langauge?
    """
    _check("template", template, str, "a string with names in it")
    _check("params", params, Mapping, "a dict with a value for each name")
    for name in params:
        if not isinstance(name, str):
            raise InvalidArgumentError(f"params has a name of type {type(name).__name__}", hint="names are text")
    if engine not in _ENGINES:
        raise InvalidArgumentError(f"engine is {engine!r}", hint=f"pass one of {', '.join(_ENGINES)}")
    if engine == "jinja2" or (engine == "auto" and _has_jinja_marks(template)):
        try:
            from quotaflow._templates.jinja import render_jinja
        except ModuleNotFoundError as error:
            if error.name not in {"jinja2", "markupsafe"}:
                raise
            raise TemplateError(
                "the template is one of Jinja, which is not installed",
                hint="pip install 'quotaflow[templates]', or engine='dollar' if {{ is meant as it is written",
            ) from None
        return render_jinja(template, params)
    return _render_dollars(template, params)


def prepare_prompt_with_context(template: str, data: Mapping[str, Any]) -> str:
    """Put `data` where `template` has `$name` or `${name}`; `render` also finds missing and unused names.

    What a value holds is never looked at again, so that data cannot pull in other data. `$$` is a dollar sign; a
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


def _render_dollars(template: str, params: Mapping[str, Any]) -> str:
    from string import Template

    names: set[str] = set()
    for found in Template.pattern.finditer(template):
        name = found["named"] or found["braced"]
        if name is not None:
            names.add(name)
        elif found["invalid"] is not None and template.startswith("{", found.end()):
            line = template.count("\n", 0, found.start()) + 1
            hint = "write ${name} with a name of letters, digits and _, or $${ for these characters"
            raise TemplateError(f"line {line} of the template has ${{ without a name", hint=hint)
    check_names(names, names, params, "$")
    return Template(template).safe_substitute({name: _text_of(name, params) for name in names})


def _text_of(name: str, params: Mapping[str, Any]) -> str:
    try:
        return _as_text(params[name])
    # Printing a value may run any code.
    except Exception as error:
        words = f"{type(error).__name__}: {error}"
        raise TemplateError(f"the value of ${name} cannot be written as text: {words}") from error


def _as_text(value: object) -> str:
    return "" if value is None else str(value)


def _has_jinja_marks(template: str) -> bool:
    """Whether something is opened and closed in Jinja's way, which JSON with its braces does not do."""
    return any(
        opens in template and closes in template[template.index(opens) + 2 :]
        for opens, closes in (("{{", "}}"), ("{%", "%}"))
    )


def _check(name: str, value: object, kind: type, expected: str) -> None:
    if not isinstance(value, kind):
        raise wrong_type(name, value, f"pass {expected}")


class _AsText(dict[str, str]):
    """Values as text, made when they are asked for: data may hold much that the template does not name."""

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__()
        self._data = data

    def __missing__(self, name: str) -> str:
        return _as_text(self._data[name])
