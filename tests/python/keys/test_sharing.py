"""`APIKeyManager` and prompts: one state for all threads and processes."""

from __future__ import annotations

import copy
import json
import os
import pickle
import subprocess
import sys
import threading
import time
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, until
from quotaflow import APIKeyManager, DailyQuotaError, LLMInterface
from quotaflow.testing import simulator

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders

NAMES = ["OPENAI_API_KEY", "OPENAI_API_KEY_2", "OPENAI_API_KEY_3"]


@pytest.fixture
def world(monkeypatch: pytest.MonkeyPatch) -> Iterator[SimulatedProviders]:
    """A stand-in for OpenAI that knows three keys; the first may send one request a day."""
    keys: list[dict[str, Any]] = [
        {"key": f"sk-test-{number}", "label": name, "provider": "openai", "organization": f"org-{number}"}
        for number, name in enumerate(NAMES)
    ]
    keys[0]["limits"] = {"rpd": 1}
    for key in keys:
        monkeypatch.setenv(key["label"], key["key"])
    with simulator(keys=keys) as running:
        yield running


@pytest.fixture
def llm(world: SimulatedProviders, tmp_path: Path) -> Iterator[LLMInterface]:
    """An interface over the same keys, which it finds in the environment."""
    with LLMInterface({}, base_urls=world.base_urls, state=tmp_path / "state.sqlite") as made:
        yield made


@pytest.fixture
def manager(tmp_path: Path) -> APIKeyManager:
    return APIKeyManager(NAMES[0], NAMES[1:], state=tmp_path / "state.sqlite")


PROGRAM = """
import json, sys
from quotaflow import APIKeyManager

state, primary, *backups = sys.argv[1:]
manager = APIKeyManager(primary, backups, state=state)
for method, *arguments in json.load(sys.stdin):
    print(json.dumps(getattr(manager, method)(*arguments)))
"""


def in_another_process(tmp_path: Path, *calls: tuple[str, ...], names: Sequence[str] = NAMES) -> list[Any]:
    ran = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tmp_path / "state.sqlite"), *names],
        input=json.dumps(calls), capture_output=True, text=True, timeout=30, check=True,
    )  # fmt: skip
    assert "sk-test" not in ran.stdout + ran.stderr
    return [json.loads(line) for line in ran.stdout.splitlines()]


@pytest.mark.usefixtures("world")
def test_a_key_marked_in_one_process_is_left_alone_by_prompts_of_another(
    llm: LLMInterface, tmp_path: Path
) -> None:
    assert llm.send_prompt("Hi", provider="openai", model=MODEL).key == NAMES[0]
    in_another_process(tmp_path, ("mark_key_quota_exhausted", NAMES[0]), ("mark_key_failed", NAMES[1]))
    keys = {llm.send_prompt("Hi", provider="openai", model=MODEL).key for _ in range(4)}
    assert keys == {NAMES[2]}
    assert in_another_process(tmp_path, ("reset",))
    assert {key["state"] for key in llm.status()["keys"] if key["provider"] == "openai"} == {"healthy"}


GEMINI = ["GEMINI_API_KEY", "GEMINI_API_KEY_2"]


