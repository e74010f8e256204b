"""Views of a `RateLimiter`: waits, choices, its status, a usage file."""

from __future__ import annotations

import asyncio
import json
from typing import TYPE_CHECKING, Any

import pytest

from limiter_helpers import refused, used
from quotaflow import ClosedError, DailyQuotaError, InvalidArgumentError, RateLimiter, RateLimitError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

LIMITS = {
    "scraper": {"rpm": {"amount": 2, "refill": "rolling"}, "rph": {"amount": 3, "refill": "rolling"}},
    "groq": {"rpd": 100, "tpd": 5_000, "max_retries": 7, "models": {"small": {"rpm": 3, "pause_threshold": 0.5}}},
}
KEYS = {"groq": [{"key": "gsk-test-1", "label": "A"}, {"key": "gsk-test-2", "label": "B"}]}


@pytest.fixture
def make() -> Iterator[Callable[[], RateLimiter]]:
    made = []

    def make() -> RateLimiter:
        made.append(RateLimiter({}, keys=KEYS, limits=LIMITS, state="memory"))
        return made[-1]

    yield make
    for limiter in made:
        limiter.close()


@pytest.fixture
def limiter(make: Callable[[], RateLimiter]) -> RateLimiter:
    return make()


def test_the_wait_is_told_for_each_period(limiter: RateLimiter) -> None:
    assert limiter.wait_time("scraper") == 0.0
    for _ in range(2):
        limiter.record_request("scraper")
    assert not limiter.can_request("scraper")
    assert 58 < limiter.wait_time("scraper", "minute") <= 60.2
    assert limiter.wait_time("scraper", "hour") == 0.0
    assert limiter.wait_time("scraper", "day") == 0.0
    limiter.record_retry("scraper")
    assert 3_590 < limiter.wait_time("scraper", "hour") <= 3_600.2
    assert limiter.wait_time("scraper") == pytest.approx(limiter.wait_time("scraper", "hour"), abs=0.5)
    with pytest.raises(InvalidArgumentError, match="there is no period"):
        limiter.wait_time("scraper", "week")  # type: ignore[arg-type]


def test_more_than_a_limit_holds_is_never(limiter: RateLimiter) -> None:
    assert limiter.wait_time("groq", tokens=5_001) == float("inf")
    assert not limiter.can_request("groq", 5_001)
    assert limiter.can_request("groq", 5_000, priority=5)


def test_looking_takes_nothing(limiter: RateLimiter) -> None:
    for _ in range(50):
        assert limiter.can_request("scraper")
        assert limiter.choose_provider(10, ["scraper", "groq"]) == ("scraper", 0.0)
    assert used(limiter, "scraper", period="hour") == 0


def test_the_first_that_can_is_chosen_and_else_the_soonest(limiter: RateLimiter) -> None:
    for _ in range(2):
        limiter.record_request("scraper")
    assert limiter.choose_provider(10, ["scraper", "groq"]) == ("groq", 0.0)
    for label in ("A", "B"):
        limiter.record_error(
            "groq", refused(429, {"retry-after": "3000"}, message="Rate limit reached"), key=label
        )
    name, wait = limiter.choose_provider(10, ["groq", "scraper"])
    assert name == "scraper"
    assert 58 < wait <= 60.2
    assert limiter.choose_provider(10**9, ["groq"]) == ("groq", float("inf"))
    with pytest.raises(InvalidArgumentError, match="preferred is empty"):
        limiter.choose_provider(10, [])


def test_what_was_sent_without_asking_counts(limiter: RateLimiter) -> None:
    label = limiter.record_request("groq", 300, key="B")
    assert label == "B"
    verdict = limiter.record_error("groq", refused(401, message="Invalid API Key"), 200, key="B")
    assert verdict is not None
    assert verdict.failure == "auth"
    assert not limiter.can_request("groq", key="B")
    assert limiter.can_request("groq")
    assert limiter.record_error("groq", ValueError("mine"), 50, key="A") is None
    [entry] = limiter.status("B")["keys"]
    assert (entry["state"], entry["sent"]) == ("disabled", 2)
    [entry] = limiter.status("A")["keys"]
    assert (entry["blocks"], entry["sent"]) == ([], 1)
    assert [limit["used"] for limit in entry["limits"] if limit["resource"] == "tokens"] == [50]


