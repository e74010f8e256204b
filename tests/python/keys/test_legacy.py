"""`APIKeyManager` beside its pure-Python predecessor."""

from __future__ import annotations

import copy
import json
import logging
import pickle
import time
from datetime import datetime
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import APIKeyManager, RateLimitError
from quotaflow._keys.legacy import QUOTA, RATE

if TYPE_CHECKING:
    from collections.abc import Callable

PROVIDERS = {"google": "GOOGLE_API_KEY", "openai": "OPENAI_API_KEY", "openrouter": "OPENROUTER_API_KEY",
             "anthropic": "ANTHROPIC_API_KEY", "unknown": "SOME_KEY"}  # fmt: skip


ALL_AVAILABLE = {f"GOOGLE_API_KEY_{number}": "available" for number in (1, 2, 3)}


@pytest.fixture
def manager(monkeypatch: pytest.MonkeyPatch) -> APIKeyManager:
    """Three keys of Google."""
    for number in (1, 2, 3):
        monkeypatch.setenv(f"GOOGLE_API_KEY_{number}", f"google-test-{number}")
    return APIKeyManager("GOOGLE_API_KEY_1", ["GOOGLE_API_KEY_2", "GOOGLE_API_KEY_3"])


@pytest.fixture
def of_provider(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], APIKeyManager]:
    """A manager of one key of a provider."""

    def make(provider: str) -> APIKeyManager:
        monkeypatch.setenv(PROVIDERS[provider], f"{provider}-test-1")
        return APIKeyManager(PROVIDERS[provider], [], state="memory")

    return make


def test_it_begins_with_the_primary(manager: APIKeyManager) -> None:
    assert manager.primary_key_env == manager.current_key_env == "GOOGLE_API_KEY_1"
    assert manager.backup_key_envs == ["GOOGLE_API_KEY_2", "GOOGLE_API_KEY_3"]
    assert manager.provider_name == "google"
    assert manager.failed_keys == set()
    assert manager.quota_exhausted_keys == {}
    assert manager.state_file is None
    assert manager.get_quota_status() == ALL_AVAILABLE


@pytest.mark.parametrize(("name", "provider"), [
    ("GOOGLE_API_KEY", "google"), ("my_google_key", "google"), ("ANTHROPIC_API_KEY", "anthropic"),
    ("OPENAI_API_KEY_BACKUP_1", "openai"), ("OPENROUTER_API_KEY", "openrouter"), ("SOME_KEY", "unknown"),
    ("GEMINI_API_KEY", "gemini"), ("GROQ_API_KEY", "groq"),
])  # fmt: skip
def test_the_name_tells_the_provider(name: str, provider: str) -> None:
    assert APIKeyManager(name, [], state="memory").provider_name == provider


def test_the_current_key_stays_until_it_may_not_be_used(manager: APIKeyManager) -> None:
    manager.mark_key_quota_exhausted("GOOGLE_API_KEY_1")
    assert manager.get_next_key_env() == manager.current_key_env == "GOOGLE_API_KEY_2"
    manager.failed_keys.discard("GOOGLE_API_KEY_1")  # it was not there: nothing happens
    manager.reset_quota_only()
    assert manager.get_next_key_env() == "GOOGLE_API_KEY_2"
    manager.mark_key_failed("GOOGLE_API_KEY_2")
    assert manager.get_next_key_env() == "GOOGLE_API_KEY_1"


def test_without_a_key_left_there_is_none_and_an_error_is_logged(
    manager: APIKeyManager, caplog: pytest.LogCaptureFixture
) -> None:
    manager.mark_key_failed("GOOGLE_API_KEY_1")
    manager.mark_key_quota_exhausted("GOOGLE_API_KEY_2")
    manager.mark_key_failed("GOOGLE_API_KEY_3")
    assert manager.get_next_key_env() is None
    [error] = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert "GOOGLE_API_KEY_2 quota_exhausted_until_midnight_pt" in error.getMessage()
    assert "google-test" not in caplog.text
    assert manager.current_key_env == "GOOGLE_API_KEY_1"


