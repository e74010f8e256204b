"""How is something added to an exception that is not ours?"""

from __future__ import annotations


def note(error: BaseException, told: str, instead_of: tuple[str, ...]) -> None:
    """Adds a note in place of earlier ones that begin like that; an exception that takes none goes on without."""
    try:
        notes = getattr(error, "__notes__", None)
        if isinstance(notes, list):
            notes[:] = [line for line in notes if not (isinstance(line, str) and line.startswith(instead_of))]
        error.add_note(told)
    except Exception:  # noqa: BLE001 - the exception of the caller is worth more than what is said about it
        return
