"""A batch resumed from a checkpoint: its facts, and when it is another job."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import signal
import subprocess
import sys
import threading
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, WIDE, prompts, requests, until
from quotaflow import CheckpointError, LLMInterface, NoKeyError, UserLimitError
from quotaflow._batch.checkpoint import Checkpoint
from quotaflow.testing import SimulatedProviders, simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path


def saved(path: Path) -> int:
    return path.read_bytes().count(b'"reply"') if path.exists() else 0


def test_what_it_cost_by_ones_own_prices(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    llm = make_llm({"prices": {"openai": {MODEL: {"input": 100, "output": 100}}}}, limits=WIDE, state="memory")
    path = tmp_path / "done.jsonl"
    [sent] = llm.send_batch(["a"], model=MODEL)
    assert sent.reply is not None
    assert sent.reply.cost is not None
    for _ in ("sent", "read"):
        batch = llm.send_batch(["a"], model=MODEL, checkpoint=path)
        reply = batch[0].reply
        assert reply is not None
        assert reply.cost == batch.summary.cost == sent.reply.cost > Decimal("0.0001")


def test_what_the_cache_gave(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(["a", "b"], model=MODEL, cache=True)
    for _ in ("given", "read"):
        batch = llm.send_batch(["a", "b", "a"], model=MODEL, cache=True, checkpoint=path)
        assert [(item.reply.cached, item.reply.cost) for item in batch if item.reply] == [(True, Decimal())] * 3
        summary = batch.summary
        assert (summary.cost, summary.cached, summary.duplicates) == (Decimal(), 2, 1)
        assert (summary.input_tokens, summary.output_tokens, summary.average_tokens) == (0, 0, 0.0)
        assert "2 from the cache" in str(summary)
    mixed = llm.send_batch(["a", "new", "new"], model=MODEL, cache=True).summary
    assert mixed.average_tokens == mixed.input_tokens + mixed.output_tokens > 0


def test_texts_that_stand_for_errors(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    with simulator(faults=[{"when": {"every": 2}, "do": {"status": 400}}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory", errors="text")
        for path in (None, tmp_path / "done.jsonl"):
            batch = llm.send_batch(["a", "b", "b"], 1, model=MODEL, checkpoint=path)
            for item in batch[1:]:
                assert item.reply is not None
                assert item.reply.startswith("[LLM Error: ")
                assert item.reply.error is item.error
            assert len(batch.replies) == 1


def test_what_a_users_limit_says(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    llm = make_llm({"users": {"bob": {"rpd": 1}}}, limits=WIDE, state="memory")
    batch = llm.send_batch(["a", "b"], 1, model=MODEL, user="bob", checkpoint=tmp_path / "done.jsonl")
    error = batch[1].error
    assert isinstance(error, UserLimitError)
    assert (error.limit, error.used, error.amount) == ("rpd", 1, 1)
    assert error.retry_after is not None


def test_a_first_try_that_failed_holds_nothing_up(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    with pytest.raises(NoKeyError):
        llm.send_batch(["a"], provider="mistral", model="m", checkpoint=path)
    assert path.exists()
    assert llm.send_batch(["a"], model=MODEL, checkpoint=path).summary.successful == 1
    with pytest.raises(CheckpointError, match="of another job"):
        llm.send_batch(["a"], model="gpt-4o", checkpoint=path)


def test_the_cache_makes_no_other_job(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(["a", "b"], model=MODEL, checkpoint=path)
    assert llm.send_batch(["a", "b", "c"], model=MODEL, checkpoint=path, cache=True).summary.resumed == 2
    own = [{"prompt": "a", "cache": 60}, {"prompt": "b", "cache": False}]
    assert llm.send_batch(own, model=MODEL, checkpoint=path).summary.resumed == 2


def test_another_default_model_makes_another_job(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    one, other = (
        make_llm({"models": {"default": {"provider": "openai", "model": model}}}, state="memory")
        for model in (MODEL, "gpt-4o")
    )
    one.send_batch(["a"], checkpoint=path)
    with pytest.raises(CheckpointError, match="another default model"):
        other.send_batch(["a"], checkpoint=path)
    assert one.send_batch(["a"], checkpoint=path).summary.resumed == 1


def test_whether_the_same_is_sent_once_makes_no_other_prompt(
    llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path
) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(["a", "b"], model=MODEL, checkpoint=path, dedupe=False)
    assert llm.send_batch(["a", "b", "b"], model=MODEL, checkpoint=path).summary.resumed == 2
    again = llm.send_batch(["a", "b", "b"], model=MODEL, checkpoint=path, dedupe=False)
    assert (again.summary.resumed, requests(simulated)) == (2, 3)


def test_spoilt_lines_in_the_middle_are_sent_again(
    llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(prompts(10), 1, model=MODEL, checkpoint=path)
    lines = path.read_bytes().split(b"\n")
    lines[4], lines[7] = b"\0" * len(lines[4]), lines[7][:20]
    path.write_bytes(b"\n".join(lines))
    with caplog.at_level(logging.WARNING, "quotaflow"):
        batch = llm.send_batch(prompts(10), 1, model=MODEL, checkpoint=path)
    assert (batch.summary.successful, batch.summary.resumed, requests(simulated)) == (10, 8, 12)
    told = [record.getMessage() for record in caplog.records if "cannot be read" in record.getMessage()]
    assert told == [f"lines 5, 8 of {path} cannot be read, and what stood there is sent again"]
    assert [str(reply) for reply in batch.replies] == [f"answer to: {prompt}" for prompt in prompts(10)]


def test_what_comes_while_nobody_reads_is_saved(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    with simulator(latency={"min": 0.05, "max": 0.4}) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        for place, ordered in enumerate((False, True)):
            path = tmp_path / f"{place}.jsonl"
            came = llm.iter_batch(prompts(500), 40, ordered=ordered, model=MODEL, checkpoint=path)
            before = requests(world)
            first = next(came)
            until(lambda path=path, before=before: saved(path) == requests(world) - before >= 40)  # type: ignore[misc]
            assert requests(world) - before <= 80, "no more are begun"
            rest = [item.index for item in came]
            assert sorted([first.index, *rest]) == list(range(500))
            assert saved(path) == 500
    assert not [thread for thread in threading.enumerate() if thread.name == "quotaflow-keeper"]


def test_what_comes_while_a_generator_thinks_is_saved(
    make_llm: Callable[..., LLMInterface], tmp_path: Path
) -> None:
    path = tmp_path / "done.jsonl"

    def thoughtful() -> Iterator[str]:
        yield from prompts(20)
        until(lambda: saved(path) >= 20)
        yield "last"

    with simulator(latency=0.05) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        batch = llm.send_batch(thoughtful(), model=MODEL, checkpoint=path)
        assert batch.summary.successful == 21
        asynchronous = asyncio.run(llm.asend_batch(thoughtful(), model=MODEL, checkpoint=path))
        assert asynchronous.summary.resumed == 21


PAUSES = """
import json, sys, time
from quotaflow import LLMInterface
setup = json.loads(sys.argv[1])
llm = LLMInterface({}, keys=setup["keys"], base_urls=setup["base_urls"], state="memory",
                   limits={"openai": {"concurrency": 500}})
