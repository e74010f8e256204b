"""Python types as JSON schemas, and their values made of JSON.

Dataclasses and typed dicts, and what they are made of: `str`, `int`, `float`, `bool`, `None`, `Any`, `datetime`,
`date`, `time`, `UUID`, enums, `Literal`, unions, lists, sets, tuples, dicts, and pydantic models. Fields that a
type does not have are left out of the value, as pydantic does.
"""

from __future__ import annotations

import collections.abc
import dataclasses
import inspect
import json
import types
import typing
from datetime import date, datetime, time
from enum import Enum
from typing import Any
from uuid import UUID

from quotaflow._structured.pydantic_models import faults_of_model, is_model, schema_beside
from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    # Makes a value of JSON; what is wrong with it, at this place, goes into the list, and then it gives `_BAD`.
    _Make = Callable[[Any, str, list[str]], Any]

_BAD: Any = object()
_PLAIN: dict[Any, str] = {
    str: "string", int: "integer", float: "number", bool: "boolean", type(None): "null", None: "null",
}  # fmt: skip
_TEXTS: dict[Any, tuple[str, Callable[[str], Any]]] = {
    datetime: ("date-time", datetime.fromisoformat),
    date: ("date", date.fromisoformat),
    time: ("time", time.fromisoformat),
    UUID: ("uuid", UUID),
}
_LISTS: dict[Any, Callable[[list[Any]], Any]] = {
    list: list, set: set, frozenset: frozenset, tuple: tuple,
    collections.abc.Sequence: list, collections.abc.Iterable: list, collections.abc.Collection: list,
    collections.abc.MutableSequence: list, collections.abc.Set: set,
}  # fmt: skip
_DICTS = (dict, collections.abc.Mapping, collections.abc.MutableMapping)
_SETS = (set, frozenset, collections.abc.Set)
# What stands around a type and changes nothing about it here.
_WRAPPERS = (typing.Required, typing.NotRequired, typing.Final)


