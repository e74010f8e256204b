"""Log records: waits and blocks in one line each, and never a key."""

from __future__ import annotations

import asyncio
import io
import logging
import pickle
import re
import subprocess
import sys
import traceback
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import CallError, LLMInterface, QuotaflowError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from quotaflow.testing import SimulatedProviders

MODEL = "gpt-4o-mini"
PLANTED = "planted-secret-of-this-test"


@pytest.fixture
def lines(caplog: pytest.LogCaptureFixture) -> Callable[[int], list[str]]:
    """What was logged at a level, after asking for that level."""
    caplog.set_level(logging.INFO, logger="quotaflow")

    def at(level: int) -> list[str]:
        return [record.getMessage() for record in caplog.records if record.levelno == level]

    return at


def keys(count: int, **limits: Any) -> list[dict[str, Any]]:
    return [
        {"key": f"{PLANTED}-{n}", "label": f"key {n}", "provider": "openai", "limits": limits}
        for n in range(1, count + 1)
    ]


FAST = {"openai": {"rpm": {"amount": 600, "burst": 1, "refill": "bucket"}}}


@pytest.mark.parametrize("is_async", [False, True])
def test_a_wait_is_one_line_with_who_and_until_when(
    make_llm: Callable[..., LLMInterface], lines: Callable[[int], list[str]], is_async: bool
) -> None:
    llm = make_llm(limits=FAST)
    for _ in range(2):
        if is_async:
            asyncio.run(llm.asend_prompt("Hi", model=MODEL))
        else:
            llm.send_prompt("Hi", model=MODEL)
    [line] = lines(logging.INFO)
    assert "openai/gpt-4o-mini" in line
    assert "OPENAI_API_KEY" in line
    assert "600" in line
    assert re.search(r"until \d{4}-\d\d-\d\d|\d\d:\d\d:\d\d|in [\d.]+ ?m?s", line)
    assert lines(logging.DEBUG) == []


def test_everybody_who_waits_is_told_of(
    make_llm: Callable[..., LLMInterface], lines: Callable[[int], list[str]]
) -> None:
    llm = make_llm(limits=FAST)

    async def send_all() -> None:
        await asyncio.gather(*(llm.asend_prompt("Hi", model=MODEL) for _ in range(4)))

    asyncio.run(send_all())
    assert len(lines(logging.INFO)) == 3


def test_a_wait_is_told_while_it_lasts(
    make_llm: Callable[..., LLMInterface], lines: Callable[[int], list[str]], tmp_path: Path
) -> None:
    # A warning that nobody has heard yet must not keep the bell from ringing.
    limits = {"openai": {"rpm": {"amount": 1, "burst": 1, "refill": "bucket"}}}
    make_llm(limits=limits).send_prompt("Hi", model=MODEL)
    (tmp_path / ".env").write_bytes(b"this is no line of a .env file\n")
    llm = make_llm(limits=limits)

    async def wait() -> None:
        waiting = asyncio.create_task(llm.asend_prompt("Hi", model=MODEL))
        async with asyncio.timeout(5):
            while not (lines(logging.INFO) and lines(logging.WARNING)):  # noqa: ASYNC110 - nothing tells when a line is logged
                await asyncio.sleep(0.005)
        waiting.cancel()

    asyncio.run(wait())
    assert "waiting for openai/gpt-4o-mini" in lines(logging.INFO)[0]


@pytest.mark.quotaflow_simulator(keys=keys(2, rpm=600, rpd=1))
def test_an_exhaustion_and_the_rotation_after_it_are_one_line_each(
    make_llm: Callable[..., LLMInterface], lines: Callable[[int], list[str]]
) -> None:
    llm = make_llm()
    first = llm.send_prompt("Hi", model=MODEL).key
    assert lines(logging.INFO) == []
    other = llm.send_prompt("Hi", model=MODEL)
    told = lines(logging.INFO)
    if len(other.attempts) == 1:  # the least used key goes first; the next call meets a refusal
        with pytest.raises(CallError):
            llm.send_prompt("Hi", model=MODEL)
        told = lines(logging.INFO)
    refusals = [line for line in told if "refused" in line and "daily_quota" in line]
    assert first in "".join(refusals)
    assert all(re.search(r"until \d{4}-\d\d-\d\d|\d\d:\d\d:\d\d", line) for line in refusals)
    assert [line for line in told if "going on with" in line]
    assert all("\n" not in line for line in told)


@pytest.mark.quotaflow_simulator(faults=[{"when": {"provider": "anthropic"}, "do": {"status": 529}}])
def test_a_pause_and_a_fallback_are_one_line_each(
    make_llm: Callable[..., LLMInterface], lines: Callable[[int], list[str]]
) -> None:
    llm = make_llm(
        {
            "models": {
                "default": {"provider": "anthropic", "model": "claude-haiku-4-5"},
                "fallback": [{"provider": "openai", "model": MODEL}],
            }
        }
    )
    llm.send_prompt("Hi", retry_delay=0.01)
    again, fallback = lines(logging.INFO)
    assert "anthropic/claude-haiku-4-5" in again
    assert "overloaded" in again
    assert "anthropic/claude-haiku-4-5" in fallback
    assert "openai/gpt-4o-mini" in fallback
    assert "overloaded" in fallback


