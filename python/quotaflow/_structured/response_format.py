"""`ResponseFormat`: a shape for an answer, and the check of an answer."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import is_dataclass
from math import isfinite
from typing import Any, is_typeddict

from quotaflow._call.checks import wrong_type
from quotaflow._quotaflow import AnswerSchema
from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable

_EXPECTED = (
    "pass a pydantic model, a dataclass, a TypedDict, or a JSON schema such as {'type': 'object', 'properties': …}"
)
# OpenAI's words for the parameter itself.
_AS_WRITTEN = ("json_schema", "json_object", "text")
_MOST_FAULTS = 20
_LONGEST_FAULT = 500
# A number that may be too large for what reads it is looked at first.
_MAY_BE_TOO_LARGE = re.compile(r"\d[eE]\+?\d{3}|\d{309}")
_LONGEST_NAME = 64


class ResponseFormat:
    """A shape for `response_format=`, and what to do when an answer does not have it.

    Args:
        shape: a pydantic model or `TypeAdapter`; a dataclass, a TypedDict, or another type made of these and of
            plain ones; a JSON schema as a dict, or OpenAI's `{"type": "json_schema", …}`.
        repair: whether a wrong answer is shown to the model, once, with what is wrong with it. It is a second
            call that is counted and paid like any.
        name: what the shape is called towards the provider; `None` for the name of the type.

    Raises:
        InvalidArgumentError: it is no shape, or one that cannot be said in JSON.

    >>> from dataclasses import dataclass
    >>> @dataclass
    ... class City:
    ...     name: str
    ...     people: int
    >>> ResponseFormat(City, repair=False)
    ResponseFormat(City, repair=False)
    """

    __slots__ = ("_read", "name", "repair", "schema", "shape")

    shape: Any
    """What was asked for."""
    schema: dict[str, Any]
    """The JSON schema that says it."""
    name: str
    """Its name towards the provider."""
    repair: bool
    """Whether a wrong answer is sent back once."""

    def __init__(self, shape: Any, *, repair: bool = True, name: str | None = None) -> None:
        if type(repair) is not bool:
            raise wrong_type("repair", repair, "pass True or False")
        given: object = name
        if given is not None and not (isinstance(given, str) and given.strip()):
            raise InvalidArgumentError("name is no text, or empty", hint="pass None for the name of the type")
        if isinstance(shape, ResponseFormat):
            shape = shape.shape
        self.shape, self.repair = shape, repair
        called, self.schema, self._read = _understood(shape)
        self.name = _name(name or called)

    @property
    def param(self) -> dict[str, Any]:
        """What is handed on in place of the shape; how a provider is asked is decided where it is written."""
        return {"type": "answer_schema", "name": self.name, "schema": self.schema}

    def read(self, text: str) -> tuple[Any, list[str]]:
        """Return the value that a JSON text is, or what is wrong with it.

        >>> ResponseFormat({"type": "integer"}).read("3")
        (3, [])
        >>> ResponseFormat({"type": "integer"}).read("true")
        (None, ['true is not of type "integer"'])
        """
        try:
            return self._read(text)
        except RecursionError:
            return None, ["it is nested too deeply"]
        except Exception as error:  # noqa: BLE001 - whatever a reader does not get through is a fault of the answer
            return None, [f"{type(error).__name__}: {error}"[:_LONGEST_FAULT]]

    def __repr__(self) -> str:
        return f"ResponseFormat({getattr(self.shape, '__name__', self.name)}, repair={self.repair})"


def is_as_written(wanted: object) -> bool:
    """Whether it is OpenAI's own parameter, which goes out as it is.

    >>> is_as_written({"type": "json_object"}), is_as_written({"type": "object"})
    (True, False)
    """
    return isinstance(wanted, Mapping) and wanted.get("type") in _AS_WRITTEN


def _understood(shape: Any) -> tuple[str, dict[str, Any], Callable[[str], tuple[Any, list[str]]]]:
    """Return the name of a shape, its schema, and what reads an answer."""
    if isinstance(shape, Mapping):
        return _from_schema(shape)
    for writes, reads in (("model_json_schema", "model_validate_json"), ("json_schema", "validate_json")):
        schema, read = getattr(shape, writes, None), getattr(shape, reads, None)
        if callable(schema) and callable(read):
            # An instance of a model has these, too.
            if writes == "model_json_schema" and not isinstance(shape, type):
                break
            return _from_model(shape, schema, read)
    if isinstance(shape, type) or hasattr(shape, "__origin__") or type(shape).__module__ == "types":
        if isinstance(shape, type) and not (
            is_dataclass(shape) or is_typeddict(shape) or hasattr(shape, "__args__")
        ):
            raise InvalidArgumentError(f"response_format is {shape.__name__}, which is no shape", hint=_EXPECTED)
        from quotaflow._structured.python_types import TypeShape

        typed = TypeShape(shape)
        return _name_of(shape), typed.schema, lambda text: _read_typed(typed, text)
    raise wrong_type("response_format", shape, _EXPECTED)


def _from_schema(
    shape: Mapping[str, Any],
) -> tuple[str, dict[str, Any], Callable[[str], tuple[Any, list[str]]]]:
    name = shape.get("title")
    schema: Any = dict(shape)
    if shape.get("type") in _AS_WRITTEN:
        named = shape.get("json_schema")
        if shape["type"] == "json_object":
            schema = {"type": "object"}
        elif isinstance(named, Mapping) and isinstance(named.get("schema"), Mapping):
            name, schema = named.get("name"), dict(named["schema"])
        else:
            raise InvalidArgumentError(f"response_format of type {shape['type']!r} has no schema", hint=_EXPECTED)
    if not schema:
        raise InvalidArgumentError("response_format is empty", hint=_EXPECTED)
    try:
        written = json.dumps(schema, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidArgumentError(
            f"response_format cannot be written as JSON: {error}", hint="pass plain values, lists and dicts"
        ) from None
    if not _KEYWORDS.intersection(schema):
        raise InvalidArgumentError("response_format has nothing that a JSON schema has", hint=_EXPECTED)
    checked = AnswerSchema(written)

    def read(text: str) -> tuple[Any, list[str]]:
        faults = checked.faults(text)
        return (None, faults) if faults else _loaded(text)

    return name if isinstance(name, str) else "answer", schema, read


# One of these stands in every schema that says anything.
_KEYWORDS = frozenset(
    {"type", "properties", "items", "enum", "const", "anyOf", "oneOf", "allOf", "not", "if", "$ref", "required",
     "additionalProperties", "patternProperties", "prefixItems", "minimum", "maximum", "pattern", "format"}
)  # fmt: skip


def _from_model(
    shape: Any, schema: Callable[[], Any], read: Callable[[str], Any]
) -> tuple[str, dict[str, Any], Callable[[str], tuple[Any, list[str]]]]:
    from quotaflow._structured.pydantic_models import said_schema

    return _name_of(shape), said_schema(_name_of(shape), schema), lambda text: _read_model(read, text)


def _read_model(read: Callable[[str], Any], text: str) -> tuple[Any, list[str]]:
    if _MAY_BE_TOO_LARGE.search(text):
        _, faults = _loaded(text)
        if faults:
            return None, faults
    try:
        return read(text), []
    except ValueError as error:  # as pydantic's own error is
        from quotaflow._structured.pydantic_models import faults_of_model

        return None, faults_of_model(error)


def _read_typed(typed: Any, text: str) -> tuple[Any, list[str]]:
    value, faults = _loaded(text)
    if faults:
        return None, faults
    made: tuple[Any, list[str]] = typed.made_of(value)
    return made[0], made[1][:_MOST_FAULTS]


def _loaded(text: str) -> tuple[Any, list[str]]:
    """Return the plain value of a JSON text, or what is wrong: numbers that Python cannot hold."""
    try:
        return json.loads(text, parse_float=_finite), []
    except ValueError as error:
        words = str(error)
        # Python's own advice is not for models.
        return None, ["a number in it has too many digits" if "integer string conversion" in words else words]


def _finite(written: str) -> float:
    value = float(written)
    if isfinite(value):
        return value
    raise ValueError(f"the number {written[:40]} is too large")


def _name_of(shape: Any) -> str:
    return str(getattr(shape, "__name__", None) or "answer")


def _name(name: str) -> str:
    """Return a name as providers take it: letters, digits, `_` and `-`, at most 64 of them."""
    plain = "".join(
        letter if letter.isascii() and (letter.isalnum() or letter in "_-") else "_" for letter in name
    )
    return plain[:_LONGEST_NAME]