class TypeShape:
    """A type as a JSON schema, and a maker of its values.

    >>> shape = TypeShape(list[int | None])
    >>> shape.schema
    {'type': 'array', 'items': {'anyOf': [{'type': 'integer'}, {'type': 'null'}]}}
    >>> shape.made_of([1, None])
    ([1, None], [])
    >>> shape.made_of([1, "2"])
    (None, ['1: is a string, not an integer or null'])
    """

    def __init__(self, annotation: Any) -> None:
        self._parts: dict[Any, str] = {}
        self._defs: dict[str, dict[str, Any]] = {}
        self._makers: dict[Any, _Make] = {}
        schema, self._make = self._understood(annotation, getattr(annotation, "__name__", "response_format"))
        schema = dict(schema)
        if "$ref" in schema:
            top = schema["$ref"].rpartition("/")[2]
            schema = dict(self._defs[top])
            if not _mentions([*self._defs.values()], f"#/$defs/{top}"):
                del self._defs[top]
        self.schema: dict[str, Any] = schema | ({"$defs": self._defs} if self._defs else {})

    def made_of(self, value: Any) -> tuple[Any, list[str]]:
        """Return a value of the type, or `None` and what is wrong."""
        faults: list[str] = []
        made = self._make(value, "", faults)
        return (None, faults) if made is _BAD or faults else (made, [])

    def _understood(self, annotation: Any, place: str) -> tuple[dict[str, Any], _Make]:  # noqa: PLR0911
        annotation, description = _unwrapped(annotation)
        said = {"description": description} if description else {}
        if annotation in (Any, object):
            return said, lambda value, _place, _faults: value
        if isinstance(annotation, collections.abc.Hashable) and annotation in _PLAIN:
            kind = _PLAIN[annotation]
            return {"type": kind} | said, lambda value, place, faults: _plain(value, kind, place, faults)
        if annotation in _TEXTS:
            form, read = _TEXTS[annotation]
            made = {"type": "string", "format": form} | said
            return made, lambda value, place, faults: _text(value, form, read, place, faults)
        origin, args = typing.get_origin(annotation), typing.get_args(annotation)
        if origin is typing.Literal:
            return _choice([(value, value) for value in args], place, said)
        if origin in (typing.Union, types.UnionType):
            return self._union(args, place, said)
        if isinstance(annotation, type) and issubclass(annotation, Enum):
            return _choice([(member.value, member) for member in annotation], place, said)
        if dataclasses.is_dataclass(annotation) or typing.is_typeddict(annotation):
            return self._fields(annotation, said)
        if is_model(annotation):
            return self._model(annotation, said)
        if (origin or annotation) in _LISTS:
            return self._list(origin or annotation, args, place, said)
        if (origin or annotation) in _DICTS:
            return self._dict(args, place, said)
        shown = getattr(annotation, "__name__", None) or str(annotation)
        raise InvalidArgumentError(
            f"{place} is of the type {shown}, which cannot be said as a JSON schema",
            hint="use dataclasses, typed dicts, pydantic models, enums, Literal, and lists, dicts and unions of "
            "plain types; or pass pydantic's TypeAdapter of the whole type",
        )

    def _union(self, args: Sequence[Any], place: str, said: dict[str, Any]) -> tuple[dict[str, Any], _Make]:
        ways = [self._understood(arg, place) for arg in args]

        def make(value: Any, place: str, faults: list[str]) -> Any:
            tried = []
            for schema, way in ways:
                wrong: list[str] = []
                made = way(value, place, wrong)
                if made is not _BAD and not wrong:
                    tried.append((self._fit(schema, value, made), made))
                elif self._may_be_meant(schema, value):
                    tried.append((-len(wrong), wrong))
            if not tried:
                kinds = " or ".join(dict.fromkeys(_kind_of_schema(schema) for schema, _ in ways))
                faults.append(_at(place, f"is {_kind(value)}, not {kinds}"))
                return _BAD
            fit, best = max(tried, key=lambda way: way[0])
            if fit < 0:
                faults += best
                return _BAD
            return best

        return {"anyOf": [schema for schema, _ in ways]} | said, make

    def _fit(self, schema: dict[str, Any], value: Any, made: Any) -> int:
        """Return how well a value fits: unchanged best of all, and an object with the most of its fields."""
        if isinstance(value, dict):
            part = self._defs.get(schema.get("$ref", "").rpartition("/")[2], schema)
            return sum(name in part.get("properties", ()) for name in value)
        return 1 if type(made) is type(value) else 0

    def _may_be_meant(self, schema: dict[str, Any], value: Any) -> bool:
        """Whether what is wrong is best said of this way: it is the same kind of thing."""
        part = self._defs.get(schema.get("$ref", "").rpartition("/")[2], schema)
        return isinstance(value, dict | list) and _kind_of_schema(part) == _kind(value)

    def _list(
        self, origin: Any, args: tuple[Any, ...], place: str, said: dict[str, Any]
    ) -> tuple[dict[str, Any], _Make]:
        if origin is tuple and args and args[-1] is not Ellipsis:
            return self._tuple(args, place, said)
        items, make_item = self._understood(args[0] if args else Any, place)
        schema: dict[str, Any] = {"type": "array", "items": items}
        if origin in _SETS:
            schema["uniqueItems"] = True
        collect = _LISTS[origin]

        def make(value: Any, place: str, faults: list[str]) -> Any:
            if not isinstance(value, list):
                return _wrong(value, "a list", place, faults)
            made = [make_item(item, _below(place, index), faults) for index, item in enumerate(value)]
            if faults:
                return _BAD
            try:
                return collect(made)
            except TypeError as error:  # a set of what is not hashable
                faults.append(_at(place, str(error)))
                return _BAD

        return schema | said, make

    def _tuple(self, args: tuple[Any, ...], place: str, said: dict[str, Any]) -> tuple[dict[str, Any], _Make]:
        parts = [self._understood(arg, place) for arg in args]
        count = len(parts)
        items = [schema for schema, _ in parts]
        schema = {"type": "array", "prefixItems": items, "minItems": count, "maxItems": count}

        def make(value: Any, place: str, faults: list[str]) -> Any:
            if not isinstance(value, list) or len(value) != count:
                return _wrong(value, f"a list of {count}", place, faults)
            places = enumerate(zip(parts, value, strict=True))
            return tuple(part[1](item, _below(place, index), faults) for index, (part, item) in places)

        return schema | said, make

    def _dict(self, args: tuple[Any, ...], place: str, said: dict[str, Any]) -> tuple[dict[str, Any], _Make]:
        if args and _unwrapped(args[0])[0] is not str:
            raise InvalidArgumentError(f"{place} is a dict with keys that are no text", hint="use dict[str, …]")
        inner, make_inner = self._understood(args[1] if args else Any, place)

        def make(value: Any, place: str, faults: list[str]) -> Any:
            if not isinstance(value, dict):
                return _wrong(value, "an object", place, faults)
            return {name: make_inner(item, _below(place, name), faults) for name, item in value.items()}

        return {"type": "object", "additionalProperties": inner or True} | said, make

    def _fields(self, cls: Any, said: dict[str, Any]) -> tuple[dict[str, Any], _Make]:
        """Describe a class with fields once, and refer to it, since it may contain itself."""

        def make(value: Any, place: str, faults: list[str]) -> Any:
            return self._makers[cls](value, place, faults)

        if cls not in self._parts:
            name = cls.__name__
            while name in self._defs:
                name += "_"
            self._parts[cls], self._defs[name] = name, {}
            self._defs[name], self._makers[cls] = self._told(cls)
        return {"$ref": f"#/$defs/{self._parts[cls]}"} | said, make

    def _model(self, model: Any, said: dict[str, Any]) -> tuple[dict[str, Any], _Make]:
        """Return a pydantic model inside of something else, as pydantic itself says and reads it."""
        schema, parts = schema_beside(model, self._defs)
        self._defs |= parts

        def make(value: Any, place: str, faults: list[str]) -> Any:
            try:
                return model.model_validate_json(json.dumps(value))
            except Exception as error:  # noqa: BLE001 - what a validator raises is a fault of the answer
                faults += faults_of_model(error, place)
                return _BAD

        return schema | said, make

    def _told(self, cls: Any) -> tuple[dict[str, Any], _Make]:
        if dataclasses.is_dataclass(cls):
            _refuse_what_no_answer_gives(cls)
        hints = _hints(cls)
        if dataclasses.is_dataclass(cls):
            fields = [field for field in dataclasses.fields(cls) if field.init]
            named = {field.name: hints[field.name] for field in fields}
            optional = {field.name for field in fields if not _is_required(field)}
            extras = {field.name: _extras(field) for field in fields}
        else:
            named, extras = hints, {}
            optional = {name for name, hint in hints.items() if not _is_required_key(cls, name, hint)}
        parts = {name: self._understood(hint, f"{cls.__name__}.{name}") for name, hint in named.items()}
        schema: dict[str, Any] = {
            "type": "object",
            "properties": {name: part[0] | extras.get(name, {}) for name, part in parts.items()},
            "required": [name for name in parts if name not in optional],
        }
        description = inspect.cleandoc(cls.__doc__ or "")
        # What `dataclass` writes itself says nothing new.
        if description and not description.startswith(f"{cls.__name__}("):
            schema["description"] = description

        def make(value: Any, place: str, faults: list[str]) -> Any:
            if not isinstance(value, dict):
                return _wrong(value, "an object", place, faults)
            before = len(faults)
            made = {}
            for name, (_, make_part) in parts.items():
                if name in value:
                    made[name] = make_part(value[name], _below(place, name), faults)
                elif name not in optional:
                    faults.append(_at(_below(place, name), "is missing"))
            if len(faults) > before:
                return _BAD
            try:
                return cls(**made)
            except Exception as error:  # noqa: BLE001 - what a class checks itself is a fault of the answer
                faults.append(_at(place, str(error) or type(error).__name__))
                return _BAD

        return schema, make


