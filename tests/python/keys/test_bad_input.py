"""Bad input to `APIKeyManager`: a clear error or a warning, nothing lost."""

from __future__ import annotations

import json
import logging
import os
import pickle
import time
from datetime import UTC, date, datetime, timedelta
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import APIKeyManager, ConfigError, InvalidArgumentError, QuotaflowError
from quotaflow._keys.names import GivenKey

if TYPE_CHECKING:
    from pathlib import Path

NAME, BACKUP = "GOOGLE_API_KEY", "GOOGLE_API_KEY_BACKUP_1"
PLANTED = "AIza-planted-1"


@pytest.fixture(autouse=True)
def two_keys(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, "google-test-1")
    monkeypatch.setenv(BACKUP, "google-test-2")


def day(back: int = 0) -> str:
    """The day in California."""
    manager = APIKeyManager(NAME, [], state="memory")
    manager.mark_key_quota_exhausted(NAME)
    today = date.fromisoformat(manager.quota_exhausted_keys[NAME])
    return (today - timedelta(days=back)).isoformat()


@pytest.mark.parametrize(("primary", "backups", "path"), [
    ("", [], "primary_key_env"), ("  ", [], "primary_key_env"), (None, [], "primary_key_env"),
    (7, [], "primary_key_env"), (b"KEY", [], "primary_key_env"), (NAME, [""], "backup_key_envs[0]"),
    (NAME, [BACKUP, None], "backup_key_envs[1]"), (NAME, 7, "backup_key_envs"),
])  # fmt: skip
def test_what_is_no_name_is_named(primary: Any, backups: Any, path: str) -> None:
    with pytest.raises(ConfigError) as raised:
        APIKeyManager(primary, backups, state="memory")
    assert raised.value.path == path


def test_lists_of_every_shape() -> None:
    nothing: Any
    for nothing in ((), None, []):
        assert APIKeyManager(NAME, nothing, state="memory").backup_key_envs == []
    assert APIKeyManager(NAME, BACKUP, state="memory").backup_key_envs == [BACKUP]
    assert APIKeyManager(NAME, iter([BACKUP, NAME, BACKUP]), state="memory").backup_key_envs == [BACKUP]


