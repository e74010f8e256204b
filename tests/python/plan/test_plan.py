"""A plan beside the batch it describes, over real sockets in real time."""

from __future__ import annotations

import json
import random
import signal
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from concurrency import Crowd
from quotaflow import CheckpointError, InvalidArgumentError, LLMInterface, NoKeyError
from quotaflow.testing import simulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

MODEL = "gpt-4o-mini"
PROMPTS = [f"Name river number {number}." for number in range(900)]


def interface(world: Any, limits: dict[str, Any], **more: Any) -> LLMInterface:
    return LLMInterface(
        more.pop("config", {}), keys=world.keys, base_urls=world.base_urls, limits=limits, state="memory", **more
    )


@pytest.mark.quiet
def test_a_batch_ends_when_the_plan_says() -> None:
    limits = {"rpm": {"amount": 3_000, "burst": 20, "refill": "bucket"}, "pause_threshold": 1.0}
    keys = [
        {
            "key": f"sk-test-{number}",
            "label": f"key {number}",
            "provider": "openai",
            "limits": {"rpm": 3_000, "burst": 20},
        }
        for number in range(3)
    ]
    with simulator(keys=keys, latency=0.05) as world, interface(world, {"openai": limits}) as llm:
        llm.send_batch(PROMPTS[:6], model=MODEL, progress=False)
        plan = llm.plan(PROMPTS, model=MODEL)
        began = time.monotonic()
        batch = llm.send_batch(PROMPTS, model=MODEL, progress=False, dedupe=False)
        took = time.monotonic() - began
        assert batch.summary.successful == plan.answered == 900
        assert not any(key["refused"] for key in world.stats()["keys"].values())
    assert plan.binding is not None
    assert plan.binding.limit == "3000 requests per minute"
    assert took == pytest.approx(plan.seconds, rel=0.05, abs=0.15)
    assert plan.requests == 900
    assert {key.key for key in plan.keys} == {"key 0", "key 1", "key 2"}
    assert plan.finish_if_doubled is not None
    assert plan.finish_if_doubled < plan.finish


WORDS = (
    "river",
    "lake",
    "mountain",
    "city",
    "of the",
    "and",
    "which is",
    "longest",
    "deepest",
    "named after whom",
)


def question(number: int, words: int) -> str:
    """So many words that no other question has."""
    picked = random.Random(number)
    return f"{number}: " + " ".join(picked.choice(WORDS) for _ in range(words))


def rolling() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    limits = {"rps": {"amount": 10, "refill": "rolling"}, "pause_threshold": 1.0}
    return {"latency": 0.1}, {"limits": {"openai": limits}}, [question(n, 5) for n in range(40)], {"model": MODEL}


def tokens() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    limits = {"tpm": {"amount": 150_000, "burst": 3_000, "refill": "bucket"}}
    prompts = [question(n, 90) for n in range(70)]
    return {"latency": 0.1}, {"limits": {"openai": limits | {"pause_threshold": 1.0}}}, prompts, {"model": MODEL}


def slow_answers() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    world = {"latency": {"min": 0.1, "max": 0.4}}
    return world, {"limits": {"openai": {"concurrency": 5}}}, [question(n, 5) for n in range(60)], {"model": MODEL}


def two_models() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    limits = {"rpm": {"amount": 600, "burst": 10, "refill": "bucket"}, "pause_threshold": 1.0}
    prompts = [{"prompt": question(n, 5), "model": MODEL if n % 2 else "gpt-4o"} for n in range(40)]
    return {"latency": 0.1}, {"limits": {"openai": limits}}, prompts, {"model": MODEL}


def a_user_with_limits() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    config = {"users": {"ada": {"rps": {"amount": 8, "refill": "rolling"}}}}
    return (
        {"latency": 0.1},
        {"config": config},
        [question(n, 5) for n in range(28)],
        {"model": MODEL, "user": "ada"},
    )