def test_failed_wins_over_used_up(manager: APIKeyManager) -> None:
    manager.mark_key_quota_exhausted("GOOGLE_API_KEY_1")
    assert manager.get_quota_status()["GOOGLE_API_KEY_1"] == "quota_exhausted_until_midnight_pt"
    assert manager.is_key_available("GOOGLE_API_KEY_1") is False
    manager.mark_key_failed("GOOGLE_API_KEY_1")
    assert manager.get_quota_status() == ALL_AVAILABLE | {"GOOGLE_API_KEY_1": "failed"}


def test_a_reset_opens_everything_and_begins_anew(manager: APIKeyManager) -> None:
    manager.handle_api_error(OSError("whatever"), "GOOGLE_API_KEY_1")
    manager.mark_key_failed("GOOGLE_API_KEY_2")
    manager.mark_key_quota_exhausted("GOOGLE_API_KEY_3")
    assert manager.get_next_key_env() is None
    manager.reset_quota_only()
    assert manager.get_quota_status() == ALL_AVAILABLE | dict.fromkeys(
        ["GOOGLE_API_KEY_1", "GOOGLE_API_KEY_2"], "failed"
    )
    assert manager.get_next_key_env() == "GOOGLE_API_KEY_3"
    manager.force_quota_reset_check()
    manager.reset()
    assert manager.get_quota_status() == ALL_AVAILABLE
    assert manager.current_key_env == "GOOGLE_API_KEY_1"


def test_used_up_keys_are_remembered_and_other_failures_are_not(manager: APIKeyManager) -> None:
    manager.mark_key_quota_exhausted("GOOGLE_API_KEY_1")
    manager.handle_api_error(ConnectionResetError("reset by peer"), "GOOGLE_API_KEY_2")
    again = APIKeyManager("GOOGLE_API_KEY_1", ["GOOGLE_API_KEY_2"])
    assert again.get_quota_status() == {
        "GOOGLE_API_KEY_1": "quota_exhausted_until_midnight_pt",
        "GOOGLE_API_KEY_2": "available",
    }


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("text", QUOTA)
def test_words_of_a_used_up_quota(text: str, provider: str, of_provider: Callable[[str], APIKeyManager]) -> None:
    manager = of_provider(provider)
    for words in spellings(text):
        assert manager.is_quota_exhausted_error(Exception(words)), words
        assert not manager.is_rate_limit_error(Exception(words)), words
    name = manager.primary_key_env
    assert manager.handle_api_error(Exception(text), name) == "quota_exhausted"
    assert not manager.is_key_available(name)
    assert list(manager.quota_exhausted_keys) == [name]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("text", RATE)
def test_words_of_a_rate_limit(text: str, provider: str, of_provider: Callable[[str], APIKeyManager]) -> None:
    manager = of_provider(provider)
    for words in spellings(text):
        assert manager.is_rate_limit_error(Exception(words)), words
        assert not manager.is_quota_exhausted_error(Exception(words)), words
    name = manager.primary_key_env
    assert manager.handle_api_error(Exception(text), name) == "rate_limited"
    assert manager.is_key_available(name)
    assert manager.get_next_key_env() == name
    assert manager.get_quota_status() == {name: "available"}


def spellings(text: str) -> list[str]:
    words = [text, text.upper(), text.title()]
    return [f"{before}{word}" for before in ("", "429 ", "Error: ", "ClientError('") for word in words]


@pytest.mark.parametrize("provider", PROVIDERS)
@pytest.mark.parametrize("before", ["", "Error ", "HTTP ", "Error code: ", "got ", "("])
def test_a_status_that_stands_alone(
    before: str, provider: str, of_provider: Callable[[str], APIKeyManager]
) -> None:
    manager = of_provider(provider)
    assert manager.is_rate_limit_error(Exception(f"{before}429"))
    assert manager.is_quota_exhausted_error(Exception(f"{before}402"))


