"""Keys, routes and limits: where they are found, in which order."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import ConfigError, LLMInterface, NoKeyError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders

NAMES = ["OPENAI_API_KEY", "OPENAI_API_KEY_2", "OPENAI_API_KEY_BACKUP_1", "first", "second"]
SPELLINGS = {
    "OPENAI_API_KEY": "sk-test-1",
    "OPENAI_API_KEY_2": "sk-test-2",
    "OPENAI_API_KEY_BACKUP_1": "sk-test-3",
    "OPENAI_API_KEYS": "sk-test-4, sk-test-5",
}
FIVE_KEYS = [
    {"key": f"sk-test-{number}", "label": name, "provider": "openai"} for number, name in enumerate(NAMES, 1)
]
five_keys = pytest.mark.quotaflow_simulator(
    keys=[key | {"organization": f"org-{key['key']}"} for key in FIVE_KEYS]
)


def labels(llm: LLMInterface, provider: str = "openai") -> list[str]:
    return [key["label"] for key in llm.status()["keys"] if key["provider"] == provider]


def everyone_answers(simulated: SimulatedProviders, calls: int = 5) -> None:
    """Each of the five keys is used when five calls are in flight."""
    with LLMInterface({}, base_urls=simulated.base_urls, limits={"openai": {"rpd": 1}}, state="memory") as llm:
        for _ in range(calls):
            llm.send_prompt("Hi", model="gpt-4o-mini")
    seen = {name: counts["accepted"] for name, counts in simulated.stats()["keys"].items()}
    assert seen == dict.fromkeys(NAMES, 1)


@five_keys
def test_all_four_spellings_of_the_environment_are_keys(
    simulated: SimulatedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in SPELLINGS.items():
        monkeypatch.setenv(name, value)
    everyone_answers(simulated)


@five_keys
def test_a_dotenv_is_read_and_the_environment_wins(
    simulated: SimulatedProviders, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    lines = [f'{name}="{value}"' for name, value in (SPELLINGS | {"OPENAI_API_KEY": "sk-test-stale"}).items()]
    (tmp_path / ".env").write_text("# keys\nexport OTHER=1\n" + "\n".join(lines), encoding="utf-8")
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-1")
    everyone_answers(simulated)
    import os

    assert "OPENAI_API_KEY_2" not in os.environ


@pytest.mark.parametrize(
    ("variable", "provider"),
    [
        ("ANTHROPIC_API_KEY", "anthropic"),
        ("GEMINI_API_KEY", "gemini"),
        ("GOOGLE_API_KEY", "gemini"),
        ("OPENROUTER_API_KEY", "openrouter"),
        ("GROQ_API_KEY", "groq"),
    ],
)
def test_each_provider_has_its_variable(monkeypatch: pytest.MonkeyPatch, variable: str, provider: str) -> None:
    monkeypatch.setenv(variable, "test-key-1")
    with LLMInterface({}, state="memory") as llm:
        assert labels(llm, provider) == [variable]


def test_arguments_come_before_config_before_environment(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OPENAI_API_KEY", "sk-test-3")
    monkeypatch.setenv("GROQ_API_KEY", "groq-test-1")
    config = {"providers": {"openai": {"keys": [{"key": "sk-test-2", "label": "from the config"}]}}}
    with LLMInterface(config, keys={"openai": [{"key": "sk-test-1", "label": "given"}]}, state="memory") as llm:
        assert (labels(llm), labels(llm, "groq")) == (["given"], ["GROQ_API_KEY"])
    with LLMInterface(config, state="memory") as llm:
        assert labels(llm) == ["from the config"]
    with LLMInterface({}, state="memory") as llm:
        assert labels(llm) == ["OPENAI_API_KEY"]


@pytest.mark.usefixtures("simulated")
def test_without_a_key_the_error_names_the_variable_to_set() -> None:
    with LLMInterface({}, state="memory") as llm, pytest.raises(NoKeyError) as caught:
        llm.send_prompt("Hi", provider="anthropic", model="claude-haiku-4-5")
    assert caught.value.provider == "anthropic"
    assert "ANTHROPIC_API_KEY" in str(caught.value)
    assert ".env" in str(caught.value)


ROUTES: dict[str, Any] = {
    "models": {
        "default": {"provider": "openai", "model": "gpt-4o-mini"},
        "fallback": [{"provider": "anthropic", "model": "claude-haiku-4-5"}],
        "summary": {"provider": "gemini", "model": "gemini-2.5-flash", "max_tokens": 3},
    }
}
YAML = """
models:
  default: {provider: openai, model: gpt-4o-mini}
  fallback:
    - {provider: anthropic, model: claude-haiku-4-5}
  summary:
    provider: gemini
    model: gemini-2.5-flash
    max_tokens: 3
