"""A batch: its items, their order, and what ends it early."""

from __future__ import annotations

import asyncio
import time
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, WIDE, key_of, prompts, requests, until, until_waiting, waiting
from quotaflow import (
    CallError,
    ClosedError,
    DeadlineExceededError,
    InvalidArgumentError,
    InvalidRequestError,
    LLMInterface,
    NoKeyError,
    ServerError,
)
from quotaflow.testing import SimulatedProviders, simulator

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

NARROW = {"openai": {"concurrency": 2}}


def test_items_come_in_the_order_of_the_prompts(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    batch = llm.send_batch(prompts(300), model=MODEL)
    assert [item.index for item in batch] == list(range(300))
    assert [str(item.reply) for item in batch] == [f"answer to: {prompt}" for prompt in prompts(300)]
    assert (len(batch), batch[-1].index, [item.index for item in batch[298:]]) == (300, 299, [298, 299])
    assert len(batch.replies) == 300
    assert batch.errors == []
    assert requests(simulated) == 300
    with pytest.raises(IndexError):
        batch[300]


def test_nothing_to_send_is_an_empty_batch(llm: LLMInterface) -> None:
    batch = llm.send_batch([], model=MODEL)
    assert (len(batch), batch.summary.total, list(batch)) == (0, 0, [])
    assert list(llm.iter_batch(iter(()), model=MODEL)) == []


def test_asyncio_gets_the_same(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm(limits=WIDE, state="memory")

    async def both() -> None:
        batch = await llm.asend_batch(prompts(50), model=MODEL)
        assert [str(reply) for reply in batch.replies] == [f"answer to: {prompt}" for prompt in prompts(50)]
        ordered = [item.index async for item in llm.aiter_batch(prompts(50), ordered=True, model=MODEL)]
        assert ordered == list(range(50))
        anyhow = [item.index async for item in llm.aiter_batch(prompts(50), model=MODEL)]
        assert sorted(anyhow) == list(range(50))

    asyncio.run(both())


def test_one_failure_is_one_item(make_llm: Callable[..., LLMInterface]) -> None:
    fault = {"when": {"nth": [3]}, "do": {"status": 400}}
    with simulator(faults=[fault]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        batch = llm.send_batch(prompts(20), 1, model=MODEL)
    [failed] = batch.errors
    assert (failed.index, failed.ok, failed.reply, failed.attempts) == (2, False, None, 1)
    assert isinstance(failed.error, InvalidRequestError)
    assert (batch.summary.successful, batch.summary.failed, len(batch.replies)) == (19, 1, 19)


def test_what_was_tried_again_is_counted(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(faults=[{"when": {"nth": [2]}, "do": {"status": 503}}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        told: list[Any] = []
        batch = llm.send_batch(prompts(5), 1, model=MODEL, retry_delay=0.01, on_retry=told.append)
    assert (batch.summary.retried, batch.summary.successful, batch[1].attempts) == (1, 5, 2)
    assert [attempt.failure for attempt in told] == ["overloaded"]


def test_completed_first_or_in_order(make_llm: Callable[..., LLMInterface]) -> None:
    slow = {"when": {"nth": [1]}, "do": {"slow": 0.4}}
    for ordered in (False, True):
        with simulator(faults=[slow]) as world:
            llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
            came = [item.index for item in llm.iter_batch(prompts(6), 3, ordered=ordered, model=MODEL)]
        assert sorted(came) == list(range(6))
        assert (came == list(range(6))) is ordered


def test_a_number_is_the_most_at_once(make_llm: Callable[..., LLMInterface]) -> None:
    for most in (1, 3):
        with simulator(latency=0.02) as world:
            llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
            llm.send_batch(prompts(12), most, model=MODEL)
            assert world.stats()["largest_in_flight"] == most


def test_quotas_decide_when_nobody_does(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.02) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 7}})
        batch = llm.send_batch(prompts(60), model=MODEL)
        assert world.stats()["largest_in_flight"] == 7
    assert list(batch.summary.waited) == [f"calls in flight at openai/{MODEL}"]
    assert 0.05 < sum(batch.summary.waited.values()) <= batch.summary.seconds


def test_the_same_is_sent_once(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    given: list[Any] = ["one", "two", "one", {"prompt": "one", "id": "again"}, {"prompt": "one", "max_tokens": 5}]
    batch = llm.send_batch(given * 2, model=MODEL)
    assert requests(simulated) == 3
    assert [item.duplicate_of for item in batch] == [None, None, 0, 0, None, 0, 1, 0, 0, 4]
    assert batch[3].id == batch[8].id == "again"
    assert {str(item.reply) for item in batch} == {"answer to: one", "answer to: two"}
    assert (batch.summary.duplicates, batch.summary.successful) == (7, 10)
    usage = batch[0].reply
    assert usage is not None
    once = llm.send_batch(["one", "two", {"prompt": "one", "max_tokens": 5}], model=MODEL).summary
    assert (once.input_tokens, once.output_tokens) == (batch.summary.input_tokens, batch.summary.output_tokens)


def test_how_it_is_sent_makes_no_other_prompt(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    given = ["one", {"prompt": "one", "timeout": timedelta(seconds=20), "priority": 4}, {"prompt": "one", "id": 1}]
    # An argument of its own that is the same as the batch's is still said.
    batch = llm.send_batch([*given, {"prompt": "one", "system": "Be brief."}], model=MODEL)
    assert requests(simulated) == 2
    assert [item.duplicate_of for item in batch] == [None, 0, 0, None]


def test_the_same_is_sent_twice_when_asked(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    batch = llm.send_batch(["one"] * 4, dedupe=False, model=MODEL)
    assert (requests(simulated), batch.summary.duplicates, len(batch)) == (4, 0, 4)
    assert len({item.digest for item in batch}) == 4


def test_iterating_remembers_the_last_answers(
    llm: LLMInterface, simulated: SimulatedProviders, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("quotaflow._batch.run._MOST_REMEMBERED", 10)
    came = llm.iter_batch(["first", "first", *prompts(50), "prompt 49", "first"], 1, model=MODEL)
    items = list(came)
    assert requests(simulated) == 52, "one that was forgotten is sent again"
    assert [item.duplicate_of for item in items if item.duplicate_of is not None] == [0, 51]
    assert {str(items[place].reply) for place in (0, 1, 53)} == {"answer to: first"}


def test_a_failure_is_shared_by_those_that_are_the_same(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(faults=[{"when": {"nth": [1]}, "do": {"status": 400}}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        batch = llm.send_batch(["one", "one", "two"], 1, model=MODEL)
    assert [item.ok for item in batch] == [False, False, True]
    assert batch[1].duplicate_of == 0


def test_the_first_error_ends_it_when_asked(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(faults=[{"when": {"nth": [5]}, "do": {"status": 400}}], latency=0.01) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        with pytest.raises(InvalidRequestError) as raised:
            llm.send_batch(prompts(1_000), 2, stop_on_error=True, model=MODEL)
        assert requests(world) <= 8
    batch = raised.value.batch  # type: ignore[attr-defined]
    assert batch.summary.failed == 1
    assert batch.summary.successful >= 3
    # Two are under way: either may arrive first.
    assert [item.index for item in batch.errors] in ([4], [5])


def test_a_generator_that_raises_loses_nothing(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    def broken() -> Iterator[str]:
        yield from prompts(30)
        raise LookupError("the database went away")

    with pytest.raises(LookupError, match="went away") as raised:
        llm.send_batch(broken(), model=MODEL)
    assert requests(simulated) == 30
    batch = raised.value.batch  # type: ignore[attr-defined]
    assert [str(reply) for reply in batch.replies] == [f"answer to: {prompt}" for prompt in prompts(30)]
    assert "30 prompts of the batch were finished" in raised.value.__notes__[0]

    came: list[int] = []
    with pytest.raises(LookupError):
        came.extend(item.index for item in llm.iter_batch(broken(), model=MODEL))
    assert sorted(came) == list(range(30))


def test_who_stops_reading_stops_the_reading(llm: LLMInterface) -> None:
    read = 0

    def counted() -> Iterator[str]:
        nonlocal read
        while True:
            read += 1
            yield f"prompt {read}"

    came = llm.iter_batch(counted(), 8, model=MODEL)
    next(came)
    until(lambda: key_of(llm)["in_flight"] == 0)
    assert read <= 16
    for _ in range(100):
        next(came)
    assert read <= 130
    came.close()  # type: ignore[attr-defined]
    assert read <= 130
    until(lambda: (key_of(llm)["in_flight"], waiting(llm)) == (0, 0))


def test_leaving_the_loop_ends_everything(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency={"min": 0.01, "max": 0.02}) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")
        for _ in llm.iter_batch(prompts(200), model=MODEL):
            break
        until(lambda: key_of(llm)["in_flight"] == 0)
        assert waiting(llm) == 0
        before = requests(world)
        assert before < 100
        assert str(llm.send_prompt("still works", model=MODEL)) == "answer to: still works"
        assert requests(world) == before + 1


def test_cancelling_a_task_ends_everything(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.05) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")

        async def cancelled() -> None:
            task = asyncio.ensure_future(llm.asend_batch(prompts(1_000), model=MODEL))
            while requests(world) < 4:  # noqa: ASYNC110 - nothing tells when one arrives
                await asyncio.sleep(0.01)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
            until(lambda: key_of(llm)["in_flight"] == 0)
            assert waiting(llm) == 0
            assert [task for task in asyncio.all_tasks() if task is not asyncio.current_task()] == []

        asyncio.run(cancelled())


def test_a_loop_that_cannot_watch_sockets(
    make_llm: Callable[..., LLMInterface], monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: object) -> None:
        raise NotImplementedError

    def blind() -> asyncio.AbstractEventLoop:
        loop = asyncio.SelectorEventLoop()
        monkeypatch.setattr(loop, "add_reader", refuse)
        return loop

    with simulator(latency=0.01) as world, asyncio.Runner(loop_factory=blind) as runner:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")
        batch = runner.run(llm.asend_batch(prompts(10), model=MODEL))
    assert batch.summary.successful == 10


def test_other_tasks_run_meanwhile(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.02) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")

        async def both() -> int:
            beats = 0
            task = asyncio.ensure_future(llm.asend_batch(prompts(40), model=MODEL))
            while not task.done():
                await asyncio.sleep(0.005)
                beats += 1
            assert (await task).summary.successful == 40
            return beats

        assert asyncio.run(both()) > 20


def test_a_person_does_not_wait_for_a_batch(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.03) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")

        async def both() -> tuple[int, int]:
            task = asyncio.ensure_future(llm.asend_batch(prompts(120), model=MODEL))
            await until_waiting(llm, 20)
            before = requests(world)
            await llm.asend_prompt("a person", model=MODEL, priority=5)
            between = requests(world) - before
            return between, (await task).summary.successful

        between, successful = asyncio.run(both())
        assert successful == 120
        assert between <= 8


def test_what_is_wrong_with_all_of_them_is_raised(llm: LLMInterface, simulated: SimulatedProviders) -> None:
    with pytest.raises(NoKeyError):
        llm.send_batch(prompts(9), provider="groq", model="llama")
    with pytest.raises(InvalidArgumentError):
        llm.send_batch(prompts(9))
    with pytest.raises(InvalidArgumentError, match="temperature"):
        llm.send_batch(prompts(9), model=MODEL, temperature="hot")
    for most in (0, -1, 1.5, True, "8"):
        with pytest.raises(InvalidArgumentError, match="concurrency"):
            llm.send_batch(prompts(9), most, model=MODEL)  # type: ignore[arg-type]
    with pytest.raises(DeadlineExceededError, match="deadline has passed"):
        llm.send_batch(prompts(9), model=MODEL, deadline=time.time() - 1)
    with pytest.raises(InvalidArgumentError, match="priority"):
        llm.send_batch(prompts(9), model=MODEL, priority="high")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="progress"):
        llm.send_batch(prompts(9), model=MODEL, progress="yes")  # type: ignore[arg-type]
    with pytest.raises(InvalidArgumentError, match="checkpoint"):
        llm.send_batch(prompts(9), model=MODEL, checkpoint=7)  # type: ignore[arg-type]
    for name in ("dedupe", "stop_on_error"):
        with pytest.raises(InvalidArgumentError, match=name):
            llm.send_batch(prompts(9), model=MODEL, **{name: "yes"})  # type: ignore[arg-type]
    llm.close()
    with pytest.raises(ClosedError):
        llm.send_batch(prompts(9), model=MODEL)
    assert requests(simulated) == 0


def test_closing_the_interface_ends_a_batch(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.05) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")
        came = llm.iter_batch(prompts(100), model=MODEL)
        assert next(came).ok
        llm.close()
        with pytest.raises(ClosedError) as raised:
            list(came)
        assert raised.value.batch.summary.successful >= 1  # type: ignore[attr-defined]


@pytest.mark.quiet
def test_the_deadline_ends_it_and_every_prompt_has_an_item(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(latency=0.05) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=NARROW, state="memory")
        batch = llm.send_batch(prompts(500), model=MODEL, deadline=time.time() + 0.5)
        assert len(batch) == 500
        assert batch.summary.seconds < 2
        assert 2 <= batch.summary.successful < 60
        for item in batch.errors:
            assert isinstance(item.error, DeadlineExceededError | CallError)
        assert isinstance(batch[-1].error, DeadlineExceededError)


def test_errors_as_text_are_replies(simulated: SimulatedProviders) -> None:
    with (
        simulator(faults=[{"when": {"nth": [1]}, "do": {"status": 400}}]) as world,
        LLMInterface({}, keys=world.keys, base_urls=world.base_urls, state="memory", errors="text") as llm,
    ):
        batch = llm.send_batch(["one", "two"], 1, model=MODEL)
    assert [item.ok for item in batch] == [False, True]
    assert str(batch[0].reply).startswith("[LLM Error: ")
    assert isinstance(batch[0].error, InvalidRequestError)
    assert requests(simulated) == 0


def test_a_batch_in_a_thread_beside_single_calls(llm: LLMInterface) -> None:
    from concurrent.futures import ThreadPoolExecutor

    with ThreadPoolExecutor(3) as pool:
        batches = [pool.submit(llm.send_batch, prompts(100), model=MODEL) for _ in range(2)]
        single = [str(llm.send_prompt(f"single {number}", model=MODEL)) for number in range(20)]
        assert [batch.result().summary.successful for batch in batches] == [100, 100]
    assert single == [f"answer to: single {number}" for number in range(20)]


def test_server_errors_of_all_are_items_of_all(make_llm: Callable[..., LLMInterface]) -> None:
    with simulator(faults=[{"when": {"every": 1}, "do": {"status": 500}}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        batch = llm.send_batch(prompts(10), model=MODEL, retry=False)
    assert all(isinstance(item.error, ServerError) for item in batch)
    assert (batch.summary.failed, batch.replies) == (10, [])