@pytest.mark.parametrize("text", [
    "Something broke", "", "order 14290 not found", "warpmap", "40213 rows", "no hardpdf here", "grpd", "notpm",
    "500 Internal Server Error", "Invalid API key", "creditlimitless", "file daily.quotations missing",
])  # fmt: skip
def test_everything_else_is_a_failure(text: str, of_provider: Callable[[str], APIKeyManager]) -> None:
    manager = of_provider("openai")
    error = Exception(text)
    assert not manager.is_rate_limit_error(error)
    assert not manager.is_quota_exhausted_error(error)
    assert manager.handle_api_error(error, "OPENAI_API_KEY") == "failed"
    assert manager.failed_keys == {"OPENAI_API_KEY"}
    assert manager.get_quota_status() == {"OPENAI_API_KEY": "failed"}
    assert manager.get_next_key_env() is None


def test_what_is_said_of_a_minute_wins_over_words_of_a_day(of_provider: Callable[[str], APIKeyManager]) -> None:
    manager = of_provider("google")
    minute = Exception(
        "429 RESOURCE_EXHAUSTED. {'error': {'code': 429, 'message': 'You exceeded your current quota, please "
        "check your plan and billing details.', 'status': 'RESOURCE_EXHAUSTED', 'details': [{'@type': "
        "'type.googleapis.com/google.rpc.QuotaFailure', 'violations': [{'quotaId': "
        "'GenerateRequestsPerMinutePerProjectPerModel-FreeTier', 'quotaValue': '15'}]}, {'@type': "
        "'type.googleapis.com/google.rpc.RetryInfo', 'retryDelay': '20s'}]}}"
    )
    assert manager.handle_api_error(minute, "GOOGLE_API_KEY") == "rate_limited"
    assert manager.get_next_key_env() == "GOOGLE_API_KEY"
    day = Exception(str(minute).replace("PerMinute", "PerDay"))
    assert manager.handle_api_error(day, "GOOGLE_API_KEY") == "quota_exhausted"
    assert manager.get_quota_status() == {"GOOGLE_API_KEY": "quota_exhausted_until_midnight_pt"}


