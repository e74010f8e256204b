"""Settings from a program's own config manager: models, keys, limits, state.

Such an object has `get_model_config(task_name=None, is_fallback=False)`, which gives a mapping with `provider`,
`model`, `key`, `backup_keys`, `base_url` and parameters (`temperature`…), or `None`. It may have `get(name)`: that
is asked for `"models"`, `"limits"` and `"strategy"`; and `get_cache_path()`: the state is kept there.
"""

from __future__ import annotations

from collections.abc import Mapping
from os import PathLike, fspath

from quotaflow._call.options import make_options
from quotaflow.errors import ConfigError

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable
    from typing import Any, Protocol

    from quotaflow._call.options import CallArguments
    from quotaflow._quotaflow import CallOptions

    Target = dict[str, Any]

    class ConfigManager(Protocol):
        """What a config manager must have."""

        def get_model_config(self, task_name: str | None = None, is_fallback: bool = False) -> Any:
            """Return the model of a task, of everything else, or what to fall back to."""


_NOT_TASKS = ("default", "fallback")
_SECTIONS = ("limits", "strategy")
_NOT_PARAMETERS = ("provider", "model", "key", "backup_keys", "base_url", "fallback")
_STATE_FILE = "quotaflow.sqlite"
_STATE_ENDINGS = (".sqlite", ".sqlite3", ".db")


class ManagedConfig:
    """The config that a manager stands for; tasks it does not list are asked for when they are first used.

    >>> class Manager:
    ...     def get_model_config(self, task_name=None, is_fallback=False):
    ...         return None if is_fallback else {"provider": "openai", "model": "gpt-4o-mini", "key": "MY_KEY"}
    >>> ManagedConfig(Manager()).config
    {'models': {'default': {'provider': 'openai', 'model': 'gpt-4o-mini', 'key': 'MY_KEY'}}}
    """

    __slots__ = ("_asked", "_labels", "_manager", "_texts", "config", "state")

    def __init__(self, manager: object) -> None:
        self._manager = manager
        # The tasks that were asked for, with their targets; None is the default.
        self._asked: dict[str, Target | None] = {}
        self._labels: Callable[[], str] | None = None
        self.config = self._read()
        self.state = state_of(manager)
        # Whatever keys and addresses were named at the start.
        self._texts = {
            text
            for entry in self.config["models"].values()
            for target in _targets(entry)
            for text in _keys_and_address(target)
        }

    def knows_keys_by(self, status: Callable[[], str]) -> None:
        """Set where the labels of the keys in use can be read: `Core.status`."""
        self._labels = status

    def make_options(self, given: CallArguments, debug: bool) -> CallOptions:
        """Do as `options.make_options`, with the target of a task that the core does not know filled in."""
        known, task_name = self.config["models"], given.task_name
        if (
            isinstance(task_name, str)
            and task_name.strip()
            and (task_name not in known or task_name in _NOT_TASKS)
        ):
            target = self._target(task_name)
            provider, model = target.get("provider"), target.get("model")
            if given.model is None and given.provider in (None, provider):
                own = {name: value for name, value in target.items() if name not in _NOT_PARAMETERS}
                given = given._replace(provider=provider, model=model, params=own | given.params)
            elif given.provider is None and given.model == model:
                given = given._replace(provider=provider)
        return make_options(given, debug)

    def _read(self) -> dict[str, Any]:
        models: dict[str, Any] = {}
        default = _one(self._model_config())
        fallback = self._model_config(is_fallback=True)
        if default:
            models["default"] = default
        if fallback and fallback != [default]:
            models["fallback"] = fallback
        for task in self._section("models") or ():
            if not isinstance(task, str):
                raise _wrong("get('models')", f"has a name of type {type(task).__name__}")
            target = None if task in _NOT_TASKS else _one(self._model_config(task))
            if not target or target == default:
                continue
            own = self._model_config(task, is_fallback=True)
            models[task] = target | ({"fallback": own} if own and own not in (fallback, [target]) else {})
        config = {"models": models}
        for name in _SECTIONS:
            if section := self._section(name):
                config[name] = dict(section)
        return config

    def _model_config(self, *task: str, **which: bool) -> list[Target]:
        """Return the targets that `get_model_config` gives for these arguments."""
        shown = [repr(name) for name in task] + [f"{name}={value}" for name, value in which.items()]
        call = f"get_model_config({', '.join(shown)})"
        said = _call(self._manager, call, "get_model_config", *task, **which)
        targets = said if isinstance(said, list | tuple) else [said]
        for target in targets:
            if target is not None and not isinstance(target, Mapping):
                raise _wrong(call, f"gave a value of type {type(target).__name__}")
        stripped = [
            {name: value for name, value in target.items() if _is_given(name, value)}
            for target in targets
            if target
        ]
        return [target for target in stripped if target]

    def _section(self, name: str) -> Mapping[Any, Any] | None:
        if not callable(getattr(self._manager, "get", None)):
            return None
        call = f"get({name!r})"
        said = _call(self._manager, call, "get", name)
        if said is not None and not isinstance(said, Mapping):
            raise _wrong(call, f"gave a value of type {type(said).__name__}")
        return said

    def _target(self, task: str) -> Target:
        """Return the target of a task that the manager did not list; asked once."""
        if task not in self._asked:
            target = _one(self._model_config(task))
            self._refuse_unknown_keys(task, target)
            self._asked[task] = None if target == self.config["models"].get("default") else target
        return self._asked[task] or {}

    def _refuse_unknown_keys(self, task: str, target: Target) -> None:
        new = [text for text in _keys_and_address(target) if text not in self._texts]
        if new and self._labels is not None:
            import json

            labels = {key["label"] for key in json.loads(self._labels())["keys"]}
            new = [text for text in new if text not in labels]
        if new:
            raise ConfigError(
                f"task {task!r} has a key or base_url that was not there when the interface was made",
                path=f"get_model_config({task!r})",
                hint="let get('models') list every task",
            )