@pytest.mark.quiet
@pytest.mark.parametrize("shape", [rolling, tokens, slow_answers, two_models, a_user_with_limits])
def test_a_run_ends_within_a_twentieth_of_its_plan(shape: Callable[[], tuple[Any, ...]]) -> None:
    told, ours, prompts, call = shape()
    limits = ours.pop("limits", {})
    with simulator(seed=3, **told) as world, interface(world, limits, **ours) as llm:
        # How long answers take, and how large they are.
        llm.send_batch([question(-1 - n, 90) for n in range(10)], progress=False, model=MODEL)
        plan = llm.plan(prompts, **call)
        began = time.monotonic()
        batch = llm.send_batch(prompts, progress=False, **call)
        took = time.monotonic() - began
    assert batch.summary.successful == plan.answered == len(prompts)
    assert took == pytest.approx(plan.seconds, rel=0.05, abs=0.15 if told["latency"] == 0.1 else 0.4)
    assert plan.seconds > 1.5


def tokens_of(provider: str, model: str) -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    told, ours, prompts, call = tokens()
    ours["limits"] = {provider: ours["limits"]["openai"]}
    return told, ours, prompts, call | {"model": model, "provider": provider}


def of_groq() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    return tokens_of("groq", "llama-3.1-8b-instant")


def of_anthropic() -> tuple[dict[str, Any], dict[str, Any], list[Any], dict[str, Any]]:
    return tokens_of("anthropic", "claude-sonnet-4")


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("shape", "most"),
    [(rolling, None), (slow_answers, 16)]
    + [(of_one, most) for of_one in (tokens, of_groq, of_anthropic) for most in (None, 100)],
)
def test_so_does_one_of_which_nothing_was_sent_before(
    shape: Callable[[], tuple[Any, ...]], most: int | None
) -> None:
    told, ours, prompts, call = shape()
    limits = ours.pop("limits", {})
    # OpenAI bills by its own tokenizer, which is public; of others four characters a token is what anybody knows.
    bills = {"tokens": {"tokenizer": "o200k_base"}} if call.get("provider") is None else {}
    latency = told["latency"]
    latency = latency if isinstance(latency, float) else (latency["min"] + latency["max"]) / 2
    if most is not None:
        call["max_tokens"] = most
    providers = [{"key": f"key-{name}", "provider": name} for name in ("openai", "groq", "anthropic")]
    with simulator(bills, keys=providers, seed=3, **told) as world, interface(world, limits, **ours) as llm:
        plan = llm.plan(prompts, latency=latency, output_tokens=16, **call)
        began = time.monotonic()
        batch = llm.send_batch(prompts, progress=False, **call)
        took = time.monotonic() - began
    assert batch.summary.successful == plan.answered == len(prompts)
    assert took == pytest.approx(plan.seconds, rel=0.05, abs=0.15 if told["latency"] == 0.1 else 0.4)
    assert plan.seconds > 1.5


@pytest.mark.quiet
def test_a_run_that_begins_beside_others_ends_within_a_twentieth_of_its_plan() -> None:
    limits = {"openai": {"concurrency": 5}}
    with simulator(latency=0.4) as world, interface(world, limits) as llm:
        llm.send_batch(PROMPTS[20:40], model=MODEL, progress=False)
        with Crowd(llm, world, 4, model=MODEL):
            plan = llm.plan(PROMPTS[:20], model=MODEL)
            began = time.monotonic()
            llm.send_batch(PROMPTS[:20], model=MODEL, progress=False)
            took = time.monotonic() - began
    assert took == pytest.approx(plan.seconds, rel=0.05, abs=0.4)
    assert 1.5 < plan.seconds < 2.5


def test_nothing_is_sent_and_nothing_is_counted() -> None:
    with simulator() as world, interface(world, {"openai": {"rpm": 10}}) as llm:
        before = llm.status()["keys"]
        llm.plan(count=1_000, model=MODEL)
        assert world.stats()["requests"] == 0
        assert [key["limits"] for key in llm.status()["keys"]] == [key["limits"] for key in before]