def test_openrouters_reset_is_taken_from_the_error(of_provider: Callable[[str], APIKeyManager]) -> None:
    manager = of_provider("openrouter")
    midnight = (int(time.time()) // 86_400 + 1) * 86_400
    error = Exception(f"Rate limit exceeded: free-models-per-day. {{'X-RateLimit-Reset': '{midnight * 1000}'}}")
    manager.mark_key_quota_exhausted("OPENROUTER_API_KEY", error)
    assert manager.get_quota_status() == {"OPENROUTER_API_KEY": "quota_exhausted_until_midnight_utc"}
    day_before = time.strftime("%Y-%m-%d", time.gmtime(midnight - 1))
    assert manager.quota_exhausted_keys == {"OPENROUTER_API_KEY": day_before}


def test_a_quota_without_a_day_is_used_up_until_its_own_moment(
    of_provider: Callable[[str], APIKeyManager],
) -> None:
    manager = of_provider("openai")
    error = Exception(
        "429 Rate limit reached for gpt-4o on requests per day (RPD): Limit 200, Used 200, Requested 1. "
        "Please try again in 51h12m0s."
    )
    manager.handle_api_error(error, "OPENAI_API_KEY")
    until = time.time() + 51 * 3_600 + 720
    told = manager.get_quota_status()["OPENAI_API_KEY"].removeprefix("quota_exhausted_until_")
    assert abs(datetime.fromisoformat(told).timestamp() - until) < 10


def test_our_own_errors_and_overloads(of_provider: Callable[[str], APIKeyManager]) -> None:
    manager = of_provider("anthropic")
    name = "ANTHROPIC_API_KEY"
    own = RateLimitError("slow down", failure="rate_limited", status=429, retry_after=3.0)
    assert manager.handle_api_error(own, name) == "rate_limited"
    assert manager.handle_api_error(Exception("529 overloaded_error: Overloaded"), name) == "rate_limited"
    assert manager.get_quota_status() == {name: "available"}


def test_the_sets_can_be_changed_and_assigned(manager: APIKeyManager) -> None:
    views: Any = manager
    manager.failed_keys.add("GOOGLE_API_KEY_1")
    manager.mark_key_quota_exhausted("GOOGLE_API_KEY_1")
    manager.failed_keys.clear()
    assert manager.get_quota_status()["GOOGLE_API_KEY_1"] == "quota_exhausted_until_midnight_pt"
    [(name, day)] = manager.quota_exhausted_keys.items()
    manager.quota_exhausted_keys.clear()
    assert manager.get_quota_status() == ALL_AVAILABLE
    manager.quota_exhausted_keys[name] = day
    assert manager.quota_exhausted_keys == {name: day}
    views.quota_exhausted_keys = {"GOOGLE_API_KEY_2": day, "GOOGLE_API_KEY_3": "2020-01-01"}
    assert manager.quota_exhausted_keys == {"GOOGLE_API_KEY_2": day}
    views.failed_keys = {"GOOGLE_API_KEY_3"}
    assert manager.failed_keys | {"x"} == {"GOOGLE_API_KEY_3", "x"}
    views.failed_keys = set()
    views.quota_exhausted_keys = {}
    assert manager.get_quota_status() == ALL_AVAILABLE
    with pytest.raises(KeyError):
        del manager.quota_exhausted_keys["GOOGLE_API_KEY_1"]
    assert (repr(manager.failed_keys), repr(manager.quota_exhausted_keys)) == ("set()", "{}")


def test_the_sets_are_a_dict_and_a_set(manager: APIKeyManager) -> None:
    one, two, three = (f"GOOGLE_API_KEY_{number}" for number in (1, 2, 3))
    manager.mark_key_quota_exhausted(one)
    used_up = manager.quota_exhausted_keys
    day = used_up[one]
    assert isinstance(used_up, dict)
    assert json.loads(json.dumps(used_up)) == {one: day} == json.loads(json.dumps(manager.quota_exhausted_keys))
    for plain in (used_up.copy(), used_up | {}, copy.deepcopy(used_up), pickle.loads(pickle.dumps(used_up))):
        assert type(plain) is dict
        assert plain == {one: day}
    used_up.update({two: day}, **{three: day})
    assert list(used_up) == list(manager.quota_exhausted_keys) == [one, two, three]
    assert (used_up.pop(two), used_up.pop(two, "none"), used_up.setdefault(one, "x")) == (day, "none", day)
    assert used_up.popitem() == (three, day)
    assert manager.quota_exhausted_keys == used_up == {one: day}
    views: Any = manager
    views.quota_exhausted_keys |= {two: day}
    assert used_up == {one: day}, "it is of the moment when it was asked for"
    assert manager.quota_exhausted_keys == {one: day, two: day}

    failed = manager.failed_keys
    assert isinstance(failed, set)
    failed.update({one}, [two])
    assert failed == manager.failed_keys == {one, two}
    for kind, plain_set in (
        (set, failed.copy()), (set, failed.union()), (set, failed | {one}), (set, failed.difference([three])),
        (set, failed.intersection([one, two])), (set, failed.symmetric_difference([])), (set, copy.copy(failed)),
    ):  # fmt: skip
        assert type(plain_set) is kind
        assert plain_set == {one, two}
    views.failed_keys |= {three}
    views.failed_keys -= {one}
    assert manager.failed_keys == {two, three}
    views.failed_keys &= {three}
    views.failed_keys ^= {one, three}
    assert manager.failed_keys == {one}
    assert manager.failed_keys.pop() == one
    assert manager.failed_keys == set()
    with pytest.raises(KeyError):
        manager.failed_keys.remove(one)
    with pytest.raises(KeyError):
        manager.failed_keys.pop()


def test_a_current_key_that_is_none_of_its_own_is_not_offered(manager: APIKeyManager) -> None:
    manager.current_key_env = "NOPE"
    assert manager.get_next_key_env() == manager.current_key_env == "GOOGLE_API_KEY_1"
    manager.current_key_env = "GOOGLE_API_KEY_2"
    assert manager.get_next_key_env() == "GOOGLE_API_KEY_2"
