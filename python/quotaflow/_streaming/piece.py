"""`Piece`: one part of a streamed answer."""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Any, Literal, Self

    from quotaflow.records import Attempt


class Piece(str):
    """Something that arrived, as the text it brought.

    It is a `str`: the next words of the answer, of what the model thinks, or of the arguments of a tool call. At a
    seam, where an attempt broke off and another one goes on, it is empty.

    >>> piece = Piece("Par")
    >>> piece, piece.kind, piece + "is"
    ('Par', 'text', 'Paris')
    """

    __slots__ = ("_facts", "kind")

    kind: Literal["text", "reasoning", "tool_call", "seam"]
    """Of what it is a piece."""
    _facts: dict[str, Any]

    def __new__(
        cls, text: str = "", kind: Literal["text", "reasoning", "tool_call", "seam"] = "text", **facts: Any
    ) -> Self:
        """Return a piece made by hand, for instance for a test; `facts` are the attributes below."""
        self = str.__new__(cls, text)
        self.kind = kind
        self._facts = facts
        return self

    @property
    def call_index(self) -> int | None:
        """Which tool call it belongs to, counted from 0; fragments of several may take turns."""
        index: int | None = self._facts.get("call_index")
        return index

    @property
    def call_id(self) -> str | None:
        """The id of the tool call, with the first fragment that tells it."""
        number: str | None = self._facts.get("call_id")
        return number

    @property
    def tool_name(self) -> str | None:
        """The name of the tool, with the first fragment that tells it."""
        name: str | None = self._facts.get("tool_name")
        return name

    @property
    def restarts(self) -> bool:
        """At a seam: whether the text so far is void; thinking and tool calls that had begun always are."""
        return bool(self._facts.get("restarts"))

    @property
    def broken(self) -> Attempt | None:
        """At a seam: the attempt that broke off."""
        from quotaflow.records import Attempt

        facts = self._facts.get("broken")
        return facts if facts is None or isinstance(facts, Attempt) else Attempt(*facts)

    @property
    def message(self) -> str | None:
        """At a seam: what was wrong."""
        message: str | None = self._facts.get("message")
        return message

    @property
    def provider(self) -> str | None:
        """At a seam: the provider that goes on."""
        provider: str | None = self._facts.get("provider")
        return provider

    @property
    def model(self) -> str | None:
        """At a seam: the model that goes on."""
        model: str | None = self._facts.get("model")
        return model

    @property
    def key(self) -> str | None:
        """At a seam: the label of the key that goes on."""
        key: str | None = self._facts.get("key")
        return key

    def __reduce__(self) -> tuple[Any, ...]:
        return (_restore, (type(self), str(self), self.kind, self._facts))


_FACTS = {
    "reasoning": (),
    "tool_call": ("call_index", "call_id", "tool_name"),
    "seam": ("restarts", "broken", "provider", "model", "key"),
}


def piece_from(item: str | tuple[Any, ...]) -> Piece:
    """Return the piece for what Rust hands over: a string for text, else its kind, its text and its facts.

    >>> piece_from(("tool_call", "{}", 0, "call_1", "search")).tool_name
    'search'
    """
    if isinstance(item, str):
        return Piece(item)
    kind, text, *facts = item
    named = dict(zip(_FACTS[kind], facts, strict=True))
    if kind == "seam":
        return Piece("", kind, message=text, **named)
    return Piece(text, kind, **named)


def _restore(cls: type[Piece], text: str, kind: Any, facts: dict[str, Any]) -> Piece:
    return cls(text, kind, **facts)