@pytest.mark.parametrize("value", ["google\ntest", "google test", "google\x7f", "göögle"])
def test_a_key_that_cannot_be_one_is_an_error_without_the_key(value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(NAME, value)
    with pytest.raises(ConfigError, match=NAME) as raised:
        APIKeyManager(NAME, [], state="memory")
    assert value not in repr(raised.value) + str(raised.value)
    with pytest.raises(ConfigError) as raised:
        APIKeyManager("AIza-" + value, [], state="memory")
    assert value not in repr(raised.value) + str(raised.value)


@pytest.mark.parametrize("value", ["google\ntest", "google test", "google\x7f", "göögle"])
@pytest.mark.parametrize("name", [NAME, BACKUP])
def test_one_key_that_cannot_be_one_is_a_warning_and_never_offered(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv(name, value)
    manager = APIKeyManager(NAME, [BACKUP, "AIza-" + value], state="memory")
    good = BACKUP if name == NAME else NAME
    assert [manager.get_next_key_env() for _ in range(3)] == [good] * 3
    assert manager.get_quota_status() == {name: "failed", good: "available", "AIza-" + value: "failed"}
    told = [record for record in caplog.records if "never offered" in record.getMessage()]
    assert [record.levelno for record in told] == [logging.WARNING] * 2
    assert name in caplog.text
    assert value not in caplog.text + repr(manager._ring.now())
    manager.failed_keys.clear()
    manager.reset()
    assert manager.failed_keys == {name, "AIza-" + value}
    monkeypatch.setenv(name, "google-test-3")
    assert manager.is_key_available(name)


def test_a_variable_that_becomes_nonsense_is_not_offered(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    manager = APIKeyManager(NAME, [BACKUP], state="memory")
    manager.mark_key_quota_exhausted(NAME)
    monkeypatch.setenv(BACKUP, "two words")
    for _ in range(3):
        assert manager.get_next_key_env() is None
    assert manager.failed_keys == {BACKUP}
    told = [record for record in caplog.records if "never offered" in record.getMessage()]
    assert len(told) == 1
    assert BACKUP in told[0].getMessage()
    manager.reset()
    assert manager.get_next_key_env() == NAME
    monkeypatch.setenv(NAME, "more\nwords")
    assert manager.get_quota_status() == {NAME: "failed", BACKUP: "failed"}
    monkeypatch.setenv(BACKUP, "google-test-2")
    assert manager.get_next_key_env() == BACKUP
    assert "words" not in caplog.text


def test_space_around_a_key_or_a_name_is_left_out() -> None:
    manager = APIKeyManager(f" {PLANTED}\n", [f"{NAME}\n"], state="memory")
    assert (manager.get_next_key_env(), manager.backup_key_envs) == (PLANTED, [NAME])
    manager.mark_key_failed(f"{PLANTED}\n")
    assert manager.get_next_key_env() == NAME


@pytest.mark.parametrize(
    "key", ["TOPSECRETKEY0123456789ABCDEF0123", "0123456789abcdef0123", "Abcdef0123456789abcd"]
)
def test_a_long_word_full_of_digits_is_a_key(
    key: str, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    manager = APIKeyManager(NAME, [key], state="memory")
    manager.mark_key_failed(key)
    manager.mark_key_quota_exhausted(NAME)
    assert manager.get_next_key_env() is None
    for thing in (manager, manager.get_quota_status(), manager.failed_keys, manager.backup_key_envs):
        assert key not in repr(thing)
    assert key not in caplog.text
    monkeypatch.setenv(key, "google-test-3")
    assert key in repr(APIKeyManager(NAME, [key], state="memory")), "a variable of that name is one"


@pytest.mark.parametrize("value", [None, "", "   ", "first,second"])
def test_a_variable_without_a_key_is_told_once(
    value: str | None, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    name = "SOME_KEYS"
    if value is not None:
        monkeypatch.setenv(name, value)
    manager = APIKeyManager(name, [], state="memory")
    for _ in range(3):
        assert manager.get_next_key_env() == name
    assert [record.levelno for record in caplog.records if name in record.getMessage()] == [logging.WARNING]


def test_a_key_may_stand_for_its_name() -> None:
    manager = APIKeyManager(PLANTED, [NAME], state="memory")
    assert manager.provider_name == "gemini"
    key = manager.get_next_key_env()
    assert key == PLANTED
    assert key is not None
    assert manager.handle_api_error(Exception("Daily limit exceeded"), key) == "quota_exhausted"
    assert manager.get_quota_status() == {
        PLANTED: "quota_exhausted_until_midnight_pt",
        NAME: "available",
    }
    assert manager.get_next_key_env() == NAME
    assert list(APIKeyManager("YOUR_KEY", [], state="memory").get_quota_status()) == ["YOUR_KEY"]


def test_nothing_that_is_looked_at_shows_a_key(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    manager = APIKeyManager(PLANTED, [NAME], state="memory")
    manager.mark_key_quota_exhausted(PLANTED, Exception(f"quota exceeded for {PLANTED}"))
    manager.handle_api_error(Exception(f"bad key {PLANTED}"), NAME)
    looked_at = [manager, manager.get_quota_status(), manager.quota_exhausted_keys, manager.failed_keys,
                 vars(manager), manager._ring.now(), manager.get_next_key_env()]  # fmt: skip
    for thing in looked_at:
        assert PLANTED not in repr(thing)
        assert "google-test" not in repr(thing)
    assert PLANTED not in caplog.text
    assert "google-test" not in caplog.text
    for holder in (manager, manager.primary_key_env, manager.get_quota_status()):
        with pytest.raises(TypeError, match="not pickled"):
            pickle.dumps(holder)
    assert isinstance(manager.primary_key_env, GivenKey)
    assert b"google-test" not in pickle.dumps(APIKeyManager(NAME, [BACKUP], state="memory"))


class _Mute(Exception):  # noqa: N818 - it is what is tested
    def __str__(self) -> str:
        raise RuntimeError("I do not say")


class _Odd:
    @property
    def status_code(self) -> int:
        raise OSError


ANYTHING = [
    None, "", "boom", 429, 4.5, b"429", [], {}, object(), _Mute(), _Odd(), Exception, KeyboardInterrupt(),
    "\ud800", "got\xa0429", "say\u3000x 402", "x" * 1_000_000, "429 " * 100_000,
]  # fmt: skip


@pytest.mark.parametrize("error", ANYTHING, ids=range(len(ANYTHING)))
def test_anything_may_be_an_error(error: object) -> None:
    manager = APIKeyManager(NAME, [BACKUP], state="memory")
    kinds = (manager.is_quota_exhausted_error(error), manager.is_rate_limit_error(error))
    told = manager.handle_api_error(error, NAME)
    assert told == {(True, False): "quota_exhausted", (False, True): "rate_limited"}.get(kinds, "failed")
    manager.mark_key_quota_exhausted(BACKUP, error)
    assert manager.get_quota_status()[BACKUP] == "quota_exhausted_until_midnight_pt"


@pytest.mark.parametrize("name", [None, "", " ", 3, b"x"])
def test_what_is_no_name_is_refused_by_every_method(name: Any) -> None:
    manager = APIKeyManager(NAME, [], state="memory")
    for act in (
        manager.is_key_available,
        manager.mark_key_failed,
        manager.mark_key_quota_exhausted,
        lambda name: manager.handle_api_error(Exception(), name),
    ):
        with pytest.raises(InvalidArgumentError):
            act(name)


def test_a_name_nobody_told_of_is_taken_in_and_not_offered() -> None:
    manager = APIKeyManager(NAME, [], state="memory")
    manager.mark_key_quota_exhausted(NAME)
    manager.mark_key_failed("GOOGLE_API_KEY_9")
    assert manager.is_key_available("GOOGLE_API_KEY_8")
    assert manager.get_next_key_env() is None
    assert not manager.is_key_available(NAME)
    assert list(manager.get_quota_status()) == [NAME]
    assert manager.failed_keys == {"GOOGLE_API_KEY_9"}


class ConfigManager:
    """As programs have them."""

    def __init__(self, folder: object, provider: object = "groq") -> None:
        self._folder, self._provider = folder, provider

    def get_cache_path(self) -> object:
        return self._folder

    def get_model_config(self, task_name: str | None = None, is_fallback: bool = False) -> dict[str, object]:
        return {"provider": self._provider, "task": task_name, "fallback": is_fallback}


def test_a_config_manager_tells_provider_and_folder(tmp_path: Path) -> None:
    manager = APIKeyManager("KEY_ONE", [], None, ConfigManager(str(tmp_path)), state="memory")
    assert (manager.provider_name, manager.state_file) == ("groq", tmp_path / "api_key_state.json")
    assert APIKeyManager("KEY_ONE", [], None, ConfigManager(None, 7), state="memory").provider_name == "unknown"
    assert APIKeyManager("KEY_ONE", [], None, object(), state="memory").state_file is None
    given = APIKeyManager("KEY_ONE", provider="Google", state="memory")
    given.mark_key_quota_exhausted("KEY_ONE")
    assert given.get_quota_status() == {"KEY_ONE": "quota_exhausted_until_midnight_pt"}
    with pytest.raises(QuotaflowError):
        APIKeyManager(NAME, [], provider="no/name", state="memory")
    for wrong in ("", 7, b"x"):
        with pytest.raises(ConfigError, match="state_file"):
            APIKeyManager(NAME, [], wrong, state="memory")  # type: ignore[arg-type]


def old_file(tmp_path: Path, entries: object) -> Path:
    path = tmp_path / "api_key_state.json"
    path.write_text(json.dumps({"quota_exhausted_keys": entries, "last_updated": "2026-01-01T00:00:00"}))
    return path


def test_the_old_file_is_taken_over_once(tmp_path: Path) -> None:
    path = old_file(tmp_path, {NAME: day(), BACKUP: day(back=1)})
    manager = APIKeyManager(NAME, [BACKUP], path)
    assert manager.get_quota_status() == {NAME: "quota_exhausted_until_midnight_pt", BACKUP: "available"}
    assert manager.quota_exhausted_keys == {NAME: day()}
    assert not path.exists()
    assert NAME in (tmp_path / "api_key_state.json.taken-over").read_text()
    manager.reset()
    assert APIKeyManager(NAME, [BACKUP], path).quota_exhausted_keys == {}


def test_what_the_old_file_says_of_others_stays_there(tmp_path: Path) -> None:
    others = {"OPENAI_API_KEY": datetime.now(UTC).date().isoformat(), "ANTHROPIC_API_KEY": "2020-01-01"}
    path = old_file(tmp_path, {NAME: day(), **others})
    APIKeyManager(NAME, [], path)
    assert json.loads(path.read_text())["quota_exhausted_keys"] == others
    later = APIKeyManager("OPENAI_API_KEY", [], path)
    assert "OPENAI_API_KEY" in later.quota_exhausted_keys
    assert json.loads(path.read_text())["quota_exhausted_keys"] == others, "its variable is not set yet"
    assert [file.name for file in tmp_path.glob("api_key_state*")] == [path.name]


def test_with_a_state_in_memory_the_old_file_stays(tmp_path: Path) -> None:
    path = old_file(tmp_path, {NAME: day()})
    for _ in range(2):
        assert APIKeyManager(NAME, [], path, state="memory").quota_exhausted_keys == {NAME: day()}


@pytest.mark.parametrize(
    "nonsense", ["yesterday", "", "2026-13-45", "2999-01-01", 7, None, [], "2026-01-01\ud800"]
)
def test_a_day_that_is_none_is_left_in_the_file(
    nonsense: object, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = old_file(tmp_path, {NAME: nonsense, BACKUP: day()})
    manager = APIKeyManager(NAME, [BACKUP], path)
    assert manager.quota_exhausted_keys == {BACKUP: day()}
    assert json.loads(path.read_text())["quota_exhausted_keys"] == {NAME: nonsense}
    assert "no day to believe" in caplog.text


BROKEN = [
    b"", b"{", b"\x00\xff\xfe", b"null", b"[]", b"7", b'"text"', b"[" * 200_000, b" " * 1_000_001,
    b'{"quota_exhausted_keys": []}', b'{"quota_exhausted_keys": 3}', b'{"quota_exhausted_keys": {"KEY": "2026',
]  # fmt: skip


@pytest.mark.parametrize("content", BROKEN, ids=range(len(BROKEN)))
def test_a_broken_old_file_is_a_warning_and_stays(
    content: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "api_key_state.json"
    path.write_bytes(content)
    manager = APIKeyManager(NAME, [BACKUP], path)
    assert manager.get_next_key_env() == NAME
    assert path.read_bytes() == content
    assert [record.levelno for record in caplog.records if path.name in record.getMessage()] == [logging.WARNING]


def test_places_where_no_old_file_can_be(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    os.mkfifo(tmp_path / "pipe")
    (tmp_path / "file").write_text("x")
    for path in (tmp_path, tmp_path / "pipe"):
        caplog.clear()
        assert APIKeyManager(NAME, [], path, state="memory").get_next_key_env() == NAME
        assert "is no file" in caplog.text
    caplog.clear()
    for path in (tmp_path / "missing" / "x.json", tmp_path / "file" / "x.json"):
        assert APIKeyManager(NAME, [], path, state="memory").get_next_key_env() == NAME
    assert caplog.text == ""
    assert APIKeyManager(NAME, [], "nul\0", state="memory").get_next_key_env() == NAME


def test_an_old_file_that_cannot_be_put_aside_is_a_warning(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from pathlib import Path as AnyPath

    def refuse(self: Path, target: object) -> None:
        raise PermissionError(13, "Permission denied", str(self), str(target))

    monkeypatch.setattr(AnyPath, "replace", refuse)
    path = old_file(tmp_path, {NAME: day()})
    assert APIKeyManager(NAME, [], path).quota_exhausted_keys == {NAME: day()}
    assert path.exists()
    assert "Permission denied" in caplog.text


def test_a_spoilt_state_is_a_state_error_and_stays(tmp_path: Path) -> None:
    from quotaflow import StateError

    state = tmp_path / "state.sqlite"
    state.write_bytes(b"no database" * 1_000)
    old = old_file(tmp_path, {NAME: day()})
    before = time.time()
    with pytest.raises(StateError):
        APIKeyManager(NAME, [], old, state=state)
    assert old.exists()
    assert old.stat().st_mtime <= before
