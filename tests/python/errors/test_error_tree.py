"""The tree of errors, their docstrings and the facts they carry."""

from __future__ import annotations

import copy
import inspect
import pickle
import re
from pathlib import Path
from typing import Any

import pytest

import quotaflow
from quotaflow import errors
from quotaflow.records import Attempt, Usage

ATTEMPT = ("openai", "gpt-4o-mini", "OPENAI_API_KEY", "rate_limited", 429, 1_700_000_000.0, 0.2, 0.0)

CLASSES = [
    cls
    for cls in vars(errors).values()
    if inspect.isclass(cls) and issubclass(cls, BaseException) and cls.__module__ == errors.__name__
]

# The words of `FailureClass` in src/kernel/failure.rs.
FAILURES = {
    "rate_limited": errors.RateLimitError,
    "token_limited": errors.TokenLimitError,
    "daily_quota": errors.DailyQuotaError,
    "credit_exhausted": errors.CreditExhaustedError,
    "overloaded": errors.OverloadedError,
    "server_error": errors.ServerError,
    "timeout": errors.CallTimeoutError,
    "network": errors.NetworkError,
    "auth": errors.AuthError,
    "permission": errors.PermissionDeniedError,
    "not_found": errors.NotFoundError,
    "invalid_request": errors.InvalidRequestError,
    "context_too_long": errors.ContextTooLongError,
    "content_filtered": errors.ContentFilteredError,
}

ALL_FACTS: dict[str, Any] = {
    "hint": "do this about it",
    "path": "limits.openai.rpm",
    "failure": "server_error",
    "status": 429,
    "retry_after": 12.5,
    "provider": "openai",
    "model": "gpt-4o-mini",
    "key": "OPENAI_API_KEY",
    "limit": "rpm",
    "used": 10,
    "amount": 10,
    "text": "Once upon a ti",
    "attempts": [ATTEMPT],
    "errors": ("is a list, not an object",),
    "finish_reason": "length",
    "usage": Usage(30, 12),
}


def facts_for(cls: type[errors.QuotaflowError]) -> dict[str, Any]:
    names = set(cls._facts) | ({"attempts"} if issubclass(cls, errors.CallError) else set())
    names |= {"text", "errors"} if issubclass(cls, errors.AnswerError) else set()
    facts = {name: value for name, value in ALL_FACTS.items() if name in names}
    return facts | ({"text": "[]"} if issubclass(cls, errors.AnswerError) else {})


def drawn_tree() -> dict[str, tuple[str, tuple[str, ...], str]]:
    """Name → (parent, bases from the standard library, words beside it), read off the drawing."""
    tree: dict[str, tuple[str, tuple[str, ...], str]] = {}
    above: dict[int, str] = {}
    assert errors.__doc__ is not None
    for line in errors.__doc__.splitlines():
        found = re.match(r"    ([│├└─ ]*)([A-Z]\w+)(?: \((\w+)\))?(.*)$", line)
        if found:
            depth = len(found[1]) // 4
            above[depth] = found[2]
            tree[found[2]] = (above.get(depth - 1, "Exception"), (found[3],) if found[3] else (), found[4].strip())
    return tree


def test_the_drawing_is_the_tree() -> None:
    real = {
        cls.__name__: (cls.__bases__[0].__name__, tuple(base.__name__ for base in cls.__bases__[1:]))
        for cls in CLASSES
    }
    assert {name: drawn[:2] for name, drawn in drawn_tree().items()} == real


def test_each_failure_word_has_its_class_and_each_class_its_word() -> None:
    drawn = drawn_tree()
    for word, cls in FAILURES.items():
        assert cls("x").failure == word
        assert drawn[cls.__name__][2] == word
    of_calls = {cls for cls in CLASSES if issubclass(cls, errors.CallError)}
    of_answers = {errors.AnswerError, errors.ParseError, errors.ValidationError}
    wordless = {
        errors.CallError,
        errors.DeadlineExceededError,
        errors.QueueFullError,
        errors.QueueCleared,
        errors.UserLimitError,
        errors.StreamInterrupted,
    } | of_answers
    assert of_calls - wordless == set(FAILURES.values())
    assert all(cls("x").failure is None for cls in wordless)


def test_rust_raises_only_classes_that_exist() -> None:
    source = (Path(__file__).parents[3] / "src" / "binding" / "exceptions.rs").read_text(encoding="utf-8")
    named = set(re.findall(r'=> "(\w+)"', source))
    assert named <= {cls.__name__ for cls in CLASSES}
    # The rest is raised in Python, or only a class of others.
    assert {cls.__name__ for cls in CLASSES} - named == {
        "AnswerError", "CallError", "CheckpointError", "ParseError", "TemplateError",
        "ValidationError",
    }  # fmt: skip
    assert {cls.__name__ for cls in FAILURES.values()} <= named


def test_all_are_exported() -> None:
    assert {cls.__name__ for cls in CLASSES} <= set(quotaflow.__all__)


@pytest.mark.parametrize("cls", CLASSES)
def test_the_docstring_says_what_to_do(cls: type[errors.QuotaflowError]) -> None:
    assert cls.__doc__ is not None
    assert cls.__doc__ != cls.__bases__[0].__doc__


@pytest.mark.parametrize("cls", CLASSES)
@pytest.mark.parametrize("again", [lambda error: pickle.loads(pickle.dumps(error)), copy.copy, copy.deepcopy])
def test_every_fact_survives_pickling_and_copying(cls: type[errors.QuotaflowError], again: Any) -> None:
    given = facts_for(cls)
    error = again(cls("Something is wrong", **given))
    assert type(error) is cls
    assert error.message == "Something is wrong"
    expected = given | ({"attempts": (Attempt(*ATTEMPT),)} if "attempts" in given else {})
    assert {name: getattr(error, name) for name in given} == expected


@pytest.mark.parametrize("cls", CLASSES)
def test_a_fact_that_was_not_given_is_none(cls: type[errors.QuotaflowError]) -> None:
    error = cls("Something is wrong")
    for name in cls._facts:
        assert getattr(error, name) is None
    if isinstance(error, errors.CallError):
        assert error.attempts == ()
    if isinstance(error, errors.AnswerError):
        assert (error.text, error.errors) == ("", ())


@pytest.mark.parametrize("cls", CLASSES)
def test_rust_may_name_every_fact_when_those_without_a_home_are_empty(cls: type[errors.QuotaflowError]) -> None:
    nothing: dict[str, Any] = dict.fromkeys(ALL_FACTS) | {"attempts": []}
    assert str(cls("Something is wrong", **nothing)) == "Something is wrong"


def test_a_fact_without_a_home_is_refused() -> None:
    with pytest.raises(TypeError, match="ClosedError has no status"):
        errors.ClosedError("closed", status=500)


def test_the_hint_is_said_and_can_be_left_out() -> None:
    error = errors.ConfigError("limits.openai.rpn is unknown", hint="did you mean rpm?")
    assert str(error) == "limits.openai.rpn is unknown — did you mean rpm?"
    assert error.message == "limits.openai.rpn is unknown"


def test_a_given_failure_overrules_the_word_of_the_class() -> None:
    assert errors.DeadlineExceededError("late", failure="rate_limited").failure == "rate_limited"