def _unwrapped(annotation: Any) -> tuple[Any, str | None]:
    """Return the type itself, and what `Annotated` says of it in words."""
    description = None
    while True:
        origin = typing.get_origin(annotation)
        if origin is typing.Annotated:
            for word in annotation.__metadata__:
                said = word if isinstance(word, str) else getattr(word, "description", None)
                description = description or (said if isinstance(said, str) else None)
            annotation = annotation.__origin__
        elif origin in _WRAPPERS:
            annotation = typing.get_args(annotation)[0]
        elif hasattr(annotation, "__supertype__"):
            annotation = annotation.__supertype__
        elif type(annotation).__name__ == "TypeAliasType":
            annotation = annotation.__value__
        else:
            return annotation, description


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except Exception as error:
        raise InvalidArgumentError(
            f"the types of {cls.__name__} cannot be found: {error}", hint="define them where the class is defined"
        ) from error


def _refuse_what_no_answer_gives(cls: Any) -> None:
    """Raise `InvalidArgumentError` for a class that is made of more than its fields, as by an `InitVar`."""
    try:
        parameters = inspect.signature(cls).parameters.values()
    except (TypeError, ValueError):
        # It shows none.
        return
    fields = {field.name for field in dataclasses.fields(cls)}
    for parameter in parameters:
        is_one = parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        if is_one and parameter.default is parameter.empty and parameter.name not in fields:
            raise InvalidArgumentError(
                f"{cls.__name__} is made with {parameter.name}, which is no field of it",
                hint="give it a default, or make it a field",
            )


