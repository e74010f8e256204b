"""What a refusal leads to: another key, another provider, a retry, an error."""

from __future__ import annotations

import asyncio
import socket
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any
from zoneinfo import ZoneInfo

import pytest

from quotaflow import (
    Attempt,
    AuthError,
    CallError,
    DailyQuotaError,
    InvalidRequestError,
    LLMInterface,
    NotFoundError,
    OverloadedError,
    PermissionDeniedError,
    RateLimitError,
    ServerError,
)

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow.testing import SimulatedProviders

MODEL = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}


def keys(
    count: int, provider: str = "openai", organization: str | None = None, **limits: Any
) -> list[dict[str, Any]]:
    """So many keys, each of an organisation of its own unless one is named."""
    return [
        {
            "key": f"{provider}-test-{number}",
            "label": f"{provider} {number}",
            "provider": provider,
            "organization": organization or f"org-{number}",
            "limits": limits,
        }
        for number in range(1, count + 1)
    ]


def refused(simulated: SimulatedProviders) -> dict[str, int]:
    seen: dict[str, int] = simulated.stats()["refused"]
    return seen


def of_key(llm: LLMInterface, label: str) -> dict[str, Any]:
    return next(key for key in llm.status()["keys"] if key["label"] == label)


def walk(attempts: tuple[Attempt, ...]) -> list[tuple[str, str | None, int | None]]:
    return [(attempt.key, attempt.failure, attempt.status) for attempt in attempts]


