"""A note added to an exception, once."""

from __future__ import annotations


def note(error: BaseException, text: str, instead_of: tuple[str, ...]) -> None:
    """Add a note in place of earlier ones that begin like that, if the exception takes notes."""
    try:
        notes = getattr(error, "__notes__", None)
        if isinstance(notes, list):
            notes[:] = [line for line in notes if not (isinstance(line, str) and line.startswith(instead_of))]
        error.add_note(text)
    except Exception:  # noqa: BLE001 - the exception of the caller is worth more than what is said about it
        return
