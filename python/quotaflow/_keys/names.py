"""Names of keys: the keys they mean, and the providers these belong to."""

from __future__ import annotations

import os
import re
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

from quotaflow._call.checks import wrong_type
from quotaflow._quotaflow import canonical_provider, digests_of_keys, whose_key, whose_variable
from quotaflow.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

UNKNOWN = "unknown"

_CAPITALS = re.compile(r"[A-Z][A-Z0-9_]*")
# No key is as short and plain as this, and many a test calls a variable so.
_PLAIN = re.compile(r"[A-Za-z_][A-Za-z0-9_]{0,23}")
# Long, without underscores and with many digits: no variable is called so, and keys look so.
_LONG = 20
_MANY_DIGITS = 4


class GivenKey(str):
    """A key that was given instead of the name of a variable: it equals itself and is shown as its label."""

    __slots__ = ("label",)

    label: str
    """What it is called where people look, for instance `gemini key 1`."""

    def __repr__(self) -> str:
        return repr(self.label)

    def __reduce__(self) -> NoReturn:
        raise TypeError("a key is not pickled: put it into a variable and give its name")


class Place(NamedTuple):
    """Where a name stands in the ledgers."""

    provider: str
    label: str
    is_set: bool


class Keys(NamedTuple):
    """What the names mean at this moment."""

    names: tuple[str, ...]
    places: dict[str, Place]
    digests: dict[str, str]
    bad: frozenset[str]
    """Names whose keys cannot be keys."""


def shown(name: str) -> str:
    """Return the name as it may be logged.

    >>> shown("OPENAI_API_KEY")
    'OPENAI_API_KEY'
    """
    return name.label if isinstance(name, GivenKey) else name


def checked(primary: object, backups: object) -> list[str]:
    """Return the names as a list, each once and without space around it, the primary first.

    Raises:
        ConfigError: it is no name.
    """
    several: Iterable[Any] = ()
    if isinstance(backups, str):
        several = [backups]
    elif backups is not None:
        try:
            several = list(backups)  # type: ignore[call-overload]
        except TypeError:
            raise wrong_type(
                "backup_key_envs", backups, "pass a list", ConfigError, path="backup_key_envs"
            ) from None
    named: list[tuple[str, Any]] = [("primary_key_env", primary)]
    named += [(f"backup_key_envs[{place}]", name) for place, name in enumerate(several)]
    for path, name in named:
        if not isinstance(name, str):
            hint = "pass the name of an environment variable, or a key"
            raise wrong_type(path, name, hint, ConfigError, path=path)
        if not name or name.isspace():
            hint = "pass the name of an environment variable, or a key; leave out what there is not"
            raise ConfigError(f"{path} is empty", path=path, hint=hint)
    return list(dict.fromkeys(name.strip() for _, name in named))


def name_or_key(text: str, is_set: bool, number: int, provider: str) -> str:
    """Return the name of a variable as it is, a key as a `GivenKey`.

    A name is what is set in the environment or in `.env`, what is all capitals, digits and underscores, and any
    other short word that does not begin like a key. What is long, without underscores and full of digits is a key.

    >>> name_or_key("sk-test-1", False, 1, "openai")
    'openai key 1'
    >>> str(name_or_key("sk-test-1", False, 1, "openai")), name_or_key("MY_KEY", False, 1, "openai")
    ('sk-test-1', 'MY_KEY')
    """
    plain = _PLAIN.fullmatch(text) is not None and not whose_key(text)[0]
    is_name = (plain or _CAPITALS.fullmatch(text) is not None) and not _full_of_digits(text)
    if is_set or is_name:
        return text
    key = GivenKey(text)
    key.label = f"{provider} key {number}"
    return key


def _full_of_digits(text: str) -> bool:
    return len(text) >= _LONG and "_" not in text and sum(map(str.isdigit, text)) >= _MANY_DIGITS


def owner(text: str) -> str | None:
    """Return the provider of this key, by the name of the variable, its value, or the look of the key."""
    return whose_variable(text) or whose_key(os.environ.get(text, "").strip())[1] or whose_key(text)[1]


def default_provider(texts: Sequence[str], config_manager: object) -> str:
    """Return the provider of the names that do not tell theirs."""
    for text in texts:
        found = owner(text)
        if found is not None:
            return found
    try:
        chosen = config_manager.get_model_config()["provider"]  # type: ignore[attr-defined]
    except Exception:  # noqa: BLE001 - the object is not part of quotaflow, and only a hint
        return UNKNOWN
    return canonical_provider(chosen) if isinstance(chosen, str) and chosen.strip() else UNKNOWN


def look_up(
    texts: Sequence[str], provider: str | None, default: str, salt: str, bad: frozenset[tuple[str, str]]
) -> tuple[Keys, dict[str, list[dict[str, str]]]]:
    """Return what the names mean now, and what `Core` takes as keys; the latter holds keys.

    With `provider` all are of it, else each is of the provider its name tells. `bad` are the providers and labels
    of what cannot be a key: something else stands in its place.
    """
    digests = digests_of_keys([str(text) for text in texts], salt)
    keys = Keys((), {}, {}, frozenset())
    by_provider: dict[str, list[dict[str, str]]] = {}
    names = []
    labels: dict[tuple[str, str], str] = {}
    bad_names: set[str] = set()
    for number, (text, (of_variable, of_text)) in enumerate(zip(texts, digests, strict=True), start=1):
        whose = provider or owner(text) or default
        name = name_or_key(text, of_variable is not None, number, whose)
        names.append(name)
        label = shown(name)
        if isinstance(name, GivenKey):
            digest, entry = of_text, {"key": str(name), "label": label}
        elif of_variable is not None:
            digest, entry = of_variable, {"env": name, "label": label}
        else:
            # What is said of a key that is not there yet is remembered by its name.
            digest, entry = f"unset:{name}", {"key": f"unset:{name}", "label": label}
        if (whose, label) in bad:
            digest = f"bad:{digest}"
            entry = {"key": "unset:" + digests_of_keys([label], "")[0][1], "label": label}
            bad_names.add(name)
        known = labels.setdefault((whose, digest), label)
        if known == label:
            by_provider.setdefault(whose, []).append(entry)
        keys.places[name] = Place(whose, known, is_set=digest[:6] != "unset:")
        keys.digests[name] = digest
    return keys._replace(names=tuple(names), bad=frozenset(bad_names)), by_provider