def state_of(manager: object) -> str | None:
    """Return where quotas are remembered for a program with this config manager; `None` when it does not say.

    That is a file of quotaflow where the manager keeps its caches; the manager's own file there is left alone. All
    objects that are given the manager ask here, so that they share one state.

    Raises:
        ConfigError: `get_cache_path()` raises, or what it gives is no path.

    >>> class Manager:
    ...     def get_cache_path(self):
    ...         return "cache"
    >>> state_of(Manager())
    'cache/quotaflow.sqlite'
    """
    if not callable(getattr(manager, "get_cache_path", None)):
        return None
    call = "get_cache_path()"
    path = _call(manager, call, "get_cache_path")
    if path is None:
        return None
    text = fspath(path) if isinstance(path, str | PathLike) else None
    if not isinstance(text, str) or not text.strip():
        raise _wrong(call, f"gave no path but a value of type {type(path).__name__}")
    from pathlib import Path

    place = Path(text)
    if place.suffix and not place.is_dir():
        return text if place.suffix.lower() in _STATE_ENDINGS else str(place.parent / _STATE_FILE)
    return str(place / _STATE_FILE)


def _call(manager: object, call: str, method: str, *given: object, **named: object) -> Any:
    try:
        return getattr(manager, method)(*given, **named)
    except Exception as error:
        if method == "get" and isinstance(error, KeyError):
            return None
        # Not its text, which may hold whatever the manager holds; the cause is there for who looks for it.
        raise _wrong(call, f"raised {type(error).__name__}") from error


def _is_given(name: object, value: object) -> bool:
    """Return whether a value is set: `None` is not, nor is an empty address from a YAML file."""
    return value is not None and not (name == "base_url" and isinstance(value, str) and not value.strip())


def _one(targets: list[Target]) -> Target:
    return targets[0] if targets else {}


def _targets(entry: Target | list[Target]) -> list[Target]:
    if isinstance(entry, list):
        return entry
    return [entry, *entry.get("fallback", ())]


def _keys_and_address(target: Target) -> list[str]:
    """Return every key of a target, by name or itself, and its address, as plain texts."""
    backups = target.get("backup_keys", [])
    keys = [target.get("key"), *(backups if isinstance(backups, list | tuple) else [backups])]
    names = [name for key in keys if isinstance(key, str) for name in key.split(",")]
    texts = [name.strip().removeprefix("$").removeprefix("{").removesuffix("}") for name in names]
    return [text for text in [*texts, target.get("base_url")] if isinstance(text, str) and text]


def _wrong(call: str, what: str) -> ConfigError:
    hint = "a config manager gives mappings, or None for what is not set"
    return ConfigError(f"the config manager's {call} {what}", path=call, hint=hint)
