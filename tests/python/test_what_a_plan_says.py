"""Does a plan say what a batch then does, over real sockets and in real time?"""

from __future__ import annotations

import json
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import InvalidArgumentError, InvalidPromptError, LLMInterface, NoKeyError
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


def test_a_prompt_that_is_none_and_a_key_that_is_missing(make_llm: Callable[..., LLMInterface]) -> None:
    with pytest.raises(InvalidPromptError):
        make_llm().plan(["One?", ""], model=MODEL)
    with pytest.raises(NoKeyError):
        make_llm().plan(count=1, provider="groq", model="llama-3.1-8b-instant")


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