@pytest.mark.parametrize(
    ("error", "again"),
    [
        (refused(429, message="Rate limit reached"), True),
        (refused(429, {"retry-after": "5"}, message="Rate limit reached"), True),
        (refused(429, {"retry-after": "5000"}, message="Rate limit reached"), False),
        (refused(503, message="busy"), True),
        (ConnectionResetError("reset by peer"), True),
        (TimeoutError(), True),
        (refused(401, message="Invalid API key"), False),
        (refused(400, message="bad"), False),
        (refused(404, message="no"), False),
        (RateLimitError("wait", retry_after=1.0), True),
        (DailyQuotaError("tomorrow", retry_after=40_000.0), False),
        (DailyQuotaError("tomorrow"), False),
        (ValueError("line 429"), False),
    ],
    ids=str,
)
def test_it_says_whether_to_come_back(error: Exception, again: bool) -> None:
    assert RateLimiter.should_retry(error) is again


def test_the_config_of_a_provider_is_told_in_its_own_words(limiter: RateLimiter) -> None:
    stated = limiter.provider_config("groq")
    assert (stated["provider"], stated["keys"], stated["rpd"], stated["tpd"]) == ("groq", ["A", "B"], 100, 5_000)
    assert (stated["max_retries"], stated["base_delay"], stated["retry_multiplier"]) == (7, 1.0, 2.0)
    assert (stated["pause_threshold"], stated["max_tokens_per_request"]) == (0.9, None)
    small = stated["models"]["small"]
    assert (small["rpm"], small["pause_threshold"], small["max_retries"]) == (3, 0.5, 7)
    assert limiter.provider_config("scraper")["base_url"] is None
    assert "gsk-test" not in json.dumps(stated)
    with pytest.raises(InvalidArgumentError, match="did you mean"):
        limiter.provider_config("grok")


def test_status_and_reset_know_keys(limiter: RateLimiter) -> None:
    limiter.record_request("groq", key="A")
    limiter.record_request("groq", key="B")
    limiter.record_request("scraper")
    with pytest.raises(InvalidArgumentError, match="the labels are A, B, no key"):
        limiter.status("C")
    assert limiter.reset("A") >= 1
    assert used(limiter, "groq") == 1
    limiter.reset(provider="groq")
    assert (used(limiter, "groq"), used(limiter, "scraper", period="hour")) == (0, 1)
    limiter.clear()
    assert used(limiter, "scraper", period="hour") == 0


def test_reset_takes_a_provider_where_a_key_could_stand(limiter: RateLimiter) -> None:
    def spend() -> None:
        limiter.clear()
        limiter.record_request("scraper")
        for label in ("A", "B"):
            limiter.record_request("groq", key=label)

    def left() -> tuple[int, int]:
        return used(limiter, "groq"), used(limiter, "scraper", period="hour")

    cases: list[tuple[tuple[str, ...], dict[str, str], tuple[int, int]]] = [
        (("groq",), {}, (0, 1)),
        (("GROQ",), {}, (0, 1)),
        (("scraper",), {}, (2, 0)),
        ((), {"provider": "groq"}, (0, 1)),
        (("A",), {}, (1, 1)),
        ((), {"key": "A"}, (1, 1)),
        (("A", "groq"), {}, (1, 1)),
        (("groq", "A"), {}, (1, 1)),
        ((), {"key": "A", "provider": "groq"}, (1, 1)),
        ((), {}, (0, 0)),
    ]
    for args, named, expected in cases:
        spend()
        limiter.reset(*args, **named)
        assert left() == expected, (args, named)
    with pytest.raises(InvalidArgumentError, match="no key with this label"):
        limiter.reset("nobody")


def test_a_closed_limiter_says_so(limiter: RateLimiter) -> None:
    limiter.record_request("groq")
    limiter.close()
    calls: list[Callable[[], object]] = [
        lambda: limiter.can_request("groq"),
        lambda: limiter.wait_time("groq"),
        lambda: limiter.choose_provider(1, ["groq"]),
        lambda: limiter.record_request("groq"),
        lambda: limiter.record_error("groq", ValueError()),
        lambda: limiter.acquire("groq"),
        lambda: limiter.run("groq", len),
        lambda: asyncio.run(limiter.arun("groq", len)),
        limiter.reset,
        limiter.clear,
    ]
    for call in calls:
        with pytest.raises(ClosedError, match="this RateLimiter was closed"):
            call()
    # What was counted can still be told.
    assert used(limiter, "groq") == 1