def _is_required(field: dataclasses.Field[Any]) -> bool:
    return field.default is dataclasses.MISSING and field.default_factory is dataclasses.MISSING


def _is_required_key(cls: Any, name: str, hint: Any) -> bool:
    """Return what the class itself knows is wrong where its annotations are text."""
    origin = typing.get_origin(hint)
    return origin is typing.Required or (origin is not typing.NotRequired and name in cls.__required_keys__)


def _extras(field: dataclasses.Field[Any]) -> dict[str, Any]:
    extras: dict[str, Any] = {}
    description = field.metadata.get("description")
    if isinstance(description, str):
        extras["description"] = description
    default = field.default.value if isinstance(field.default, Enum) else field.default
    if type(default) in _PLAIN and default == default:  # noqa: PLR0124 - JSON has no NaN
        extras["default"] = default
    return extras


def _choice(choices: Sequence[tuple[Any, Any]], place: str, said: dict[str, Any]) -> tuple[dict[str, Any], _Make]:
    """Return one of these: what JSON says, and what it means; `True` is not 1."""
    values = [value.value if isinstance(value, Enum) else value for value, _ in choices]
    if any(type(value) not in _PLAIN for value in values):
        raise InvalidArgumentError(
            f"{place} has a choice that JSON cannot say", hint="use texts, numbers, or None"
        )
    meant = {(type(value), value): member for value, (_, member) in zip(values, choices, strict=True)}
    kinds = list(dict.fromkeys(_PLAIN[type(value)] for value in values))
    schema: dict[str, Any] = {"enum": values, "type": kinds[0] if len(kinds) == 1 else kinds}

    def make(value: Any, place: str, faults: list[str]) -> Any:
        if isinstance(value, list | dict) or (type(value), value) not in meant:
            known = ", ".join(map(repr, values[:20]))
            faults.append(_at(place, f"is {str(value)[:60]!r}, not one of {known}"))
            return _BAD
        return meant[type(value), value]

    return schema | said, make


def _plain(value: Any, kind: str, place: str, faults: list[str]) -> Any:
    found = _PLAIN.get(type(value))
    if found == kind:
        return value
    if kind == "number" and found == "integer":
        try:
            return float(value)
        except OverflowError:
            faults.append(_at(place, "is a number too large to be held"))
            return _BAD
    if kind == "integer" and found == "number" and value.is_integer():
        return int(value)
    return _wrong(value, _WITH_ARTICLE[kind], place, faults)


def _text(value: Any, form: str, read: Callable[[str], Any], place: str, faults: list[str]) -> Any:
    if not isinstance(value, str):
        return _wrong(value, "a string", place, faults)
    try:
        return read(value)
    except ValueError:
        faults.append(_at(place, f"is {value[:60]!r}, not a {form}"))
        return _BAD


_WITH_ARTICLE = {
    "string": "a string", "integer": "an integer", "number": "a number", "boolean": "true or false",
    "null": "null", "array": "a list", "object": "an object",
}  # fmt: skip


def _kind(value: Any) -> str:
    name = "array" if isinstance(value, list) else "object" if isinstance(value, dict) else _PLAIN[type(value)]
    return _WITH_ARTICLE[name]


def _kind_of_schema(schema: dict[str, Any]) -> str:
    kind = schema.get("type", "object" if "$ref" in schema else None)
    return _WITH_ARTICLE.get(kind, "something else") if isinstance(kind, str) else "something else"


def _wrong(value: Any, expected: str, place: str, faults: list[str]) -> Any:
    faults.append(_at(place, f"is {_kind(value)}, not {expected}"))
    return _BAD


def _below(place: str, name: object) -> str:
    return f"{place}.{name}" if place else str(name)


def _at(place: str, words: str) -> str:
    return f"{place}: {words}" if place else words


def _mentions(thing: Any, reference: str) -> bool:
    if isinstance(thing, dict):
        return thing.get("$ref") == reference or any(_mentions(part, reference) for part in thing.values())
    return isinstance(thing, list) and any(_mentions(part, reference) for part in thing)
