"""The checkpoint file: what it keeps of a batch, however that ends."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, WIDE, prompts, requests, until
from quotaflow import CheckpointError, InvalidRequestError, LLMInterface, RateLimitError
from quotaflow.testing import SimulatedProviders, simulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def test_the_same_call_again_sends_nothing(
    llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path
) -> None:
    path = tmp_path / "done.jsonl"
    first = llm.send_batch(prompts(50), model=MODEL, checkpoint=path)
    before = path.read_bytes()
    again = llm.send_batch(prompts(50), model=MODEL, checkpoint=str(path))
    assert requests(simulated) == 50
    assert path.read_bytes() == before
    assert (first.summary.resumed, again.summary.resumed) == (0, 50)
    for one, other in zip(first, again, strict=True):
        assert one.reply is not None
        assert other.reply is not None
        assert one.reply == other.reply
        assert one.reply.usage == other.reply.usage
        assert one.reply.attempts == other.reply.attempts
        assert (one.reply.raw, one.reply.latency) == (other.reply.raw, other.reply.latency)
        assert (one.digest, one.attempts, one.index) == (other.digest, other.attempts, other.index)
    assert first.summary.input_tokens == again.summary.input_tokens > 0


def test_what_is_done_is_judged_by_content(
    llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path
) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(["a", "b", {"prompt": "c", "id": 1}], model=MODEL, checkpoint=path)
    batch = llm.send_batch(
        [{"prompt": "c", "id": 9}, "new", "b", "a", "b", {"prompt": "a", "temperature": 0}],
        model=MODEL,
        checkpoint=path,
    )
    assert requests(simulated) == 5
    assert [str(item.reply) for item in batch] == [
        f"answer to: {word}" for word in ("c", "new", "b", "a", "b", "a")
    ]
    assert [(item.index, item.id, item.duplicate_of) for item in batch] == [
        (0, 9, None), (1, None, None), (2, None, None), (3, None, None), (4, None, 2), (5, None, None)
    ]  # fmt: skip
    assert (batch.summary.resumed, batch.summary.duplicates, batch.summary.total) == (3, 1, 6)


def test_the_same_sent_twice_is_done_twice(
    llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path
) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(["a", "a"], dedupe=False, model=MODEL, checkpoint=path)
    batch = llm.send_batch(["a", "a", "a"], dedupe=False, model=MODEL, checkpoint=path)
    assert (requests(simulated), batch.summary.resumed, len(batch.replies)) == (3, 2, 3)


def test_what_failed_is_sent_again(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    with simulator(faults=[{"when": {"nth": [2]}, "do": {"status": 400}}]) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits=WIDE, state="memory")
        first = llm.send_batch(prompts(4), 1, model=MODEL, checkpoint=path)
        [failed] = first.errors
        assert isinstance(failed.error, InvalidRequestError)
        assert (failed.index, failed.error.status, failed.error.attempts[0].failure) == (1, 400, "invalid_request")
        again = llm.send_batch(prompts(4), 1, model=MODEL, checkpoint=path)
        assert (again.errors, again.summary.resumed, requests(world)) == ([], 3, 5)
    assert ["error" in line for line in lines(path)[1:]] == [False, True, False, False, False]


def test_iterating_writes_it_too(llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    came = llm.iter_batch(prompts(200), 8, model=MODEL, checkpoint=path)
    seen = [next(came).index for _ in range(40)]
    came.close()  # type: ignore[attr-defined]
    saved = {line["index"] for line in lines(path)[1:]}
    assert set(seen) <= saved
    # What was on its way when it was left arrives first.
    counts: list[int] = []

    def all_arrived() -> bool:
        counts.append(requests(simulated))
        return len(counts) >= 100 and len(set(counts[-100:])) == 1

    until(all_arrived)
    before = requests(simulated)
    rest = list(llm.iter_batch(prompts(200), ordered=True, model=MODEL, checkpoint=path))
    assert [item.index for item in rest] == list(range(200))
    assert sorted(line["index"] for line in lines(path)[1:]) == list(range(200))
    assert requests(simulated) == before + 200 - len(saved)


def test_one_that_was_never_begun_holds_nothing(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.iter_batch(prompts(3), model=MODEL, checkpoint=path)
    assert len(llm.send_batch(prompts(3), model=MODEL, checkpoint=path)) == 3


@pytest.mark.parametrize("cut", [1, 2, 40, 200])
def test_a_torn_last_line_is_cut_off(
    llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path, cut: int
) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(prompts(10), 1, model=MODEL, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes(whole[:-cut])
    batch = llm.send_batch(prompts(10), 1, model=MODEL, checkpoint=path)
    assert (batch.summary.resumed, batch.summary.successful, requests(simulated)) == (9, 10, 11)
    assert [line["index"] for line in lines(path)[1:]] == list(range(10))


def test_a_torn_first_line_is_written_anew(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch([], model=MODEL, checkpoint=path)
    head = path.read_bytes()
    for end in (0, 1, 20, len(head) - 1):
        path.write_bytes(head[:end])
        llm.send_batch([], model=MODEL, checkpoint=path)
        assert path.read_bytes() == head


def test_zeros_after_a_power_cut_are_cut_off(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(prompts(3), model=MODEL, checkpoint=path)
    whole = path.read_bytes()
    path.write_bytes(whole + b"\0" * 100 + b"\n")
    assert llm.send_batch(prompts(3), model=MODEL, checkpoint=path).summary.resumed == 3
    assert path.read_bytes() == whole


@pytest.mark.parametrize(
    ("other", "named"),
    [
        ({"model": "gpt-4o"}, "model"),
        ({"temperature": 0.5}, "temperature"),
        ({"system": "Be brief."}, "system"),
        ({"provider": "openai"}, "provider"),
        ({"task_name": "summaries"}, "task_name"),
    ],
)
def test_another_job_is_refused(llm: LLMInterface, tmp_path: Path, other: dict[str, Any], named: str) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(prompts(3), model=MODEL, checkpoint=path)
    before = path.read_bytes()
    with pytest.raises(CheckpointError, match=f"of another job: .* another {named} ") as raised:
        llm.send_batch(prompts(3), checkpoint=path, **({"model": MODEL} | other))
    assert raised.value.path == str(path)
    assert path.read_bytes() == before


def test_what_answers_do_not_depend_on_may_change(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(prompts(3), model=MODEL, checkpoint=path)
    again = llm.send_batch(prompts(3), 2, model=MODEL, checkpoint=path, priority=1, timeout=60, retry=False)
    assert again.summary.resumed == 3


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"my novel\n", "does not begin like one"),
        (b'{"a": 1}\n{"b": 2}\n', "does not begin like one"),
        (b"[]\n", "does not begin like one"),
        (b"\0\0\0\0", "does not begin like one"),
        (b"no end of line", "does not begin like one"),
        (b'{"quotaflow_checkpoint":99,"job":{}}\n', "version 99"),
    ],
)
def test_what_is_no_checkpoint_is_left_alone(
    llm: LLMInterface, tmp_path: Path, content: bytes, words: str
) -> None:
    path = tmp_path / "done.jsonl"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=words):
        llm.send_batch(prompts(3), model=MODEL, checkpoint=path)
    assert path.read_bytes() == content


def test_paths_that_cannot_be_used(llm: LLMInterface, tmp_path: Path, simulated: SimulatedProviders) -> None:
    for path in (tmp_path, tmp_path / "no" / "such" / "folder"):
        with pytest.raises(CheckpointError, match="cannot be used"):
            llm.send_batch(prompts(3), model=MODEL, checkpoint=path)
    assert requests(simulated) == 0


def test_two_runs_do_not_share_a_file(llm: LLMInterface, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    came = llm.iter_batch(prompts(30), 2, model=MODEL, checkpoint=path)
    next(came)
    with pytest.raises(CheckpointError, match="in use by another run"):
        llm.send_batch(prompts(3), model=MODEL, checkpoint=path)
    came.close()  # type: ignore[attr-defined]
    assert len(llm.send_batch(prompts(30), model=MODEL, checkpoint=path).replies) == 30


def test_a_full_disk_loses_nothing(llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path) -> None:
    import resource

    path = tmp_path / "done.jsonl"
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    # A file that may not grow is a full disk, but for its errno.
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, limits[1]))
    try:
        with pytest.raises(CheckpointError, match="cannot be used") as raised:
            llm.send_batch(prompts(400), 4, model=MODEL, checkpoint=path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        signal.signal(signal.SIGXFSZ, ignored)
    saved = {line["index"] for line in lines(path)[1:]}
    unsaved = {item.index for item in raised.value.unsaved}
    sent = requests(simulated)
    assert sent < 400
    assert unsaved
    assert not saved & unsaved
    assert len(saved | unsaved) == sent, "whatever was paid is in one place or the other"
    assert str(raised.value.unsaved[0].reply).startswith("answer to: prompt ")
    batch = llm.send_batch(prompts(400), model=MODEL, checkpoint=path)
    assert (len(batch.replies), batch.summary.resumed) == (400, len(saved))


JOB = """
import json, sys
from quotaflow import LLMInterface
setup = json.loads(sys.argv[1])
llm = LLMInterface({}, keys=setup["keys"], base_urls=setup["base_urls"], state="memory",
                   limits={"openai": {"concurrency": 1_000}})