def test_what_was_saved_counts_elsewhere_and_not_twice(make: Callable[[], RateLimiter], tmp_path: Path) -> None:
    there, here = make(), make()
    path = tmp_path / "usage.json"
    there.record_request("groq", 400, key="A")
    there.record_error("groq", refused(401, message="Invalid API Key"), key="B")
    for _ in range(2):
        there.record_request("scraper")
    there.save_usage(path)
    here.record_request("scraper")
    for _ in range(2):
        assert here.load_usage(path) == 3
        assert used(here, "scraper", period="hour") == 2
        assert (used(here, "groq"), used(here, "groq", "tokens")) == (2, 400)
    assert not here.can_request("scraper")
    assert not here.can_request("groq", key="B")
    assert here.can_request("groq")
    here.save_usage(path)
    assert there.load_usage(path) == 3
    assert used(there, "scraper", period="hour") == 2


def test_the_file_is_versioned_json_without_keys(limiter: RateLimiter, tmp_path: Path) -> None:
    limiter.record_request("groq", 400, key="A")
    limiter.save_usage(str(tmp_path / "usage.json"))
    text = (tmp_path / "usage.json").read_text(encoding="utf-8")
    content = json.loads(text)
    assert "gsk-test" not in text
    assert (content["format"], content["version"]) == ("quotaflow usage", 1)
    [key] = content["keys"]
    assert (key["provider"], key["label"], key["blocks"]) == ("groq", "A", [])
    assert {(limit["resource"], limit["used"]) for limit in key["limits"]} == {("requests", 1), ("tokens", 400)}
    assert [entry.name for entry in tmp_path.iterdir() if "usage" in entry.name] == ["usage.json"]


def test_a_file_that_cannot_be_written_leaves_the_old_one_whole(
    limiter: RateLimiter, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "usage.json"
    limiter.save_usage(path)
    before = path.read_bytes()
    limiter.record_request("scraper")

    def full(*_: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("quotaflow._limiter.usage_file.os.fsync", full)
    with pytest.raises(StateError, match="No space left"):
        limiter.save_usage(path)
    assert path.read_bytes() == before
    assert [entry.name for entry in tmp_path.iterdir() if "usage" in entry.name] == ["usage.json"]
    with pytest.raises(StateError, match="cannot be written"):
        limiter.save_usage(tmp_path / "missing" / "usage.json")


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (None, "cannot be read"),
        ("", "was not written by"),
        ("[]", "was not written by"),
        ('{"format": "quotaflow usage"}', "was not written by"),
        ("\x00\xff", "was not written by"),
        ("[" * 100_000, "was not written by"),
        ('{"format": "quotaflow usage", "version": 2, "keys": []}', "has version 2"),
        ('{"format": "quotaflow usage", "version": 1, "keys": [{"provider": 3}]}', "the saved usage is invalid"),
    ],
)
def test_another_file_is_refused_and_nothing_loaded(
    limiter: RateLimiter, tmp_path: Path, content: str | None, words: str
) -> None:
    path = tmp_path / "usage.json"
    if content is not None:
        path.write_text(content, encoding="latin-1")
    with pytest.raises(StateError, match=words):
        limiter.load_usage(path)


def test_what_is_not_known_here_is_left_out(limiter: RateLimiter, tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    told = {"model": "*", "resource": "requests", "period": "day", "used": 5, "reset": 9e9}
    keys = [
        {"provider": "groq", "label": "gone", "limits": [told]},
        {"provider": "nobody", "label": "A", "limits": [told]},
        {"provider": "groq", "label": "A", "limits": [told | {"reset": 1.0}, told | {"period": "month"}]},
    ]
    path.write_text(json.dumps({"format": "quotaflow usage", "version": 1, "keys": keys}), encoding="utf-8")
    assert limiter.load_usage(path) == 1
    assert used(limiter, "groq") == 0


def test_what_was_used_before_a_restart_is_told_and_saved(tmp_path: Path) -> None:
    state, path = tmp_path / "state.sqlite", tmp_path / "usage.json"
    with RateLimiter({}, limits=LIMITS, state=state) as before:
        before.record_request("scraper")
        before.record_request("openai", 10)
    with RateLimiter({}, limits=LIMITS, state=state) as after:
        assert used(after, "scraper", period="hour") == 1
        assert [key["label"] for key in after.status()["keys"]] == ["no key", "no key"]
        after.save_usage(path)
    assert "scraper" in path.read_text(encoding="utf-8")