def test_what_was_used_and_what_is_refused() -> None:
    with simulator() as world, interface(world, {"openai": {"rpd": {"amount": 50, "refill": "rolling"}}}) as llm:
        for _ in range(5):
            llm.send_prompt("Hi", model=MODEL)
        plan = llm.plan(count=100, tokens=20, model=MODEL)
    assert (plan.answered, plan.refused) == (40, 60)
    assert plan.why_refused is not None
    assert "50 requests per day" in plan.why_refused
    assert plan.patient_finish is not None
    assert plan.patient_finish - plan.start > timedelta(days=1)
    report = str(plan)
    assert "60 would be refused" in report
    assert "40 of 100 prompts" in report


def test_costs() -> None:
    own = {"prices": {"openai": {MODEL: {"input": 1, "output": 10}}}}
    with simulator() as world, interface(world, {}, config=own) as llm:
        plan = llm.plan(count=1_000, tokens=100, output_tokens=50, max_tokens=80, model=MODEL)
        unknown = llm.plan(count=10, provider="openai", model="house-model")
    assert plan.cost is not None
    assert (plan.cost.low, plan.cost.expected, plan.cost.high) == (Decimal("0.1"), Decimal("0.6"), Decimal("0.9"))
    assert unknown.cost is None


def test_prompts_of_every_shape_are_planned(tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    messages = [{"role": "user", "content": "One?"}]
    given = ["Two?", messages, {"prompt": "Three?"}, {"prompt": "Four?", "model": "claude-sonnet-4", "id": 4}]
    path.write_text("".join(json.dumps(prompt) + "\n" for prompt in given))
    with simulator() as world, interface(world, {}) as llm:
        for prompts in (given, path, iter(given)):
            plan = llm.plan(prompts, model=MODEL, latency=timedelta(seconds=2))
            assert [(key.provider, key.requests) for key in plan.keys] == [("openai", 3), ("anthropic", 1)]
            assert plan.seconds >= 2
        assert llm.plan([], model=MODEL).answered == llm.plan(count=0, model=MODEL).prompts == 0


@pytest.mark.parametrize(
    "wrong",
    [
        {}, {"prompts": ["One?"], "count": 1}, {"prompts": ["One?"], "tokens": 5}, {"count": -1},
        {"count": "many"},
        {"count": 1, "concurrency": 0}, {"count": 1, "latency": -1}, {"count": 1, "output_tokens": 1.5},
        {"prompts": "One?"}, {"count": 1, "priority": "high"},
    ],
)  # fmt: skip
def test_what_cannot_be_planned(wrong: dict[str, Any], make_llm: Callable[..., LLMInterface]) -> None:
    with pytest.raises(InvalidArgumentError):
        make_llm().plan(model=MODEL, **wrong)


def test_a_prompt_that_is_none_is_refused_and_a_key_that_is_missing_is_raised(
    make_llm: Callable[..., LLMInterface], tmp_path: Path
) -> None:
    plan = make_llm().plan(["One?", ""], model=MODEL)
    assert (plan.prompts, plan.answered, plan.refused, plan.patient_finish) == (2, 1, 1, None)
    assert (
        plan.why_refused == "the prompt is empty — pass a string or a list of {'role': …, 'content': …} messages"
    )
    path = tmp_path / "prompts.jsonl"
    path.write_text(
        '"One?"\nno JSON\n{"prompt": "Two?", "provider": "groq", "model": "llama-3.1-8b-instant"}\n"One?"\n'
    )
    plan = make_llm().plan(path, model=MODEL)
    assert (plan.prompts, plan.answered, plan.refused) == (3, 1, 2)
    assert plan.why_refused is not None
    assert plan.why_refused.startswith("line 2 of prompts.jsonl: this is no JSON")
    with pytest.raises(NoKeyError):
        make_llm().plan(count=1, provider="groq", model="llama-3.1-8b-instant")


def test_it_takes_what_the_batch_takes(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    same: dict[str, Any] = {
        "model": MODEL, "user": "ada", "dedupe": True, "checkpoint": tmp_path / "answers.jsonl", "timeout": 30,
        "max_retries": 2, "retry": True, "retry_delay": timedelta(seconds=0.1), "stop_on_error": True,
        "progress": False, "on_retry": print, "concurrency": 5, "temperature": 0,
    }  # fmt: skip
    with simulator() as world, interface(world, {}) as llm:
        assert llm.plan(["One?", "Two?", "One?"], **same).answered == 2
        assert llm.plan(["One?", "One?"], **same | {"dedupe": False}).answered == 2
        assert not (tmp_path / "answers.jsonl").exists()
        assert llm.send_batch(["One?", "Two?", "One?"], **same).summary.successful == 3
        assert llm.plan(["One?", "Two?", "Three?"], **same).answered == 1
        with pytest.raises(CheckpointError):
            llm.plan(["One?"], **same | {"model": "gpt-4o"})
    with pytest.raises(InvalidArgumentError):
        make_llm().plan(count=1, model=MODEL, dedupe="yes")  # type: ignore[arg-type]


def test_a_signal_ends_a_plan_that_would_take_minutes() -> None:
    def ring(*_: object) -> None:
        raise KeyboardInterrupt

    limits = {"openai": {"rpm": 600, "tpm": 100_000}}
    before = signal.signal(signal.SIGALRM, ring)
    try:
        with simulator() as world, interface(world, limits) as llm:
            signal.setitimer(signal.ITIMER_REAL, 0.3)
            with pytest.raises(KeyboardInterrupt):
                llm.plan(count=20_000_000, tokens=300, model=MODEL)
            assert llm.plan(count=10, tokens=300, model=MODEL).answered == 10
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_options_of_ones_own_share_the_quota_and_the_lines_of_the_report() -> None:
    with simulator() as world, interface(world, {"openai": {"rpm": {"amount": 60, "burst": 20}}}) as llm:
        for prompts in (
            [{"prompt": f"Question {number}", "seed": number} for number in range(3_000)],
            [{"prompt": f"Question {number}", "max_tokens": number + 1} for number in range(3_000)],
        ):
            plan = llm.plan(prompts, model=MODEL, priority=5)
            assert plan.seconds == pytest.approx(3_000, rel=0.01)
            assert [key.requests for key in plan.keys] == [3_000]


def test_what_refuses_binds_and_so_does_a_stated_concurrency() -> None:
    with simulator() as world, interface(world, {"openai": {"rpd": 50, "pause_threshold": 1.0}}) as llm:
        plan = llm.plan(count=120, model=MODEL)
        assert plan.binding is not None
        assert (plan.binding.limit, plan.binding.refused) == ("50 requests per day", 70)
        assert (plan.answered, plan.answered_if_doubled) == (50, 100)
        assert "held back most by 50 requests per day at openai/gpt-4o-mini: 70 refused" in str(plan)
        assert "with twice that limit: 100 answered" in str(plan)
    with simulator() as world, interface(world, {"openai": {"concurrency": 4}}) as llm:
        for concurrency in (None, 2):
            plan = llm.plan(count=80, latency=1, model=MODEL, concurrency=concurrency)
            assert plan.finish_if_doubled is not None
            assert (plan.finish_if_doubled - plan.start).total_seconds() == pytest.approx(
                plan.seconds / 2, rel=0.05
            )


def test_each_size_has_its_price() -> None:
    prompts = ["word " * 300_000, *(f"A short one, {number}." for number in range(3))]
    with simulator() as world, interface(world, {}) as llm:
        plan = llm.plan(prompts, model="gemini-2.5-pro", output_tokens=100)
        alone = [llm.plan([prompt], model="gemini-2.5-pro", output_tokens=100) for prompt in prompts]
    assert plan.cost is not None
    assert plan.cost.expected == sum(part.cost.expected for part in alone if part.cost is not None)


def test_a_price_that_nobody_knows_is_told_once(caplog: pytest.LogCaptureFixture) -> None:
    with simulator() as world, interface(world, {}) as llm:
        for _ in range(2):
            assert llm.plan(count=10, provider="openai", model="a-model-of-a-plan").cost is None
    assert [record.getMessage().partition(",")[0] for record in caplog.records] == [
        "no price is known for openai/a-model-of-a-plan"
    ]


def test_who_waits_with_less_priority_goes_after() -> None:
    limits = {"openai": {"rpm": {"amount": 60, "burst": 1}, "pause_threshold": 1.0}}
    with (
        simulator(latency=0.01) as world,
        interface(world, limits) as llm,
        Crowd(llm, world, 30, model=MODEL, priority=1),
    ):
        assert llm.plan(count=5, model=MODEL, priority=1).ahead >= 25
        plan = llm.plan(count=5, model=MODEL, priority=6)
    assert plan.ahead == 0
    assert plan.seconds < 7


def test_calls_under_way_end_and_leave_room() -> None:
    for limits in ({}, {"openai": {"concurrency": 2}}):
        with simulator(latency=20) as world, interface(world, limits) as llm, Crowd(llm, world, 4, model=MODEL):
            plan = llm.plan(count=20, latency=1, model=MODEL)
        assert (plan.answered, plan.refused) == (20, 0)


def test_how_long_answers_are_is_learned_where_they_do_not_count_and_after_a_first_burst() -> None:
    for model in ("gemini-2.5-flash", MODEL):
        with simulator({"tokens": {"output": 33}}, latency=0.1) as world, interface(world, {}) as llm:
            llm.send_batch([question(n, 5) for n in range(20)], model=model, progress=False)
            assert llm.plan(count=10, model=model).output_tokens == 330
            estimate = llm.estimate_cost("Name a river.", model=model)
            assert estimate is not None
            assert 33 <= estimate.output_tokens < 50


def test_a_first_burst_counts_what_was_billed() -> None:
    limits = {"tpd": {"amount": 1_000_000, "refill": "rolling"}}
    with simulator(latency={"min": 0.05, "max": 0.3}) as world, interface(world, {"openai": limits}) as llm:
        batch = llm.send_batch([question(n, 5) for n in range(20)], model=MODEL, progress=False)
        used = next(
            limit["used"]
            for key in llm.status()["keys"] if key["provider"] == "openai"
            for limit in key["limits"] if limit["limit"] == 1_000_000
        )  # fmt: skip
    assert used == batch.summary.input_tokens + batch.summary.output_tokens


def test_a_deadline_is_how_long_calls_wait() -> None:
    limits = {"openai": {"rpd": {"amount": 50, "refill": "rolling"}, "pause_threshold": 1.0}}
    with simulator() as world, interface(world, limits) as llm:
        answered = [
            llm.plan(
                count=120, model=MODEL, deadline=None if hours is None else time.time() + 3_600 * hours
            ).answered
            for hours in (None, 1, 25, 49)
        ]
        own = [{"prompt": "a", "deadline": datetime.now(UTC) + timedelta(hours=1)}, {"prompt": "b", "timeout": 5}]
        assert llm.plan(own, model=MODEL, deadline=time.time() + 3_600).answered == 2
        with pytest.raises(InvalidArgumentError, match="deadline"):
            llm.plan(count=1, model=MODEL, deadline=5)
    assert answered == [50, 50, 100, 120]


def test_what_would_be_answered_after_the_deadline_says_so() -> None:
    with simulator() as world, interface(world, {"openai": {"rpm": 60}}) as llm:
        plan = llm.plan(count=500, model=MODEL, deadline=time.time() + 60)
        assert 50 < plan.answered < 100
        assert plan.why_refused == "the deadline comes before their answers"