for item in llm.iter_batch((f"prompt {n}" for n in range(10_000)), model="gpt-4o-mini", checkpoint=setup["path"]):
    print("one", flush=True)
    time.sleep(60)
"""


def test_killed_while_the_reader_thinks_nothing_is_lost(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    with simulator(latency=0.02) as world:
        setup = {"keys": world.keys, "base_urls": world.base_urls, "path": str(path)}
        command = [sys.executable, "-c", PAUSES, json.dumps(setup)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        running.stdout.readline()
        until(lambda: saved(path) == world.stats()["accepted"] > 0 == world.stats()["in_flight"], 10)
        running.kill()
        running.communicate()
        assert saved(path) == world.stats()["accepted"]


INTERRUPTED = """
import asyncio, json, sys
from quotaflow import LLMInterface
setup = json.loads(sys.argv[1])
llm = LLMInterface({}, keys=setup["keys"], base_urls=setup["base_urls"], state="memory",
                   limits={"openai": {"concurrency": 500}})
def told(progress):
    if progress.done > 100:
        print("now", flush=True)
try:
    llm.send_batch((f"prompt {n}" for n in range(100_000)), 16, model="gpt-4o-mini", progress=told)
except KeyboardInterrupt as error:
    batch = error.batch
    print(json.dumps([len(batch.replies), batch.summary.successful, len({item.index for item in batch})]))