@pytest.mark.quotaflow_simulator(keys=keys(3))
def test_debug_says_what_there_was_to_choose_from(
    make_llm: Callable[..., LLMInterface], lines: Callable[[int], list[str]], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="quotaflow")
    chosen = make_llm(limits={"openai": {"rpm": 60}}).send_prompt("Hi", model=MODEL).key
    [line] = lines(logging.DEBUG)
    assert f"chose {chosen}" in line or f"chose key {chosen}" in line
    for label in ("key 1", "key 2", "key 3"):
        assert label in line
    assert {record.name.split(".")[0] for record in caplog.records} == {"quotaflow"}


QUIET = """
import sys
from quotaflow import CallError, LLMInterface
from quotaflow.testing import simulator
with simulator(faults=[{"do": {"status": 500}}]) as world:
    with LLMInterface({}, keys=world.keys, base_urls=world.base_urls, state="memory") as llm:
        try:
            llm.send_prompt("Hi", model="gpt-4o-mini", retry_delay=0.01)
        except CallError:
            sys.exit(7)
"""


def test_nothing_is_printed() -> None:
    done = subprocess.run([sys.executable, "-c", QUIET], capture_output=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (7, b"", b"")


class Broken(logging.Handler):
    """A handler that cannot."""

    def emit(self, _: logging.LogRecord) -> None:
        raise RuntimeError("the disk of the log is full")


@pytest.fixture
def broken_log(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    told: list[Any] = []
    monkeypatch.setattr(sys, "unraisablehook", told.append)
    handler = Broken()
    logging.getLogger("quotaflow").addHandler(handler)
    yield told
    logging.getLogger("quotaflow").removeHandler(handler)


@pytest.mark.usefixtures("lines")
def test_logging_that_fails_costs_no_answer(make_llm: Callable[..., LLMInterface], broken_log: list[Any]) -> None:
    llm = make_llm(limits=FAST)
    replies = [llm.send_prompt("Hi", model=MODEL), llm.send_prompt("Hi", model=MODEL)]
    replies.append(asyncio.run(llm.asend_prompt("Hi", model=MODEL)))
    assert all(reply.provider == "openai" for reply in replies)
    assert {str(problem.exc_value) for problem in broken_log} == {"the disk of the log is full"}


def everything_shown(error: BaseException) -> str:
    """All the ways an exception ends up on a screen or in a file."""
    return "\n".join(
        [
            str(error),
            repr(error),
            "".join(traceback.format_exception(error)),
            repr(vars(error)),
            pickle.dumps(error).decode("latin-1"),
        ]
    )


ECHO = f'{{"error": {{"message": "Incorrect API key provided: {PLANTED}-1.", "type": "invalid_request_error"}}}}'


@pytest.mark.quotaflow_simulator(
    keys=keys(2),
    faults=[
        {"when": {"key": "key 1", "nth": [1]}, "do": {"status": 500, "body": ECHO}},
        {"when": {"key": "key 1", "nth": [2]}, "do": {"status": 401, "body": ECHO}},
    ],
)
def test_a_planted_key_is_found_nowhere(
    make_llm: Callable[..., LLMInterface],
    simulated: SimulatedProviders,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    caplog.set_level(logging.DEBUG)
    shown = io.StringIO()
    llm = make_llm()
    for _ in range(6):
        try:
            reply = llm.send_prompt("Hi", model=MODEL, retry_delay=0.01, timeout=1)
            shown.write(f"{reply!r} {reply.attempts!r} {reply.raw!r} {pickle.dumps(reply)!r}")
        except QuotaflowError as error:
            shown.write(everything_shown(error))
        shown.write(str(llm.status()))
    assert "Incorrect API key" in shown.getvalue() + caplog.text
    shown.write(repr(llm))
    for held in (llm, llm._caller):
        slots = [name for kind in type(held).__mro__ for name in getattr(kind, "__slots__", ())]
        shown.write("".join(repr(getattr(held, name, "")) for name in slots))
    shown.write(caplog.text)
    shown.write("".join(str(vars(record)) for record in caplog.records))
    shown.write("".join(capfd.readouterr()))
    files = list(tmp_path.glob("state.sqlite*"))
    assert {path.name for path in files} >= {"state.sqlite", "state.sqlite-wal"}
    for path in files:
        shown.write(path.read_bytes().decode("latin-1"))
    assert simulated.stats()["refused"]["injected"] >= 2
    assert PLANTED not in shown.getvalue()


@pytest.mark.parametrize(
    "arguments",
    [
        {"keys": {"openai": [PLANTED, {"kee": PLANTED}]}},
        {"keys": {PLANTED: "x"}},
        {"keys": {"openai": [PLANTED, PLANTED + "\n"]}},
        {"keys": {"openai": {"key": PLANTED, "limits": {"rpm": 0}}}},
        {"config": {"providers": {"openai": {"api_key": PLANTED}}}},
        {"config": {"providers": {"openai": {"keys": {"key": [PLANTED]}}}}},
        {"config": {"models": {"default": {"model": MODEL, "key": {"a": PLANTED}}}}},
        {"base_urls": {"openai": f"http://user:{PLANTED}@127.0.0.1/v1"}},
        {"state": f"redis://:{PLANTED}@127.0.0.1:99999/0"},
    ],
)
def test_a_config_error_shows_no_key(arguments: dict[str, Any]) -> None:
    def use() -> None:
        with LLMInterface(**({"config": {}, "state": "memory"} | arguments)) as llm:
            llm.send_prompt("Hi", provider="openai", model=MODEL, retry=False, timeout=0.001)

    with pytest.raises(QuotaflowError) as caught:
        use()
    assert PLANTED not in everything_shown(caught.value)
