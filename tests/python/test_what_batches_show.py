"""What is somebody told who watches a batch, and what is said of it at the end?"""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from looking import MODEL
from quotaflow import BatchProgress, BatchSummary, LLMInterface
from quotaflow.batch_summaries import Tally
from quotaflow.progress_bars import Bar, Line, Silence, Told, in_words, shown_to
from quotaflow.remaining_time import RemainingTime
from quotaflow.testing import simulator

if TYPE_CHECKING:
    from collections.abc import Callable


def prompts(count: int) -> list[str]:
    return [f"prompt {number}" for number in range(count)]


def test_a_function_is_told_how_far_it_is(make_llm: Callable[..., LLMInterface]) -> None:
    told: list[BatchProgress] = []
    with simulator(latency=0.05) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 2}})
        batch = llm.send_batch(prompts(20), model=MODEL, progress=told.append)
    assert 3 <= len(told) <= batch.summary.seconds * 10 + 2
    assert [progress.done for progress in told] == sorted(progress.done for progress in told)
    assert [progress.finished for progress in told] == [False] * (len(told) - 1) + [True]
    last = told[-1]
    assert (last.done, last.total, last.left, last.failed, last.under_way) == (20, 20, 0, 0, 0)
    assert (last.input_tokens, last.output_tokens) == (batch.summary.input_tokens, batch.summary.output_tokens)
    middle = told[len(told) // 2]
    assert middle.waiting_on == f"calls in flight at openai/{MODEL}"
    assert 0 < middle.waiting <= middle.under_way <= 20
    assert 0 < middle.done < 20


def test_the_total_of_a_generator_is_known_at_its_end(make_llm: Callable[..., LLMInterface]) -> None:
    told: list[BatchProgress] = []
    with simulator(latency=0.02) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 2}})
        list(llm.iter_batch(iter(prompts(30)), 4, model=MODEL, progress=told.append))
    assert (told[0].total, told[0].left, told[0].remaining_seconds) == (None, None, None)
    assert (told[-1].total, told[-1].done) == (30, 30)


def test_a_function_that_raises_is_logged_once(
    make_llm: Callable[..., LLMInterface], caplog: pytest.LogCaptureFixture
) -> None:
    def broken(_progress: BatchProgress) -> None:
        raise ZeroDivisionError

    with simulator(latency=0.1) as world, caplog.at_level(logging.WARNING, "quotaflow"):
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 2}})
        assert llm.send_batch(prompts(10), model=MODEL, progress=broken).summary.successful == 10
    assert [record.message for record in caplog.records if "progress=" in record.message] == [
        "what progress= calls raised; the batch goes on"
    ]


def test_the_time_left_comes_from_the_quotas(make_llm: Callable[..., LLMInterface]) -> None:
    told: list[BatchProgress] = []
    with simulator() as world:
        limits = {"openai": {"rpm": {"amount": 600, "burst": 20, "refill": "bucket"}}}
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=limits)
        for item in llm.iter_batch(prompts(10_000), model=MODEL, progress=told.append, priority=5):
            if item.index == 25:
                break
    waiting = [progress for progress in told if progress.waiting_on]
    assert waiting[-1].waiting_on == f"requests per minute at openai/{MODEL}"
    # Ten a second for what is left, whatever the first second looked like.
    left = waiting[-1].remaining_seconds
    assert left is not None
    assert 980 < left < 1_000


def test_the_time_left_of_several_keys_and_limits() -> None:
    def limit(resource: str, period: str, most: int, remaining: int) -> dict[str, Any]:
        return {"resource": resource, "period": period, "limit": most, "remaining": remaining}

    keys = [
        {
            "provider": "openai", "sent": 1,
            "limits": [limit("requests", "minute", 60, 10), limit("tokens", "minute", 3_000, 3_000)],
        },
        {"provider": "openai", "sent": 1, "limits": [limit("requests", "minute", 30, 0)]},
        {"provider": "groq", "sent": 0, "limits": [limit("requests", "day", 5, 0)]},
    ]  # fmt: skip
    remaining = RemainingTime(lambda: {"keys": keys}, None)
    assert remaining.seconds(100, 10.0) == pytest.approx(100 / 1.5)
    # 100 tokens each: the tokens let half of a prompt through by second.
    assert remaining.seconds(100, 100.0) == pytest.approx(100 / 1.0)
    assert RemainingTime(lambda: {"keys": keys}, "groq").seconds(10, 0.0) == pytest.approx(2 * 86_400)
    assert remaining.seconds(10, 10.0) == 0.0
    keys.append({"provider": "openai", "sent": 3, "limits": []})
    assert remaining.seconds(100, 10.0) is None


def test_a_bar_where_somebody_looks(
    make_llm: Callable[..., LLMInterface], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setenv("COLUMNS", "160")
    with simulator() as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls)
        llm.send_batch(prompts(5), model=MODEL)
        assert screen.getvalue() == "", "nobody looks at a file"
        llm.send_batch(prompts(5), model=MODEL, progress=True)
        assert "5/5" in screen.getvalue()
        monkeypatch.setattr(screen, "isatty", lambda: True)
        assert isinstance(shown_to(None), Bar)
        llm.send_batch(prompts(7), model=MODEL)
        assert "7/7" in screen.getvalue()


def test_a_line_where_rich_is_missing(
    make_llm: Callable[..., LLMInterface], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setitem(sys.modules, "rich.progress", None)
    assert isinstance(shown_to(True), Line)
    with simulator() as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls)
        llm.send_batch(prompts(5), model=MODEL, progress=True)
    assert screen.getvalue().splitlines()[-1].startswith("5/5 · ")


def test_a_screen_that_went_away_hurts_nobody(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "stderr", None)
    assert type(shown_to(None)) is Silence
    Line().show(BatchProgress(done=1))


def test_who_is_shown_it() -> None:
    assert type(shown_to(False)) is Silence
    assert type(shown_to(print)) is Told


def test_words_of_a_progress() -> None:
    progress = BatchProgress(
        done=1_200, total=None, waiting=3, waiting_on="requests per minute at openai/m", input_tokens=5_000,
        seconds=60.0, remaining_seconds=7_384.0,
    )  # fmt: skip
    assert in_words(progress) == (
        "1,200 · 3 wait: requests per minute at openai/m · 5,000 tokens · 20.0/s · 2:03:04 left"
    )


def test_a_summary_counts_times_and_money() -> None:
    from decimal import Decimal

    tally = Tally()
    for number in range(100):
        tally.latencies.append(number + 1)
        tally.successful += 1
    for cost in (Decimal("0.25"), None, Decimal("0.5")):
        tally.paid(cost)
    tally.input_tokens, tally.output_tokens = 1_000, 500
    summary = tally.summary(10.0, {"a": 1.0, "b": 2.0})
    assert (summary.p50_seconds, summary.p95_seconds, summary.p99_seconds) == (50, 95, 99)
    assert (summary.average_seconds, summary.average_tokens, summary.per_second) == (50.5, 15.0, 10.0)
    assert (summary.cost, summary.without_cost) == (Decimal("0.75"), 1)
    text = str(summary)
    assert "$0.7500, and 1 of unknown price" in text
    assert text.splitlines()[-2:] == ["held up by   2.0 s b", "             1.0 s a"]


def test_a_summary_of_nothing() -> None:
    assert Tally().summary(0.0, {}) == BatchSummary()
    assert (BatchSummary().per_second, BatchSummary().average_tokens) == (0.0, 0.0)
