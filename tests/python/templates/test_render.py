"""`render`: templates filled, and errors that name what is missing."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, LLMInterface, TemplateError, render

if TYPE_CHECKING:
    from collections.abc import Mapping

FILLED: list[tuple[str, dict[str, Any], str]] = [
    ("Dear $name,", {"name": "Ada"}, "Dear Ada,"),
    ("${a}s cost $$5 or $5, $a.", {"a": 1}, "1s cost $5 or $5, 1."),
    ("$a [$b]", {"a": "$b {{ b }}", "b": None}, "$b {{ b }} []"),
    ("nothing", {}, "nothing"),
    ('{"a": {"b": "$c"}}', {"c": "x"}, '{"a": {"b": "x"}}'),
    ("Dear {{ name }},\n", {"name": "Ada"}, "Dear Ada,\n"),
    ("{% for x in xs %}{{ loop.index }}{{ x.n }} {% endfor %}$y", {"xs": [{"n": "<a>"}]}, "1<a> $y"),
    ("{{ a }}[{{ b }}]", {"a": "{{ b }} $b", "b": None}, "{{ b }} $b[]"),
    ("{{ a | default('none') }}{% if b is defined %}{{ b }}{% endif %}", {}, "none"),
    ("{{ a | default('none') }}{% if b is defined %}{{ b }}{% endif %}", {"a": 1, "b": 2}, "12"),
    ("{% set x = 2 %}{{ x * y }}{% for i in range(2) %}{{ i }}{% endfor %}", {"y": 3}, "601"),
    ("{% macro m(p) %}<{{ p }}>{% endmacro %}{{ m(q) }}", {"q": 1}, "<1>"),
]


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


# Doubles something forty times; to be completed.
GROWS = "{% set n = namespace(x='abc') %}{% for i in range(40) %}"


@pytest.mark.parametrize(("template", "params", "text"), FILLED)
def test_names_are_filled(template: str, params: Mapping[str, Any], text: str) -> None:
    assert render(template, params) == text
    assert LLMInterface({}, state="memory").render(template, params) == text
    assert type(render(template, params)) is str


def test_the_engine_can_be_chosen() -> None:
    assert render("{{ $a }}", {"a": 1}, engine="dollar") == "{{ 1 }}"
    assert render("$a", {}, engine="jinja2") == "$a"
    with pytest.raises(InvalidArgumentError, match="engine is 'mako'"):
        render("$a", {"a": 1}, engine="mako")  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("template", "params", "says"),
    [
        ("Translate to $language", {}, "needs $language, which is missing — pass params={'language'"),
        ("$a $b $c", {"b": 1}, "needs $a, $c, which are missing"),
        (
            "Translate to $language",
            {"langauge": "x"},
            "needs $language, which is missing — did you mean it by langauge?",
        ),
        (
            "Translate to $language",
            {"language": 1, "langage": 2},
            "does not use langage — did you mean $language?",
        ),
        ("Hi", {"name": 1}, "does not use name — its names are none"),
        ("a\nb ${not a name}", {}, "line 2 of the template has ${ without a name"),
        ("a ${", {}, "line 1 of the template has ${ without a name"),
        ("{{ language }}", {}, "needs language, which is missing"),
        ("{{ language }}", {"langauge": "x"}, "did you mean it by langauge?"),
        ("{{ language }}", {"language": 1, "other": 2}, "does not use other — its names are language"),
        ("{{ name }", {"name": 1}, "does not use name"),
        ("a\n{% if x %}{{ x }}", {"x": 1}, "line 2 of the template: Unexpected end of template"),
        ("{{ }}", {}, "line 1 of the template: Expected an expression"),
        ("\n{{ x.nmae }}", {"x": {"name": 1}}, "line 2 of the template: 'dict object' has no attribute 'nmae'"),
        ("{{ x | nofilter }}", {"x": 1}, "line 1 of the template: No filter named 'nofilter'"),
        ("{{ 1 / x }}", {"x": 0}, "line 1 of the template: ZeroDivisionError"),
        ("{% include 'x' %}{{ x }}", {"x": 0}, "no loader"),
        ("{{ x.__class__.__mro__ }}", {"x": 0}, "access to attribute '__class__'"),
        ("{{ xs.append(1) }}", {"xs": []}, "access to attribute 'append'"),
        ("{{ lipsum() }}", {}, "needs lipsum"),
        ("{{ range }}", {}, "needs range, which is missing"),
        ("{{ dict }} {{ cycler }} {{ joiner }} {{ namespace }}", {}, "needs cycler, dict, joiner, namespace"),
        ("{% for i in range %}{{ i }}{% endfor %}", {}, "needs range"),
        ("{{ range(3) | list }}", {"range": 5}, "does not use range"),
        ("$a", {"a": Unprintable()}, "the value of $a cannot be written as text: RuntimeError: no words"),
        ("{{ a }}", {"a": Unprintable()}, "line 1 of the template: RuntimeError: no words"),
    ],
)
def test_what_is_wrong_is_named(template: str, params: Mapping[str, Any], says: str) -> None:
    with pytest.raises(TemplateError) as caught:
        render(template, params)
    assert says in str(caught.value)


@pytest.mark.parametrize(
    ("template", "params", "says"),
    [
        ("{% for i in range(99999) %}{% for j in range(99999) %}{% endfor %}{% endfor %}", {}, "1,000,000 turns"),
        ("{% for i in range(10 ** 12) %}{% endfor %}", {}, "turns"),
        ("{% for i in range(1000) %}{{ x }}{% endfor %}", {"x": "x" * 100_000}, "10,000,000 characters"),
        ("{{ 'x' * 10 ** 9 }}", {}, "a product"),
        ("{{ 10 ** 99999 }}", {}, "a power"),
        ("{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", {}, "without end"),
        ("{{ 10 ** 999 ** 999 }}", {}, "a number that is too large|a power"),
        ("{{ '%999999999d' % 1 }}", {}, "10,000,000 characters"),
        ("{{ '%*d' % (999999999, 1) }}", {}, "10,000,000 characters"),
        ("{{ '%999999999d' | format(1) }}", {}, "10,000,000 characters"),
        ("{{ '{:999999999d}'.format(1) }}", {}, "10,000,000 characters"),
        ("{{ '{:{}d}'.format(1, 999999999) }}", {}, "10,000,000 characters"),
        ("{{ 'a'.ljust(999999999) }}", {}, "10,000,000 characters"),
        ("{{ 'a'.center(x) }}", {"x": 10**9}, "10,000,000 characters"),
        ("{{ '\t'.expandtabs(9999999) * 2 }}", {}, "a product"),
        ("{{ 'a' | center(999999999) }}", {}, "a width"),
        ("{{ 'a\nb' | indent(9999999) }}", {}, "10,000,000 characters"),
        ("{{ ('x' * 1000000) | replace('x', y) }}", {"y": "y" * 100}, "10,000,000 characters"),
        ("{{ y.join('x' * 1000000) }}", {"y": "y" * 100}, "10,000,000 characters"),
        ("{{ ([y] * 100000) | join }}", {"y": "y" * 1_000}, "a product"),
        ("{{ [1] | slice(999999999) | list }}", {}, "a width"),
        ("{{ 1.5 | round(999999999, 'floor') }}", {}, "a precision"),
        (f"{GROWS}{{% set n.x = n.x + n.x %}}{{% endfor %}}", {}, "10,000,000 characters"),
        (f"{GROWS}{{% set n.x = n.x ~ n.x %}}{{% endfor %}}", {}, "10,000,000 characters"),
        (f"{GROWS}{{% set n.x %}}{{{{ n.x }}}}{{{{ n.x }}}}{{% endset %}}{{% endfor %}}", {}, "10,000,000 char"),
        (
            "{% macro d(s) %}{{ s }}{{ s }}{% endmacro %}" + GROWS + "{% set n.x = d(n.x) %}{% endfor %}",
            {},
            "10,000,000 characters",
        ),
    ],
)
def test_a_template_that_would_not_end_is_ended(template: str, params: Mapping[str, Any], says: str) -> None:
    with pytest.raises(TemplateError, match=says):
        render(template, params)


@pytest.mark.parametrize(
    ("template", "params", "wrong"),
    [
        (None, {}, "template is of type NoneType"),
        (b"$a", {}, "template is of type bytes"),
        ("$a", None, "params is of type NoneType"),
        ("$a", [("a", 1)], "params is of type list"),
        ("$a", {1: 2}, "params has a name of type int"),
    ],
)
def test_anything_else_is_refused(template: Any, params: Any, wrong: str) -> None:
    with pytest.raises(InvalidArgumentError, match=wrong) as caught:
        render(template, params)
    assert caught.value.hint


def test_names_that_jinja_has_itself_are_names_like_others() -> None:
    assert render("{{ range }} and {{ dict }}", {"range": 5, "dict": "a book"}) == "5 and a book"
    assert render("{% for i in range(3) %}{{ i }}{% endfor %}{{ dict(a=1).a }}", {}) == "0121"
    assert render("{% set range = 2 %}{{ range }}", {}) == "2"


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{{ 7 % 3 }} {{ '%s-%05.1f' % ('a', 1.5) }} {{ 1 + 2 }} {{ [1] + [2] }}", "1 a-001.5 3 [1, 2]"),
        ("{{ 'a' * 3 ~ 5 ~ x }} {{ 10 ** 3 }}", "aaa5None 1000"),
        (
            "{{ '{} {:>5} {a}'.format(20000000, 3, a=1) }} {{ '%d%%' | format(50000000) }}",
            "20000000     3 1 50000000%",
        ),
        ("{{ 'b,a'.split(',') | sort | join('-') }} {{ 'a'.replace('a', 'b') }}", "a-b b"),
        (
            "{{ 'a b' | replace('a', 'c') }} {{ 'a' | center(3) }}. {{ '\n'.join(['a', 'b']) | indent(2) }}",
            "c b  a . a\n  b",
        ),
        (
            "{{ [1, 2, 3] | batch(2) | list }} {{ 1.55 | round(1, 'floor') }} {{ {'a': 1} | tojson }}",
            '[[1, 2], [3]] 1.5 {"a": 1}',
        ),
        ("{{ xs | map('upper') | join(', ') }} {{ xs | join(attribute='real') if false else '' }}", "A, B "),
    ],
)
def test_what_is_small_is_made_as_jinja_makes_it(template: str, text: str) -> None:
    params: dict[str, Any] = {
        name: value for name, value in {"x": None, "xs": ["a", "b"]}.items() if f" {name} " in template
    }
    assert render(template, params) == text


def test_without_jinja_dollars_work_and_its_templates_say_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "jinja2", None)
    monkeypatch.delitem(sys.modules, "quotaflow._templates.jinja", raising=False)
    assert render("$a", {"a": 1}) == "1"
    for template, engine in (("{{ a }}", "auto"), ("{% if a %}{% endif %}", "auto"), ("a", "jinja2")):
        with pytest.raises(TemplateError, match=r"pip install 'quotaflow\[templates\]'"):
            render(template, {"a": 1}, engine=engine)  # type: ignore[arg-type]