def test_a_key_whose_day_prompts_used_up_is_not_offered_in_another_process(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    keys: list[dict[str, Any]] = [{"key": f"gemini-{n}", "label": n, "provider": "gemini"} for n in GEMINI]
    keys[0]["limits"] = {"rpd": 1}
    for key in keys:
        monkeypatch.setenv(key["label"], key["key"])
    state = tmp_path / "state.sqlite"
    with simulator(keys=keys) as world, LLMInterface({}, base_urls=world.base_urls, state=state) as llm:
        replies = [llm.send_prompt("Hi", provider="gemini", model="gemini-2.5-flash") for _ in range(4)]
    failures = [attempt.failure for reply in replies for attempt in reply.attempts]
    assert failures.count("daily_quota") == 1
    offered, status = in_another_process(tmp_path, ("get_next_key_env",), ("get_quota_status",), names=GEMINI)
    assert offered == GEMINI[1]
    assert status == {GEMINI[0]: "quota_exhausted_until_midnight_pt", GEMINI[1]: "available"}


def test_what_another_process_resets_prompts_may_use_again(llm: LLMInterface, tmp_path: Path) -> None:
    only = {"openai": [{"env": NAMES[0]}]}
    for _ in range(2):
        llm.send_prompt("Hi", provider="openai", model=MODEL)
    in_another_process(tmp_path, ("mark_key_quota_exhausted", NAMES[0]))
    with LLMInterface({}, keys=only, state=tmp_path / "state.sqlite") as other:
        with pytest.raises(DailyQuotaError):
            other.send_prompt("Hi", provider="openai", model=MODEL, timeout=5)
        in_another_process(tmp_path, ("reset_quota_only",))
        assert [key["state"] for key in other.status()["keys"] if key["provider"] == "openai"] == ["healthy"]


@pytest.mark.usefixtures("world")
def test_an_error_that_speaks_of_a_key_closes_what_it_speaks_of(llm: LLMInterface, manager: APIKeyManager) -> None:
    def states() -> list[str]:
        return [key["state"] for key in llm.status()["keys"] if key["provider"] == "openai"]

    slow = Exception("429 Rate limit reached for requests per minute (RPM). Please try again in 20s.")
    assert manager.handle_api_error(slow, NAMES[0]) == "rate_limited"
    assert (manager.get_next_key_env(), states()) == (NAMES[0], ["cooling", "healthy", "healthy"])
    bad = Exception("Error code: 401 - {'error': {'message': 'Incorrect API key', 'code': 'invalid_api_key'}}")
    assert manager.handle_api_error(bad, NAMES[1]) == "failed"
    assert states() == ["cooling", "disabled", "healthy"]
    for harmless in (Exception("500 Internal Server Error"), TimeoutError("timed out"), Exception("?")):
        assert manager.handle_api_error(harmless, NAMES[2]) == "failed"
    assert states() == ["cooling", "disabled", "healthy"]
    assert manager.failed_keys == {NAMES[1], NAMES[2]}
    llm.reset("openai")
    assert manager.failed_keys == {NAMES[2]}


class Program:
    """The config manager of a program."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def get_cache_path(self) -> Path:
        return self._folder

    def get_model_config(self, task_name: str | None = None, is_fallback: bool = False) -> dict[str, str] | None:
        return None if is_fallback or task_name else {"provider": "openai", "model": MODEL}


def test_a_config_manager_gives_both_the_same_state(world: SimulatedProviders, tmp_path: Path) -> None:
    program = Program(tmp_path / "cache")
    manager = APIKeyManager(NAMES[0], NAMES[1:], config_manager=program)
    with LLMInterface(program, base_urls=world.base_urls) as llm:
        manager.mark_key_failed(NAMES[0])
        states = {key["label"]: key["state"] for key in llm.status()["keys"] if key["provider"] == "openai"}
        assert states == {NAMES[0]: "disabled", NAMES[1]: "healthy", NAMES[2]: "healthy"}
        llm.reset("openai")
        assert manager.get_quota_status() == dict.fromkeys(NAMES, "available")
    assert (tmp_path / "cache" / "quotaflow.sqlite").exists()
    own = APIKeyManager(NAMES[0], NAMES[1:], config_manager=program, state=tmp_path / "own.sqlite")
    manager.mark_key_failed(NAMES[1])
    assert own.failed_keys == set()


def test_a_block_ends_by_itself(manager: APIKeyManager) -> None:
    ring = manager._ring.now()
    end = time.time() + 0.2
    ring.exhaust(NAMES[0], end)
    assert manager.get_next_key_env() == NAMES[1]
    # Its end is spread upwards by a tenth of its length at most; the clock may be read a millionth later.
    used_up = ring.mark(NAMES[0]).used_up
    assert used_up is not None
    assert end - 1e-6 <= used_up <= end + 0.02 + 1e-6
    until(lambda: manager.is_key_available(NAMES[0]))
    assert manager.quota_exhausted_keys == {}


@pytest.mark.usefixtures("world")
def test_equal_keys_under_two_names_are_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWIN_OPENAI_KEY", " sk-test-0\n")
    manager = APIKeyManager(NAMES[0], ["TWIN_OPENAI_KEY", "sk-test-0", NAMES[1]], state="memory")
    manager.mark_key_quota_exhausted("TWIN_OPENAI_KEY")
    assert manager.get_next_key_env() == NAMES[1]
    assert set(manager.quota_exhausted_keys) == {NAMES[0], "TWIN_OPENAI_KEY", "sk-test-0"}
    manager.reset()
    assert manager.get_next_key_env() == NAMES[0]


@pytest.mark.usefixtures("world")
def test_names_of_several_providers_stand_where_they_belong(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("GEMINI_API_KEY", "gemini-test-1")
    state = tmp_path / "state.sqlite"
    manager = APIKeyManager(NAMES[0], ["GEMINI_API_KEY"], state=state)
    manager.mark_key_quota_exhausted("GEMINI_API_KEY")
    manager.mark_key_quota_exhausted(NAMES[0])
    assert manager.get_quota_status() == {
        NAMES[0]: "quota_exhausted_until_midnight_utc",
        "GEMINI_API_KEY": "quota_exhausted_until_midnight_pt",
    }
    with LLMInterface({}, state=state) as llm:
        used_up = {key["label"] for key in llm.status()["keys"] if key["state"] == "exhausted"}
    assert used_up == {NAMES[0], "GEMINI_API_KEY"}


def test_a_variable_that_is_set_later_is_noticed(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for state in ("memory", tmp_path / "state.sqlite"):
        monkeypatch.setenv("GROQ_API_KEY", "gsk-test-1")
        monkeypatch.delenv("GROQ_API_KEY_2", raising=False)
        manager = APIKeyManager("GROQ_API_KEY", ["GROQ_API_KEY_2"], state=state)
        manager.mark_key_quota_exhausted("GROQ_API_KEY")
        assert manager.get_next_key_env() == "GROQ_API_KEY_2"
        manager.mark_key_failed("GROQ_API_KEY_2")
        assert manager.get_next_key_env() is None
        monkeypatch.setenv("GROQ_API_KEY_2", "gsk-test-2")
        assert manager.get_next_key_env() == "GROQ_API_KEY_2"
        assert not manager.is_key_available("GROQ_API_KEY")
        monkeypatch.setenv("GROQ_API_KEY", "gsk-test-3")
        assert manager.is_key_available("GROQ_API_KEY")


def test_an_unset_name_comes_last(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAMES[2], "sk-test-2")
    manager = APIKeyManager(NAMES[0], NAMES[1:], state="memory")
    assert manager.get_next_key_env() == NAMES[2]
    manager.mark_key_failed(NAMES[2])
    assert manager.get_next_key_env() in NAMES[:2]


def test_a_key_in_dotenv_counts(tmp_path: Path) -> None:
    (tmp_path / ".env").write_text("OPENAI_API_KEY_2=sk-test-1\n")
    manager = APIKeyManager(NAMES[0], NAMES[1:], state="memory")
    assert manager.get_next_key_env() == NAMES[1]
    assert NAMES[1] not in os.environ


@pytest.mark.usefixtures("world")
def test_threads_mark_and_ask_at_once(manager: APIKeyManager) -> None:
    failures: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for _ in range(5):
                manager.mark_key_quota_exhausted(NAMES[number % 2])
                assert manager.get_next_key_env() == NAMES[2]
                assert manager.handle_api_error(Exception("?"), f"OTHER_{number}") == "failed"
        except BaseException as error:  # noqa: BLE001 - told on the test's own thread
            failures.append(error)

    manager.mark_key_quota_exhausted(NAMES[0])
    manager.mark_key_quota_exhausted(NAMES[1])
    threads = [threading.Thread(target=work, args=(number,)) for number in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert manager.failed_keys == {f"OTHER_{number}" for number in range(8)}
    assert manager.get_quota_status().keys() == set(NAMES)


@pytest.mark.usefixtures("world")
def test_a_child_of_a_fork_shares_the_state(manager: APIKeyManager) -> None:
    assert manager.get_next_key_env() == NAMES[0]
    child = os.fork()
    if child == 0:
        manager.mark_key_quota_exhausted(NAMES[0])
        os._exit(0 if manager.get_next_key_env() == NAMES[1] else 1)
    assert os.waitpid(child, 0)[1] == 0
    assert manager.get_next_key_env() == NAMES[1]


@pytest.mark.usefixtures("world")
def test_a_copy_holds_names_and_no_keys(manager: APIKeyManager) -> None:
    manager.mark_key_quota_exhausted(NAMES[0])
    written = pickle.dumps(manager)
    assert b"sk-test" not in written
    for again in (pickle.loads(written), copy.deepcopy(manager)):
        assert again.get_next_key_env() == NAMES[1]
        assert again.backup_key_envs == NAMES[1:]
