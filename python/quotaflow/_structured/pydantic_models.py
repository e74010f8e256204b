"""Pydantic models as JSON schemas, and their validation errors as texts.

Pydantic is known by the names of its methods and never imported.
"""

from __future__ import annotations

from functools import partial

from quotaflow.errors import InvalidArgumentError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any

_MOST_FAULTS = 20


def is_model(thing: object) -> bool:
    """Whether it is the class of a pydantic model; an instance has the same methods and is none.

    >>> is_model(dict)
    False
    """
    return isinstance(thing, type) and all(
        callable(getattr(thing, name, None)) for name in ("model_json_schema", "model_validate_json")
    )


def said_schema(name: str, schema: Callable[[], Any]) -> dict[str, Any]:
    """Return the JSON schema of a model.

    Args:
        name: what the model is called when something is wrong with it.
        schema: makes its schema.

    Raises:
        InvalidArgumentError: it has none.

    >>> said_schema("City", lambda: {"type": "object"})
    {'type': 'object'}
    """
    try:
        made: dict[str, Any] = schema()
    except Exception as error:
        words = str(error).partition("\n")[0]
        raise InvalidArgumentError(
            f"{name} cannot be said as a JSON schema: {words}", hint="give it fields of plain types"
        ) from error
    return made


def schema_beside(model: Any, others: dict[str, dict[str, Any]]) -> tuple[dict[str, Any], dict[str, Any]]:
    """Return the schema of a model that stands inside of another one, and the parts that it points at.

    Args:
        model: the class.
        others: the parts of the other schema, by name; the model's own get names that are free.
    """
    before = ""
    while True:
        says = partial(model.model_json_schema, ref_template=f"#/$defs/{before}{{model}}")
        schema = dict(said_schema(model.__name__, says))
        parts = {before + name: part for name, part in schema.pop("$defs", {}).items()}
        if all(others.get(name, part) == part for name, part in parts.items()):
            return schema, parts
        before += "_"


def faults_of_model(error: Exception, place: str = "") -> list[str]:
    """Return what a model found wrong, each with its place below `place`.

    >>> faults_of_model(KeyError("Oslo"), "towns.0")
    ["towns.0: KeyError: 'Oslo'"]
    """
    listed = getattr(error, "errors", None)
    if isinstance(error, ValueError) and callable(listed):
        found = [(fault.get("loc", ()), str(fault.get("msg"))) for fault in listed()[:_MOST_FAULTS]]
    else:
        found = []
    if not found:
        found = [((), str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}")]
    faults = []
    for below, words in found:
        where = ".".join([place] * bool(place) + [str(part) for part in below])
        faults.append(f"{where}: {words}" if where else words)
    return faults
