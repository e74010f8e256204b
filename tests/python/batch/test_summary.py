"""The progress of a batch, its time left and its summary."""

from __future__ import annotations

import io
import logging
import sys
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, prompts, until
from quotaflow import BatchProgress, BatchSummary, LLMInterface
from quotaflow._batch.progress import RemainingTime
from quotaflow._batch.progress_display import Bar, Line, Silence, Told, in_words, shown_to
from quotaflow._batch.source import Prompts
from quotaflow._batch.summary import Tally
from quotaflow.testing import simulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


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


@pytest.mark.quiet
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


class Asked:
    """A run that says how long the rest takes, and takes a while for it."""

    def __init__(self, clock: list[float], takes: float) -> None:
        self.clock, self.takes = clock, takes
        self.asked: list[tuple[int, tuple[int, int] | None]] = []

    def time_left(self, left: int, size: tuple[int, int] | None) -> float:
        self.asked.append((left, size))
        self.clock[0] += self.takes
        return 100.0


@pytest.mark.parametrize(("takes", "again_after"), [(0.001, 2.0), (0.25, 12.5)])
def test_the_time_left_is_counted_down_in_between(
    monkeypatch: pytest.MonkeyPatch, takes: float, again_after: float
) -> None:
    clock = [1_000.0]
    monkeypatch.setattr("quotaflow._batch.progress.time.monotonic", lambda: clock[0])
    remaining, run, tally = RemainingTime(), Asked(clock, takes), Tally()
    assert remaining.seconds(tally, None, run) is None  # type: ignore[arg-type]
    assert remaining.seconds(tally, 50, run) == 100.0  # type: ignore[arg-type]
    tally.resumed = tally.successful = 25
    assert remaining.seconds(tally, 50, run) == pytest.approx(50.0, abs=0.3)  # type: ignore[arg-type]
    tally.resumed = 0
    tally.successful, tally.failed, tally.shared, tally.input_tokens, tally.output_tokens = 5, 1, 1, 40, 80
    clock[0] = 1_000.0 + again_after - 0.1
    assert remaining.seconds(tally, 50, run) == pytest.approx(100.1 - again_after)  # type: ignore[arg-type]
    clock[0] += 0.1
    assert remaining.seconds(tally, 50, run) == 100.0  # type: ignore[arg-type]
    assert run.asked == [(50, None), (44, (10, 20))]


@pytest.mark.quiet
@pytest.mark.parametrize(
    ("limits", "more", "truth"),
    [
        # Twenty at once, but for the kept tenth, and then one a second.
        ({"rpm": {"amount": 60, "burst": 20, "refill": "bucket"}}, {}, 32),
        (
            {"rpm": 6_000, "models": {"gpt-4o": {"rpm": 1}, MODEL: {"rpm": {"amount": 60, "refill": "rolling"}}}},
            {},
            0,
        ),
    ],
)
def test_the_time_left_is_right_from_the_first_second(
    make_llm: Callable[..., LLMInterface], limits: dict[str, Any], more: dict[str, Any], truth: float
) -> None:
    told: list[BatchProgress] = []
    with simulator(latency=0.01) as world:
        llm = make_llm(more, keys=world.keys, base_urls=world.base_urls, limits={"openai": limits}, state="memory")
        for _ in llm.iter_batch(prompts(50), model=MODEL, progress=told.append):
            if told[-1].seconds > 0.5:
                break
    for progress in told:
        assert progress.remaining_seconds is not None
        assert abs(progress.remaining_seconds + progress.seconds - truth) < 3


def test_lines_of_a_file_are_counted_once(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    path = tmp_path / "prompts.jsonl"
    lines = [f'"{prompt}"' for prompt in prompts(300)]
    path.write_text("\n" + "\n\n".join(lines))
    told: list[BatchProgress] = []
    with simulator(latency=0.01) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 2}})
        for item in llm.iter_batch(path, 4, model=MODEL, progress=told.append):
            if item.index == 40:
                break
    assert {progress.total for progress in told} == {300}


def test_large_files_are_counted_aside_and_huge_ones_not(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "prompts.jsonl"
    path.write_text('"a"\n  \n' * 1_000 + '"b"')
    monkeypatch.setattr("quotaflow._batch.source._CHUNK", 7)
    monkeypatch.setattr("quotaflow._batch.source._COUNTED_AT_ONCE", 10)
    counted = Prompts(path)
    until(lambda: counted.total == 1_001)
    monkeypatch.setattr("quotaflow._batch.source._LARGEST_COUNTED", 100)
    huge = Prompts(path)
    assert huge.total is None
    assert len(list(huge)) == 1_001


def test_what_an_earlier_run_finished_is_no_speed() -> None:
    assert BatchProgress(done=3_005, resumed=3_000, seconds=5.0).per_second == 1.0


def test_duplicates_that_failed_are_no_answers(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(faults=[{"when": {"first": 1}, "do": {"status": 400}}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 2}})
        summary = llm.send_batch(["bad"] * 50 + prompts(40), 1, model=MODEL).summary
    assert (summary.failed, summary.duplicates, summary.successful) == (50, 49, 40)
    assert summary.average_tokens == (summary.input_tokens + summary.output_tokens) / 40


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
    monkeypatch.setitem(sys.modules, "rich.live", None)
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
        "1,200 · 20.0/s · 2:03:04 left · 5,000 tokens · 3 wait: requests per minute at openai/m"
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
