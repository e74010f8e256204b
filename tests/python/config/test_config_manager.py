"""A program's own config manager: its models, tasks, keys and mistakes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import ConfigError, LLMInterface

if TYPE_CHECKING:
    from collections.abc import Callable

    from scripted_core import ScriptedCore

DEFAULT = {
    "provider": "openai",
    "model": "gpt-4o-mini",
    "key": "MY_KEY",
    "backup_keys": ["MY_OTHER_KEY"],
    "temperature": 0.2,
}
FALLBACK = {"provider": "anthropic", "model": "claude-haiku-4-5", "key": "THIRD_KEY", "base_url": None}
SUMMARY = {"provider": "gemini", "model": "gemini-2.5-flash", "max_tokens": 3}


class Manager:
    """As programs write it: one method, and it gives the default for what it does not know."""

    def __init__(
        self, tasks: dict[str, Any] | None = None, default: Any = DEFAULT, fallback: Any = FALLBACK
    ) -> None:
        self.tasks, self.default, self.fallback = tasks or {}, default, fallback
        self.asked: list[tuple[str | None, bool]] = []

    def get_model_config(self, task_name: str | None = None, is_fallback: bool = False) -> Any:
        self.asked.append((task_name, is_fallback))
        if is_fallback:
            return self.fallback
        return self.default if task_name is None else self.tasks.get(task_name, self.default)


class ListingManager(Manager):
    """One whose sections can be read, too."""

    sections: dict[str, Any]

    def get(self, name: str) -> Any:
        return self.sections.get(name)


def listing(sections: dict[str, Any], **arguments: Any) -> ListingManager:
    manager = ListingManager(**arguments)
    manager.sections = sections
    return manager


def config_of(scripted: type[ScriptedCore], manager: object) -> Any:
    LLMInterface(manager, state="memory")  # type: ignore[arg-type]
    source, is_path = scripted.made[-1].arguments[:2]
    assert is_path is False
    return json.loads(str(source))


def without_nothing(target: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in target.items() if value is not None}


def test_default_and_fallback_become_the_route(scripted: type[ScriptedCore]) -> None:
    models = {"default": DEFAULT, "fallback": [without_nothing(FALLBACK)]}
    assert config_of(scripted, Manager()) == {"models": models}
    assert config_of(scripted, Manager(fallback=None)) == {"models": {"default": DEFAULT}}
    assert config_of(scripted, Manager(fallback=DEFAULT)) == {"models": {"default": DEFAULT}}
    assert config_of(scripted, Manager(default=None, fallback={})) == {"models": {}}
    several = Manager(fallback=[FALLBACK, SUMMARY])
    assert config_of(scripted, several)["models"]["fallback"] == [without_nothing(FALLBACK), SUMMARY]


def test_listed_tasks_limits_and_strategy_are_taken_over(scripted: type[ScriptedCore]) -> None:
    sections = {
        "models": {"default": {}, "fallback": {}, "summary": {}, "same": {}},
        "limits": {"openai": {"rpm": 60}},
        "strategy": {"use_local_first": True},
        "logging": {"level": "INFO"},
    }
    manager = listing(sections, tasks={"summary": SUMMARY})
    assert config_of(scripted, manager) == {
        "models": {"default": DEFAULT, "fallback": [without_nothing(FALLBACK)], "summary": SUMMARY},
        "limits": sections["limits"],
        "strategy": sections["strategy"],
    }


def test_a_task_may_have_a_fallback_of_its_own(scripted: type[ScriptedCore]) -> None:
    class Choosy(ListingManager):
        def get_model_config(self, task_name: str | None = None, is_fallback: bool = False) -> Any:
            return SUMMARY if task_name and is_fallback else super().get_model_config(task_name, is_fallback)

    manager = Choosy(tasks={"letter": {"provider": "groq", "model": "quick"}})
    manager.sections = {"models": {"letter": {}}}
    assert config_of(scripted, manager)["models"]["letter"]["fallback"] == [SUMMARY]


def test_a_get_that_raises_for_what_it_does_not_have_is_fine(scripted: type[ScriptedCore]) -> None:
    class Strict(Manager):
        def get(self, name: str) -> Any:
            return {"models": {"default": {}}}[name]

    assert set(config_of(scripted, Strict())) == {"models"}


def asked(core: ScriptedCore) -> tuple[Any, Any, Any]:
    options = core.calls[-1][1]
    params = options["params_json"]
    return options["provider"], options["model"], None if params is None else json.loads(params)


def test_a_task_nobody_listed_is_asked_for_once(scripted: type[ScriptedCore]) -> None:
    manager = Manager(tasks={"summary": SUMMARY})
    llm = LLMInterface(manager, state="memory")
    core, at_first = scripted.made[-1], len(manager.asked)
    for number in range(3):
        llm.send_prompt(f"Hi {number}", "summary")
        assert asked(core) == ("gemini", "gemini-2.5-flash", {"max_tokens": 3})
    llm.send_prompt("Hi", "summary", max_tokens=9, temperature=1)
    assert asked(core) == ("gemini", "gemini-2.5-flash", {"max_tokens": 9, "temperature": 1})
    llm.send_prompt("Hi", "summary", provider="openai", model="gpt-4o")
    assert asked(core) == ("openai", "gpt-4o", None)
    llm.send_prompt("Hi", "summary", model="gemini-2.5-flash")
    assert asked(core) == ("gemini", "gemini-2.5-flash", None)
    for _ in range(2):
        llm.send_prompt("Hi", "unknown")
        assert asked(core) == (None, None, None)
    llm.send_prompt("Hi")
    assert asked(core) == (None, None, None)
    assert manager.asked[at_first:] == [("summary", False), ("unknown", False)]


def test_a_task_with_a_key_that_came_too_late_is_an_error(scripted: type[ScriptedCore]) -> None:
    late = {"provider": "groq", "model": "quick", "key": "sk-test-planted"}
    known = {
        "provider": "openai",
        "model": "gpt-4o",
        "key": "${MY_OTHER_KEY}",
        "backup_keys": "MY_KEY, MY_OTHER_KEY",
    }
    llm = LLMInterface(Manager(tasks={"late": late, "known": known}), state="memory")
    llm.send_prompt("Hi", "known")
    assert asked(scripted.made[-1])[:2] == ("openai", "gpt-4o")
    for _ in range(2):
        with pytest.raises(ConfigError) as caught:
            llm.send_prompt("Hi", "late")
        assert caught.value.path == "get_model_config('late')"
        assert "planted" not in f"{caught.value!r} {caught.value}"


class Raises:
    def __init__(self, method: str) -> None:
        self.method = method

    def _perhaps(self, method: str, said: Any) -> Any:
        if method == self.method:
            raise RuntimeError("sk-test-planted")
        return said

    def get_model_config(self, task_name: str | None = None, is_fallback: bool = False) -> Any:
        method = f"get_model_config({task_name}, {is_fallback})"
        return self._perhaps(method, {"provider": "openai", "model": str(task_name)})

    def get(self, name: str) -> Any:
        return self._perhaps(f"get({name})", {"letter": {}} if name == "models" else None)

    def get_cache_path(self) -> Any:
        return self._perhaps("get_cache_path()", None)


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("get_model_config(None, False)", "get_model_config()"),
        ("get_model_config(None, True)", "get_model_config(is_fallback=True)"),
        ("get_model_config(letter, False)", "get_model_config('letter')"),
        ("get(models)", "get('models')"),
        ("get(limits)", "get('limits')"),
        ("get_cache_path()", "get_cache_path()"),
    ],
)
def test_a_manager_that_raises_is_named_and_not_quoted(method: str, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface(Raises(method))
    assert caught.value.path == path
    assert "RuntimeError" in caught.value.message
    assert "planted" not in f"{caught.value!r} {caught.value}"
    assert isinstance(caught.value.__cause__, RuntimeError)


@pytest.mark.parametrize(
    ("manager", "path"),
    [
        (Manager(default="sk-test-planted"), "get_model_config()"),
        (Manager(default=[{"provider": "openai"}, 3]), "get_model_config()"),
        (Manager(fallback=object()), "get_model_config(is_fallback=True)"),
        (listing({"models": ["summary"]}), "get('models')"),
        (listing({"models": {3: {}}}), "get('models')"),
        (listing({"limits": "sk-test-planted"}), "get('limits')"),
    ],
)
def test_a_manager_that_says_something_else_is_named(manager: Manager, path: str) -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface(manager, state="memory")
    assert caught.value.path == path
    assert "planted" not in str(caught.value)


@pytest.mark.parametrize("address", ["", "  ", None])
def test_an_address_that_is_left_empty_is_not_given(address: str | None, scripted: type[ScriptedCore]) -> None:
    empty: dict[str, Any] = {"base_url": address}
    manager = listing(
        {"models": {"summary": {}}},
        tasks={"summary": SUMMARY | empty, "late": SUMMARY | {"model": "gemini-2.5-pro"} | empty},
        default=DEFAULT | empty,
        fallback=FALLBACK | empty,
    )
    config = config_of(scripted, manager)
    assert "base_url" not in json.dumps(config)
    LLMInterface(manager).send_prompt("Hi", "late")


def test_what_it_says_is_checked_as_a_file_is() -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface(Manager(default={"provider": "opnai", "model": "m"}), state="memory")
    assert caught.value.path == "models.default.provider"
    assert caught.value.hint == "did you mean `openai`?"


@pytest.mark.parametrize(
    ("said", "state"),
    [
        ("cache", "cache/quotaflow.sqlite"),
        (Path("cache/"), "cache/quotaflow.sqlite"),
        ("cache/mine.db", "cache/mine.db"),
        ("cache/answers.json", "cache/quotaflow.sqlite"),
        ("dotted.folder", "dotted.folder/quotaflow.sqlite"),
        (None, None),
    ],
)
def test_the_state_is_where_its_caches_are(
    scripted: type[ScriptedCore], tmp_path: Path, said: Any, state: str | None
) -> None:
    (tmp_path / "dotted.folder").mkdir()

    class Caching(Manager):
        def get_cache_path(self) -> Any:
            return said

    LLMInterface(Caching())
    assert scripted.made[-1].arguments[-1] == state
    LLMInterface(Caching(), state="memory")
    assert scripted.made[-1].arguments[-1] == "memory"


@pytest.mark.parametrize("said", [3, "", " ", b"cache"])
def test_a_cache_path_that_is_none_is_refused(said: Any) -> None:
    class Caching(Manager):
        def get_cache_path(self) -> Any:
            return said

    with pytest.raises(ConfigError) as caught:
        LLMInterface(Caching())
    assert caught.value.path == "get_cache_path()"


def test_what_has_no_such_method_is_no_manager() -> None:
    with pytest.raises(ConfigError, match="config is of type object"):
        LLMInterface(object(), state="memory")  # type: ignore[arg-type]


def test_over_a_real_connection(make_llm: Callable[..., LLMInterface]) -> None:
    default = {"provider": "openai", "model": "gpt-4o-mini"}
    summary = {"provider": "gemini", "model": "gemini-2.5-flash", "max_tokens": 3}
    for manager in (
        Manager({"summary": summary}, default, None),
        listing({"models": {"summary": {}}}, tasks={"summary": summary}, default=default, fallback=None),
    ):
        llm = make_llm(manager)
        assert llm.send_prompt("Hi").provider == "openai"
        reply = llm.send_prompt("Hi", "summary")
        assert (reply.provider, reply.model, reply.finish_reason) == ("gemini", "gemini-2.5-flash", "length")
        assert llm.send_prompt("Hi", "anything else").provider == "openai"
