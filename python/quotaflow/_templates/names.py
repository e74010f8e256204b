"""The names in a template, compared with the parameters that were given."""

from __future__ import annotations

from quotaflow.errors import TemplateError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Mapping
    from typing import Any


def check_names(needed: set[str], known: set[str], given: Mapping[str, Any], mark: str = "") -> None:
    """Raise `TemplateError` for what is needed and not given, and for what is given and not known."""
    missing = sorted(needed - set(given))
    unused = sorted(set(given) - known)
    if missing:
        shown = ", ".join(mark + name for name in missing)
        meant = _nearest(missing[0], unused)
        hint = f"did you mean it by {meant}?" if meant else f"pass params={{'{missing[0]}': …}}"
        raise TemplateError(
            f"the template needs {shown}, which {'is' if len(missing) == 1 else 'are'} missing", hint=hint
        )
    if unused:
        meant = _nearest(unused[0], sorted(known))
        names = ", ".join(mark + name for name in sorted(known)) or "none"
        hint = f"did you mean {mark}{meant}?" if meant else f"its names are {names}"
        raise TemplateError(f"the template does not use {', '.join(unused)}", hint=hint)


def _nearest(name: str, others: list[str]) -> str | None:
    from difflib import get_close_matches

    found = get_close_matches(name, others, 1, 0.6)
    return found[0] if found else None