"""


def test_ctrl_c_hands_over_what_was_finished() -> None:
    with simulator(latency=0.01) as world:
        setup = {"keys": world.keys, "base_urls": world.base_urls}
        command = [sys.executable, "-c", INTERRUPTED, json.dumps(setup)]
        running = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert running.stdout is not None
        running.stdout.readline()
        running.send_signal(signal.SIGINT)
        told, _ = running.communicate(timeout=10)
    counts = json.loads(told.splitlines()[-1])
    assert len(set(counts)) == 1
    assert counts[0] > 100


def test_a_task_that_is_cancelled_hands_over_what_was_finished(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.01) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")

        async def cancelled() -> Any:
            caught: list[Any] = []

            async def send() -> None:
                try:
                    await llm.asend_batch(prompts(100_000), 8, model=MODEL)
                except asyncio.CancelledError as error:
                    caught.append(error)
                    raise

            task = asyncio.ensure_future(send())
            while requests(world) < 50:  # noqa: ASYNC110 - nothing tells when one arrives
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            [error] = caught
            return error.batch

        batch = asyncio.run(cancelled())
        assert len(batch.replies) == batch.summary.successful > 30


def test_the_process_has_one_thread_less_afterwards(llm: LLMInterface, tmp_path: Path) -> None:
    llm.send_batch(prompts(3), model=MODEL)
    before = len(os.listdir("/proc/self/task"))  # noqa: PTH208
    came = llm.iter_batch(prompts(30), 2, model=MODEL, checkpoint=tmp_path / "done.jsonl")
    next(came)
    assert any(thread.name == "quotaflow-keeper" for thread in threading.enumerate())
    came.close()  # type: ignore[attr-defined]
    assert not any(thread.name == "quotaflow-keeper" for thread in threading.enumerate())
    until(lambda: len(os.listdir("/proc/self/task")) <= before)  # noqa: PTH208


def test_what_arrived_is_finished_before_ctrl_c_is_heard() -> None:
    from quotaflow._batch.interrupts import Uninterrupted

    done = []
    with pytest.raises(KeyboardInterrupt), Uninterrupted():  # noqa: PT012 - that it goes on is what is shown
        signal.raise_signal(signal.SIGINT)
        done.append("on")
    assert done == ["on"]
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGINT)


def test_a_second_ctrl_c_loses_no_answer(
    llm: LLMInterface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "done.jsonl"
    save = Checkpoint.save

    def pressed(self: Checkpoint, *, sync: bool) -> None:
        if self._unsaved:
            signal.raise_signal(signal.SIGINT)
        save(self, sync=sync)

    monkeypatch.setattr(Checkpoint, "save", pressed)
    with pytest.raises(KeyboardInterrupt) as raised:
        llm.send_batch((f"prompt {n}" for n in range(40)), 4, model=MODEL, checkpoint=path)
    batch = raised.value.batch  # type: ignore[attr-defined]
    assert len(batch) > 0
    assert saved(path) == len(batch)
    monkeypatch.setattr(Checkpoint, "save", save)
    assert llm.send_batch(prompts(40), model=MODEL, checkpoint=path).summary.resumed == len(batch)


def test_ctrl_c_while_the_keeper_begins(
    llm: LLMInterface, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def interrupted(_: threading.Thread) -> None:
        raise KeyboardInterrupt

    with monkeypatch.context() as patched:
        patched.setattr("threading.Thread.start", interrupted)
        with pytest.raises(KeyboardInterrupt):
            llm.send_batch(["a"], model=MODEL, checkpoint=tmp_path / "done.jsonl", progress=False)
    assert llm.send_batch(["a"], model=MODEL, checkpoint=tmp_path / "done.jsonl").summary.successful == 1