try:
    print("begun", flush=True)
    batch = llm.send_batch((f"prompt {number}" for number in range(setup["count"])), setup["concurrency"],
                           model="gpt-4o-mini", checkpoint=setup["checkpoint"], progress=False)
except KeyboardInterrupt:
    print("interrupted", flush=True)
    sys.exit(3)
print(json.dumps([len(batch), batch.summary.successful, batch.summary.resumed]))
"""


def job(world: SimulatedProviders, path: Path, count: int, concurrency: int) -> subprocess.Popen[str]:
    setup = {
        "keys": world.keys, "base_urls": world.base_urls, "checkpoint": str(path), "count": count,
        "concurrency": concurrency,
    }  # fmt: skip
    command = [sys.executable, "-W", "error", "-c", JOB, json.dumps(setup)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True)


def size(path: Path) -> int:
    return path.stat().st_size if path.exists() else 0


def test_killed_three_times_and_resumed(tmp_path: Path) -> None:
    path, count, at_once = tmp_path / "done.jsonl", 5_000, 32
    with simulator(latency=0.005) as world:
        in_flight = 0
        for _ in range(3):
            before = size(path)
            running = job(world, path, count, at_once)
            until(lambda before=before: size(path) > before + 300_000, 20)  # type: ignore[misc]
            assert running.poll() is None
            running.kill()
            running.communicate()
            until(lambda: world.stats()["in_flight"] == 0)
            in_flight += at_once
        last = job(world, path, count, at_once)
        told, _ = last.communicate(timeout=25)
        assert json.loads(told.splitlines()[-1])[:2] == [count, count]
        paid = world.stats()["accepted"]
    done = lines(path)[1:]
    assert len(done) == count
    assert len({line["digest"] for line in done}) == count
    assert {line["reply"]["text"] for line in done} == {f"answer to: prompt {number}" for number in range(count)}
    assert count <= paid <= count + in_flight, f"{paid - count} paid twice"


@pytest.mark.quiet
def test_ctrl_c_ends_it_within_a_second_and_loses_nothing(tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    with simulator(latency=0.02) as world:
        running = job(world, path, 100_000, 16)
        until(lambda: size(path) > 50_000, 20)
        began = time.monotonic()
        running.send_signal(signal.SIGINT)
        told, _ = running.communicate(timeout=10)
        assert time.monotonic() - began < 1
        assert told.splitlines()[-1] == "interrupted"
        assert running.returncode == 3
        answered = world.stats()["accepted"]
    whole = path.read_bytes()
    assert whole.endswith(b"\n")
    done = [line["index"] for line in lines(path)[1:]]
    assert len(done) == len(set(done))
    assert answered - 32 <= len(done) <= answered


def test_the_file_holds_no_key(llm: LLMInterface, simulated: SimulatedProviders, tmp_path: Path) -> None:
    path = tmp_path / "done.jsonl"
    llm.send_batch(prompts(3), model=MODEL, checkpoint=path, system="a secret instruction")
    content = path.read_text(encoding="utf-8")
    assert simulated.keys["openai"][0]["key"] not in content
    assert "a secret instruction" not in content
    assert path.stat().st_mode & 0o777 == 0o600


def test_errors_keep_their_facts_in_the_file(tmp_path: Path) -> None:
    from quotaflow._batch.checkpoint import Checkpoint, line_of_error

    checkpoint = Checkpoint(str(tmp_path / "done.jsonl"), {})
    error = RateLimitError(
        "slow down", hint="wait", status=429, retry_after=2.5, provider="openai", model=MODEL, key="one",
        attempts=[("openai", MODEL, "one", "rate_limited", 429, 1.0, 2.0, 3.0)],
    )  # fmt: skip
    offset = checkpoint.add(7, line_of_error(7, "ab" * 16, "x", error))
    found = checkpoint.lines()
    for _ in ("in memory", "in the file"):
        item = found.item_at(offset, 7)
        assert (item.index, item.id, item.attempts) == (7, "x", 1)
        assert type(item.error) is RateLimitError
        assert vars(item.error) == vars(error)
        checkpoint.save(sync=True)
    checkpoint.close()
    checkpoint.close()


def test_memory_stays_flat_over_many_prompts(tmp_path: Path) -> None:
    script = """