"""
TOML = """
[models.default]
provider = "openai"
model = "gpt-4o-mini"
[[models.fallback]]
provider = "anthropic"
model = "claude-haiku-4-5"
[models.summary]
provider = "gemini"
model = "gemini-2.5-flash"
max_tokens = 3
"""


def given_as_dict(_: Path) -> Mapping[str, Any]:
    return ROUTES


def written(name: str, text: str) -> Callable[[Path], Path]:
    def write(folder: Path) -> Path:
        path = folder / name
        path.write_text(text, encoding="utf-8")
        return path

    return write


FORMS = {
    "dict": given_as_dict,
    "yaml": written("mine.yaml", YAML),
    "yml": written("mine.yml", YAML),
    "toml": written("mine.toml", TOML),
    "json": written("mine.json", json.dumps(ROUTES)),
}


@pytest.mark.quotaflow_simulator(faults=[{"when": {"key": "OPENAI_API_KEY", "nth": [2]}, "do": {"status": 402}}])
@pytest.mark.parametrize("form", FORMS)
def test_tasks_default_and_fallback_follow_the_config_in_every_format(
    make_llm: Callable[..., LLMInterface], tmp_path: Path, form: str
) -> None:
    llm = make_llm(FORMS[form](tmp_path))
    task = llm.send_prompt("Hi", task_name="summary")
    assert (task.provider, task.model, task.finish_reason) == ("gemini", "gemini-2.5-flash", "length")
    own_words = llm.send_prompt("Hi", task_name="summary", max_tokens=100)
    assert own_words.finish_reason == "stop"
    assert llm.send_prompt("Hi").provider == "openai"
    unknown_task = llm.send_prompt("Hi", task_name="nobody configured this")
    assert unknown_task.provider == "anthropic"
    assert [attempt.provider for attempt in unknown_task.attempts] == ["openai", "anthropic"]
    assert unknown_task.attempts[0].failure == "credit_exhausted"


def marked(name: str) -> str:
    return json.dumps({"providers": {"openai": {"keys": [{"key": f"sk-test-{name}", "label": name}]}}})


def test_the_config_is_searched_in_the_promised_order(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def found(argument: Path | None = None) -> list[str]:
        with LLMInterface(argument, state="memory") as llm:
            return labels(llm)

    assert found() == []
    folder = tmp_path / "config" / "quotaflow"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(marked("users"), encoding="utf-8")
    assert found() == ["users"]
    # JSON is YAML; TOML is written out.
    for name, text in (
        ("json", marked("json")),
        ("toml", '[[providers.openai.keys]]\nkey = "sk-test-toml"\nlabel = "toml"\n'),
        ("yaml", marked("yaml")),
    ):
        (tmp_path / f"quotaflow.{name}").write_text(text, encoding="utf-8")
        assert found() == [name]
    named = tmp_path / "named.json"
    named.write_text(marked("variable"), encoding="utf-8")
    monkeypatch.setenv("QUOTAFLOW_CONFIG", str(named))
    assert found() == ["variable"]
    argument = tmp_path / "argument.json"
    argument.write_text(marked("argument"), encoding="utf-8")
    assert found(argument) == ["argument"]


def test_a_config_that_was_named_and_is_not_there_is_an_error(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    with pytest.raises(ConfigError, match="nowhere"):
        LLMInterface(tmp_path / "nowhere.yaml", state="memory")
    monkeypatch.setenv("QUOTAFLOW_CONFIG", str(tmp_path / "nowhere.toml"))
    with pytest.raises(ConfigError, match="nowhere"):
        LLMInterface(state="memory")


def test_the_state_is_in_the_users_cache_folder(tmp_path: Path) -> None:
    with LLMInterface({}, keys={"openai": "sk-test-1"}) as llm:
        llm.status()
    files = [path for path in (tmp_path / "cache").rglob("*") if path.is_file()]
    assert files
    assert all("quotaflow" in str(path.relative_to(tmp_path / "cache")) for path in files)


WRONG: list[tuple[dict[str, Any], str, str]] = [
    ({"config": {"provders": {}}}, "provders", "providers"),
    ({"config": {"providers": {"openai": {"baseurl": "x"}}}}, "providers.openai.baseurl", "base_url"),
    ({"config": {"models": {"default": {"provider": "opnai", "model": "m"}}}}, "models.default", "openai"),
    ({"config": {"models": {"default": {"provider": "openai"}}}}, "models.default", ""),
    ({"limits": {"openai": {"rpn": 60}}}, "limits.openai.rpn", "rpm"),
    ({"limits": {"opnai": {"rpm": 60}}}, "limits.opnai", "openai"),
    ({"keys": {"opnai": "sk-test-1"}}, "keys.opnai", "openai"),
    ({"base_urls": {"openai": "api.openai.com"}}, "base_urls.openai", "http"),
    ({"base_urls": {"openai": "ftp://127.0.0.1/v1"}}, "base_urls.openai", "http"),
    ({"base_urls": {"openai": ""}}, "base_urls.openai", "text"),
    ({"limits": {"openai": {"rpm": {"amount": 60, "zone": "Mars/Olympus"}}}}, "limits.openai.rpm", ""),
    ({"limits": {"openai": {"rpm": {"amount": 60, "refill": "buckett"}}}}, "limits.openai.rpm.refill", "bucket"),
]


@pytest.mark.parametrize(("arguments", "place", "hint"), WRONG, ids=[place for _, place, _ in WRONG])
def test_a_wrong_field_is_named_with_the_nearest_right_one(
    arguments: dict[str, Any], place: str, hint: str
) -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface(**({"config": {}, "state": "memory"} | arguments))
    assert str(caught.value.path or "").startswith(place) or place in caught.value.message
    assert hint in str(caught.value)


@pytest.mark.parametrize("number", [0, -1, 1.5, True, "60 per minute", 10**18, 2**200, [], {}, {"amount": 0}])
@pytest.mark.parametrize("limit", ["rpm", "tpd", "concurrency"])
def test_a_number_that_is_no_limit_is_refused(limit: str, number: Any) -> None:
    with pytest.raises(ConfigError) as caught:
        LLMInterface({}, limits={"openai": {limit: number}}, state="memory")
    assert f"limits.openai.{limit}" in f"{caught.value.path} {caught.value}"


@pytest.mark.parametrize("number", [float("nan"), float("inf"), -float("inf")])
def test_a_number_that_is_none_is_refused(number: float) -> None:
    with pytest.raises(ConfigError, match="limits"):
        LLMInterface({}, limits={"openai": {"rpm": number}}, state="memory")


@pytest.mark.parametrize(
    ("text", "name"),
    [("models: [", "broken.yaml"), ("[models", "broken.toml"), ("{", "broken.json"), ("a: b", "broken.ini")],
)
def test_a_file_that_cannot_be_read_is_named(tmp_path: Path, text: str, name: str) -> None:
    path = tmp_path / name
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as caught:
        LLMInterface(path, state="memory")
    assert name in str(caught.value)