@pytest.mark.quiet
@pytest.mark.quotaflow_simulator(keys=keys(2, rpm=60, burst=1))
def test_a_minutes_refusal_goes_to_another_group_at_once(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm()
    # Somebody else has just used the first key.
    make_llm(state="memory", keys={"openai": simulated.keys["openai"][:1]}).send_prompt("Hi", model="gpt-4o-mini")
    began = time.monotonic()
    replies = [llm.send_prompt("Hi", model="gpt-4o-mini")]
    assert time.monotonic() - began < 0.5
    assert walk(replies[0].attempts) == [("openai 1", "rate_limited", 429), ("openai 2", None, 200)]
    assert of_key(llm, "openai 1")["state"] == "cooling"
    assert of_key(llm, "openai 1")["refused"] == 1


@pytest.mark.quotaflow_simulator(keys=keys(2, organization="org-1", rpm=120, burst=1))
def test_a_key_of_the_same_organisation_is_no_way_out(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm()
    for label in ("openai 1", "openai 2"):  # so that both are known to belong together
        only = [key for key in simulated.keys["openai"] if key["label"] == label]
        make_llm(keys={"openai": only}).send_prompt("Hi", model="gpt-4o-mini", timeout=5)
    before = simulated.stats()["requests"]
    reply = llm.send_prompt("Hi", model="gpt-4o-mini")
    assert [attempt.failure for attempt in reply.attempts[:-1]] == ["rate_limited"] * (len(reply.attempts) - 1)
    # One refusal at most: after it the organisation is waited for, and its other key is not tried meanwhile.
    assert simulated.stats()["requests"] - before <= 2
    groups = {key["group"] for key in llm.status()["keys"] if key["provider"] == "openai"}
    assert len(groups) == 1


@pytest.mark.quotaflow_simulator(
    keys=[*keys(2, organization="org-1", rpd=1), {"key": "openai-test-9", "label": "other", "provider": "openai"}]
)
def test_a_days_refusal_closes_the_whole_organisation_and_rotates(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm()
    for _ in range(6):
        llm.send_prompt("Hi", model="gpt-4o-mini")
    # The second key of the organisation may be tried once, as long as nothing has named its organisation.
    assert refused(simulated)["rpd"] <= 2
    assert simulated.stats()["keys"]["other"]["accepted"] == 5


@pytest.mark.quotaflow_simulator(keys=keys(1, rpd=2))
def test_openais_day_is_learned_from_its_headers_and_never_refused(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm()
    for _ in range(2):
        llm.send_prompt("Hi", model="gpt-4o-mini")
    with pytest.raises(DailyQuotaError) as caught:
        llm.send_prompt("Hi", model="gpt-4o-mini")
    assert caught.value.attempts == ()
    assert caught.value.retry_after == pytest.approx(86_400 / 2, rel=0.01)
    key = of_key(llm, "openai 1")
    assert key["state"] == "exhausted"
    [limit] = key["limits"]
    assert (limit["period"], limit["limit"], limit["remaining"]) == ("day", 2, 0)
    assert refused(simulated) == {}


@pytest.mark.quotaflow_simulator(keys=keys(1, rpm=600, rpd=2))
def test_openais_day_rolls_and_ends_when_its_message_says(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    # Its headers show the minute; the day comes as a surprise.
    llm = make_llm()
    for _ in range(2):
        llm.send_prompt("Hi", model="gpt-4o-mini")
    with pytest.raises(DailyQuotaError) as caught:
        llm.send_prompt("Hi", model="gpt-4o-mini")
    assert walk(caught.value.attempts) == [("openai 1", "daily_quota", 429)]
    assert caught.value.retry_after == pytest.approx(86_400 / 2, rel=0.01)
    key = of_key(llm, "openai 1")
    assert key["state"] == "exhausted"
    [block] = key["blocks"]
    assert (block["reason"], block["origin"]) == ("daily_quota", "provider")
    assert block["until"] == pytest.approx(time.time() + 43_200, abs=60)
    with pytest.raises(DailyQuotaError) as again:
        llm.send_prompt("Hi", model="gpt-4o-mini")
    assert again.value.attempts == ()
    assert again.value.retry_after == pytest.approx(43_200, rel=0.01)
    assert refused(simulated) == {"rpd": 1}


# Midnight may be near: nobody waits for it here.
IMPATIENT = {"max_wait": 1}


@pytest.mark.quotaflow_simulator(keys=keys(2, "gemini", rpd=1))
def test_geminis_day_ends_at_midnight_in_los_angeles(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(IMPATIENT)
    used = [llm.send_prompt("Hi", model=MODEL["gemini"]).key for _ in range(2)]
    assert sorted(used) == ["gemini 1", "gemini 2"]
    with pytest.raises(DailyQuotaError) as caught:
        llm.send_prompt("Hi", model=MODEL["gemini"])
    today = datetime.now(ZoneInfo("America/Los_Angeles"))
    midnight = datetime.combine(today.date() + timedelta(days=1), datetime.min.time(), tzinfo=today.tzinfo)
    assert caught.value.retry_after == pytest.approx(midnight.timestamp() - time.time(), abs=120)
    assert [attempt.failure for attempt in caught.value.attempts] == ["daily_quota"] * 2
    for label in ("gemini 1", "gemini 2"):
        key = of_key(llm, label)
        assert key["state"] == "exhausted"
        assert key["blocks"][0]["until"] == pytest.approx(midnight.timestamp(), abs=120)
    with pytest.raises(DailyQuotaError):
        llm.send_prompt("Hi", model=MODEL["gemini"])
    assert refused(simulated) == {"rpd": 2}


@pytest.mark.quotaflow_simulator(keys=keys(1, "openrouter", rpd=1))
def test_openrouters_free_day_ends_at_midnight_utc_for_every_free_model(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(IMPATIENT)
    llm.send_prompt("Hi", model="mistralai/mistral-small:free")
    with pytest.raises(DailyQuotaError) as caught:
        llm.send_prompt("Hi", model="mistralai/mistral-small:free")
    midnight = datetime.combine(datetime.now(UTC).date() + timedelta(days=1), datetime.min.time(), tzinfo=UTC)
    assert caught.value.retry_after == pytest.approx(midnight.timestamp() - time.time(), abs=120)
    with pytest.raises(DailyQuotaError):
        llm.send_prompt("Hi", model="qwen/qwen3:free")
    assert refused(simulated) == {"rpd": 1}


@pytest.mark.parametrize("provider", MODEL)
def test_a_bad_key_is_disabled_and_the_next_one_answers(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders, provider: str
) -> None:
    [good] = simulated.keys[provider]
    llm = make_llm(keys={provider: [{"key": "stale-test-1", "label": "stale"}, good]})
    replies = [llm.send_prompt("Hi", model=MODEL[provider]) for _ in range(2)]
    first = replies[0].attempts[0]
    assert (first.key, first.failure) == ("stale", "auth")
    assert len(replies[1].attempts) == 1
    assert of_key(llm, "stale")["state"] == "disabled"
    assert of_key(llm, "stale")["blocks"][0]["until"] is None
    assert refused(simulated) == {"auth": 1}


def test_when_every_key_is_bad_the_error_says_which(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders
) -> None:
    llm = make_llm(keys={"openai": [{"key": "stale-test-1", "label": "stale"}]})
    for attempts in (1, 0):
        with pytest.raises(AuthError) as caught:
            llm.send_prompt("Hi", model="gpt-4o-mini")
        assert caught.value.key == "stale"
        assert caught.value.retry_after is None
        assert len(caught.value.attempts) == attempts
    assert refused(simulated) == {"auth": 1}


CREDIT = [
    ("openai", {"status": 402}),
    ("openai", {"status": 429, "body": '{"error": {"message": "You exceeded your current quota.", '
                '"type": "insufficient_quota", "param": null, "code": "insufficient_quota"}}'}),
    ("anthropic", {"status": 400, "body": '{"type": "error", "error": {"type": "invalid_request_error", '
                   '"message": "Your credit balance is too low to access the Anthropic API."}}'}),
]  # fmt: skip


@pytest.mark.parametrize(("provider", "effect"), CREDIT)
def test_gone_credit_closes_the_group_until_it_is_reset(provider: str, effect: dict[str, Any]) -> None:
    from quotaflow.testing import simulator

    world = keys(2, provider)
    fault = {"when": {"key": f"{provider} 1", "first": 2}, "do": effect}
    with (
        simulator(keys=world, faults=[fault]) as simulated,
        LLMInterface({}, keys=simulated.keys, base_urls=simulated.base_urls, state="memory") as llm,
    ):
        model = MODEL[provider]
        reply = llm.send_prompt("Hi", model=model)
        assert walk(reply.attempts)[0] == (f"{provider} 1", "credit_exhausted", effect["status"])
        assert reply.key == f"{provider} 2"
        assert of_key(llm, f"{provider} 1")["state"] == "exhausted"
        assert llm.send_prompt("Hi", model=model).key == f"{provider} 2"
        assert llm.reset(provider, key=f"{provider} 1") > 0
        assert of_key(llm, f"{provider} 1")["state"] == "healthy"
        llm.send_prompt("Hi", model=model)
        assert simulated.stats()["refused"] == {"injected": 2}


FALLBACK = {
    "models": {
        "default": {"provider": "anthropic", "model": MODEL["anthropic"]},
        "fallback": [{"provider": "gemini", "model": MODEL["gemini"]}],
    }
}


@pytest.mark.quotaflow_simulator(faults=[{"when": {"provider": "anthropic"}, "do": {"status": 529}}])
def test_an_overloaded_provider_is_tried_once_more_and_then_left(
    make_llm: Callable[..., LLMInterface],
) -> None:
    llm = make_llm(FALLBACK)
    reply = llm.send_prompt("Hi", retry_delay=0.01)
    assert [(a.provider, a.failure, a.status) for a in reply.attempts] == [
        ("anthropic", "overloaded", 529),
        ("anthropic", "overloaded", 529),
        ("gemini", None, 200),
    ]
    # The provider's trouble is no fault of the key.
    assert of_key(llm, "ANTHROPIC_API_KEY")["state"] == "healthy"
    with pytest.raises(OverloadedError) as caught:
        llm.send_prompt("Hi", retry_delay=0.01, fallback=False)
    assert [a.provider for a in caught.value.attempts] == ["anthropic"] * 4
    assert caught.value.status == 529
    # By now it is known to be in trouble: who has somewhere else to go goes there at once.
    [avoided] = llm.status()["avoided"]
    assert avoided["target"].startswith("anthropic/")
    reply = llm.send_prompt("Hi", retry=False)
    assert [(a.provider, a.failure) for a in reply.attempts] == [("gemini", None)]


@pytest.mark.quotaflow_simulator(keys=keys(1))
def test_a_local_server_that_is_switched_off_is_passed_by(make_llm: Callable[..., LLMInterface]) -> None:
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        local = f"http://127.0.0.1:{nobody.getsockname()[1]}/v1"
        llm = make_llm(
            {
                "models": {
                    "default": {"provider": "home", "model": "small", "base_url": local},
                    "fallback": {"provider": "openai", "model": "gpt-4o-mini"},
                }
            }
        )
        met = [[(a.provider, a.failure) for a in llm.send_prompt("Hi").attempts] for _ in range(2)]
    assert met == [[("home", "network"), ("openai", None)], [("openai", None)]]
    assert [avoided["target"] for avoided in llm.status()["avoided"]] == ["home/small"]


@pytest.mark.quotaflow_simulator(
    faults=[{"when": {"nth": [1, 2]}, "do": {"status": 500}}, {"when": {"nth": [3]}, "do": {"status": 503}}]
)
@pytest.mark.parametrize("is_async", [False, True])
def test_a_broken_server_is_asked_again(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders, is_async: bool
) -> None:
    llm = make_llm()
    seen: list[Attempt] = []

    def send() -> Any:
        asked: dict[str, Any] = {"model": "gpt-4o-mini", "retry_delay": 0.02, "on_retry": seen.append}
        return asyncio.run(llm.asend_prompt("Hi", **asked)) if is_async else llm.send_prompt("Hi", **asked)

    reply = send()
    assert [(a.failure, a.status) for a in reply.attempts] == [
        ("server_error", 500),
        ("server_error", 500),
        ("overloaded", 503),
        (None, 200),
    ]
    assert all(type(attempt) is Attempt for attempt in seen)
    assert tuple(seen) == reply.attempts[:-1]
    assert [a.waited_seconds > 0.015 for a in reply.attempts] == [False, True, True, True]
    assert reply.latency >= sum(a.seconds + a.waited_seconds for a in reply.attempts) * 0.99
    assert of_key(llm, "OPENAI_API_KEY")["state"] == "healthy"
    assert simulated.stats()["requests"] == 4


@pytest.mark.quotaflow_simulator(faults=[{"do": {"status": 500}}])
@pytest.mark.parametrize(
    ("arguments", "attempts"),
    [({}, 4), ({"retry": False}, 1), ({"max_retries": 0}, 1), ({"max_retries": 1}, 2)],
)
def test_retries_are_counted(
    make_llm: Callable[..., LLMInterface], simulated: SimulatedProviders, arguments: dict[str, Any], attempts: int
) -> None:
    with pytest.raises(ServerError) as caught:
        make_llm().send_prompt("Hi", model="gpt-4o-mini", **({"retry_delay": 0.01} | arguments))
    assert len(caught.value.attempts) == simulated.stats()["requests"] == attempts
    assert caught.value.hint


@pytest.mark.quotaflow_simulator(keys=keys(1, rpm=1))
@pytest.mark.parametrize("arguments", [{"retry": False}, {"max_retries": 0}])
def test_without_retries_a_refusal_is_told_at_once(
    make_llm: Callable[..., LLMInterface], arguments: dict[str, Any]
) -> None:
    make_llm(state="memory").send_prompt("Hi", model="gpt-4o-mini")
    with pytest.raises(RateLimitError) as caught:
        make_llm().send_prompt("Hi", model="gpt-4o-mini", **arguments)
    assert caught.value.retry_after == pytest.approx(60, abs=2)
    assert walk(caught.value.attempts) == [("openai 1", "rate_limited", 429)]


REFUSALS: list[tuple[int, type[CallError], str]] = [
    (400, InvalidRequestError, "invalid_request"),
    (403, PermissionDeniedError, "permission"),
    (404, NotFoundError, "not_found"),
    (422, InvalidRequestError, "invalid_request"),
]


@pytest.mark.parametrize("provider", MODEL)
@pytest.mark.parametrize(("status", "kind", "failure"), REFUSALS, ids=[str(status) for status, _, _ in REFUSALS])
def test_what_would_fail_again_is_not_sent_again(
    make_llm: Callable[..., LLMInterface],
    simulated: SimulatedProviders,
    provider: str,
    status: int,
    kind: type[CallError],
    failure: str,
) -> None:
    effect: dict[str, Any] = {"status": status}
    if (provider, status) == ("gemini", 400):  # where a bare 400 would be a bad key
        effect["body"] = '{"error": {"code": 400, "message": "Bad value.", "status": "INVALID_ARGUMENT"}}'
    simulated.add_faults({"do": effect})
    with pytest.raises(kind) as caught:
        make_llm().send_prompt("Hi", model=MODEL[provider])
    error = caught.value
    assert (error.failure, error.status, error.provider, error.model) == (
        failure,
        status,
        provider,
        MODEL[provider],
    )
    assert error.key == f"{provider.upper()}_API_KEY"
    assert [attempt.failure for attempt in error.attempts] == [failure]
    assert error.hint
    assert simulated.stats()["requests"] == 1


@pytest.mark.quotaflow_simulator(keys=[keys(1)[0] | {"models": ["gpt-4o-mini"]}])
def test_an_unknown_model_is_not_found(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    with pytest.raises(NotFoundError) as caught:
        llm.send_prompt("Hi", model="gpt-9")
    assert "gpt-9" in str(caught.value)
    assert llm.send_prompt("Hi", model="gpt-4o-mini")


@pytest.mark.quotaflow_simulator(faults=[{"when": {"first": 1}, "do": {"status": 503}}])
def test_a_hook_that_raises_hurts_nobody(
    make_llm: Callable[..., LLMInterface], monkeypatch: pytest.MonkeyPatch
) -> None:
    import sys

    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)

    def hook(_: Attempt) -> None:
        raise RuntimeError("the hook is broken")

    reply = make_llm().send_prompt("Hi", model="gpt-4o-mini", retry_delay=0.01, on_retry=hook)
    assert len(reply.attempts) == 2
    assert [str(problem.exc_value) for problem in told] == ["the hook is broken"]


@pytest.mark.quiet
@pytest.mark.quotaflow_simulator(keys=keys(2, "anthropic", rpm=60, burst=1))
def test_a_retry_after_on_an_answer_is_no_refusal(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    began = time.monotonic()
    for _ in range(2):
        llm.send_prompt("Hi", model=MODEL["anthropic"])
    assert time.monotonic() - began < 0.8