import json, os, sys
from quotaflow import LLMInterface
setup = json.loads(sys.argv[1])
llm = LLMInterface({}, keys=setup["keys"], base_urls=setup["base_urls"], state="memory",
                   limits={"openai": {"concurrency": 64}})
def resident():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE") / 1e6
at = []
def look(progress):
    if progress.done > 2000:
        at.append(resident())
batch = llm.send_batch(setup["source"], model="gpt-4o-mini", checkpoint=setup["checkpoint"], progress=look)
print(json.dumps([len(batch), batch.summary.successful, max(at) - at[0]]))
"""
    source = tmp_path / "prompts.jsonl"
    filler = "lorem ipsum " * 20
    source.write_text("".join(json.dumps(f"{number} {filler}") + "\n" for number in range(10_000)))
    with simulator() as world:
        setup = {
            "keys": world.keys, "base_urls": world.base_urls, "source": str(source),
            "checkpoint": str(tmp_path / "done.jsonl"),
        }  # fmt: skip
        ran = subprocess.run(
            [sys.executable, "-c", script, json.dumps(setup)], capture_output=True, text=True, check=False
        )
    assert ran.returncode == 0, ran.stderr
    count, successful, grown = json.loads(ran.stdout)
    assert (count, successful) == (10_000, 10_000)
    # What they hold together is some twenty times as much.
    assert os.path.getsize(tmp_path / "done.jsonl") > 8e6  # noqa: PTH202
    assert grown < 6


@pytest.mark.timeout(5)
@pytest.mark.parametrize("path", ["/dev/full", "/dev/null", "fifo"])
def test_what_can_not_be_read_again_is_refused(llm: LLMInterface, tmp_path: Path, path: str) -> None:
    if path == "fifo":
        path = str(tmp_path / "fifo")
        os.mkfifo(path)
    with pytest.raises(CheckpointError, match="is no checkpoint to go on with"):
        llm.send_batch(["a"], model=MODEL, checkpoint=path)
