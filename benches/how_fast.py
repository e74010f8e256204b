"""Calls per second, beside other clients on the same machine at the same time.

Prints a table: what, measured, the yardstick measured in turns with it, their ratio, what is asked, and whether
that is reached. `make bench` runs it; `benches/README.md` says how to read it. Ends by itself in a few minutes.
Exit code 0, whatever was measured: numbers of a shared machine are read, not enforced.
"""
# ruff: noqa: S603 - it runs its own programs, and it is a table that is printed

from __future__ import annotations

import json
import math
import os
import resource
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import TYPE_CHECKING

from stage import CLEAN, HERE, Stage, built_programs, server

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from stage import Caller, Server

ROUNDS = 12
SECONDS = 0.25
OURS = ("quotaflow memory", "quotaflow sqlite")


def line(
    what: str,
    measured: str,
    yardstick: str,
    ratio: str,
    asked: str = "",
    reached: bool | None = None,
    processor: str = "",
) -> None:
    """Print one line of the table, as soon as it is known."""
    verdict = {True: "ok", False: "MISS", None: ""}[reached]
    print(
        f"{what:<72} {measured:>10}  {yardstick:<42} {ratio:>6}  {asked:<13} {verdict:<4}  {processor}", flush=True
    )


def ledger(program: str) -> None:
    """Measure reserving and settling."""
    asked = {"memory": 2_000, "sqlite": 80_000}
    measured = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for row in map(json.loads, measured.splitlines()):
        most, nanos, bare = asked[row["store"]], row["nanos"], row["yardstick_nanos"]
        threads = "1 thread" if row["threads"] == 1 else "8 threads (best round)"
        line(
            f"reserve+settle, {row['store']}, {threads}, {row['what']}",
            f"{nanos / 1000:.2f} us",
            f"{bare / 1000:.2f} us {row['yardstick']}",
            f"{nanos / bare:.2f}",
            f"< {most // 1000} us",
            nanos < most,
        )


def decisions(program: str) -> None:
    """Measure choosing among many keys, classifying refusals, learning from headers, a ledger's size."""
    measured = subprocess.run([program], check=True, stdout=subprocess.PIPE, text=True).stdout
    for row in map(json.loads, measured.splitlines()):
        measured, most, in_time = row["measured"], row["most"], row["unit"] == "ns"
        line(
            row["what"],
            f"{measured / 1000:.2f} us" if in_time else f"{measured:.0f} bytes",
            "",
            "",
            f"< {most // 1000} us" if in_time else f"< {most} bytes",
            measured < most,
        )


def in_turns(callers: Sequence[Caller], field: str, **job: float) -> dict[str, list[float]]:
    """Let each caller do the job once to warm up, then in turns; return each figure, round by round."""
    for caller in callers:
        caller.do(**job)
        caller.calls = caller.processor_seconds = 0.0
    measured: dict[str, list[float]] = {caller.name: [] for caller in callers}
    for turn in range(ROUNDS):
        # Every other round backwards, so that none always follows the same neighbour.
        for caller in callers if turn % 2 == 0 else reversed(callers):
            measured[caller.name].append(caller.do(**job)[field])
    return measured


def ratio_of(own: Sequence[float], theirs: Sequence[float]) -> float:
    """Return the median of the ratios of neighbours in time: what slows the machine down slows both."""
    return statistics.median(mine / other for mine, other in zip(own, theirs, strict=True))


def sequential(stage: Stage, fast: Server) -> None:
    """Measure `send_prompt`, one call after the other."""
    names = ["reqwest", *OURS, "reqwest, 2 workers", "http_client", "httpx"]
    callers = [stage.caller(name, fast) for name in names]
    measured = in_turns(callers, "median_us", in_flight=0, seconds=SECONDS)
    bare = measured["reqwest"]
    asked = {"quotaflow memory": 2.5, "quotaflow sqlite": 5.0}
    for caller in callers[1:]:
        name = caller.name
        ratio, most = ratio_of(measured[name], bare), asked.get(name)
        line(
            f"one call after the other, 0 ms: {name}",
            f"{statistics.median(measured[name]):.0f} us",
            f"{statistics.median(bare):.0f} us bare reqwest, one thread",
            f"{ratio:.2f}",
            "" if most is None else f"< {most} x",
            None if most is None else ratio < most,
            processor_of(caller, callers[0]),
        )
    for caller in callers:
        caller.end()


def stream(stage: Stage, folder: Path) -> None:
    """Measure `stream_prompt` with a thousand pieces, one stream after the other."""
    pieces, most = 1_000, 2.0
    with server(folder, 0.0, stream={"pieces": pieces}) as at:
        bare = stage.caller("reqwest stream", at)
        callers = [bare, *(stage.caller(name, at, pieces=pieces) for name in OURS)]
        measured = in_turns(callers, "median_us", in_flight=0, seconds=SECONDS)
        for caller in callers[1:]:
            ratio = ratio_of(measured[caller.name], measured[bare.name])
            line(
                f"a stream of {pieces:,} pieces: {caller.name}",
                f"{statistics.median(measured[caller.name]):.0f} us",
                f"{statistics.median(measured[bare.name]):.0f} us bare reqwest, unread",
                f"{ratio:.2f}",
                f"< {most:g} x",
                ratio < most,
                processor_of(caller, bare),
            )
        for caller in callers:
            caller.end()


def processor_of(caller: Caller, other: Caller) -> str:
    """Return the processor time of a call, beside that of the yardstick."""
    return f"{caller.processor_us():.0f} to {other.processor_us():.0f} us"


def concurrent(
    stage: Stage, at: Server, latency: str, in_flight: int, least: dict[str, float], others: Sequence[str] = ()
) -> None:
    """Measure `asend_prompt`, so many calls always in flight, beside aiohttp."""
    names = ["aiohttp", *OURS, *others]
    callers = [stage.caller(name, at) for name in names]
    measured = in_turns(callers, "per_second", in_flight=in_flight, seconds=SECONDS)
    for caller in callers[1:]:
        name = caller.name
        ratio, asked = ratio_of(measured[name], measured["aiohttp"]), least.get(name)
        line(
            f"asyncio, {in_flight} in flight, {latency}: {name}",
            f"{statistics.median(measured[name]):,.0f}/s",
            f"{statistics.median(measured['aiohttp']):,.0f}/s aiohttp",
            f"{ratio:.2f}",
            "" if asked is None else f">= {asked} x",
            None if asked is None else ratio >= asked,
            processor_of(caller, callers[0]),
        )
    for caller in callers:
        caller.end()


def batches(stage: Stage, fast: Server) -> None:
    """Measure `send_batch` of 10,000 prompts beside others with 64 in flight; and the memory of 100,000."""
    names = [*OURS, "aiohttp", "reqwest", "reqwest, 2 workers"]
    callers = {name: stage.caller(name, fast) for name in names}
    measured: dict[str, list[float]] = {name: [] for name in names}
    for turn in range(-1, 5):
        for name, caller in callers.items():
            job = {"batch": 10_000} if name in OURS else {"in_flight": 64, "seconds": SECONDS}
            went = caller.do(**job)
            if went.get("lost"):
                raise RuntimeError(f"{name} lost {went['lost']:.0f} prompts")
            if turn >= 0:
                measured[name].append(went["per_second"])
    others = ", ".join(f"{statistics.median(measured[name]):,.0f}/s {name}" for name in names[2:])
    for name in OURS:
        speed = statistics.median(measured[name])
        least = 25_000 if name == OURS[0] else None
        line(
            f"send_batch, 10,000 prompts, 0 ms: {name}",
            f"{speed:,.0f}/s",
            others,
            f"{ratio_of(measured[name], measured['aiohttp']):.2f}",
            "" if least is None else f">= {least:,}/s",
            None if least is None else speed >= least,
        )
    flat = callers[OURS[0]].do(batch=100_000, flat=1)
    line(
        "iter_batch, 100,000 prompts: memory that grew after the first tenth",
        f"{flat['grown_mb']:.1f} MB",
        f"{flat['per_second']:,.0f}/s",
        "",
        "< 20 MB",
        flat["grown_mb"] < 20,
    )
    for caller in callers.values():
        caller.end()


def import_time() -> None:
    """Return what an import adds to a start of Python."""

    def start(program: str) -> float:
        began = time.perf_counter()
        subprocess.run([sys.executable, "-c", program], check=True, env=CLEAN)
        return (time.perf_counter() - began) * 1000

    programs = {"import quotaflow": 30, "from quotaflow import LLMInterface": None, "import httpx": None}
    took: dict[str, list[float]] = {program: [] for program in ["pass", *programs]}
    for _ in range(15):
        for program, times in took.items():
            times.append(start(program))
    bare = statistics.median(took["pass"])
    for program, most in programs.items():
        added = statistics.median(mine - other for mine, other in zip(took[program], took["pass"], strict=True))
        line(
            program,
            f"{added:+.1f} ms",
            f"{bare:.1f} ms python -c pass",
            f"{(bare + added) / bare:.2f}",
            "" if most is None else f"< {most} ms",
            None if most is None else added < most,
        )


def wheel_size() -> None:
    """Return the release wheel."""
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    for wheel in (target / "wheels" / "release").glob("quotaflow-*.whl"):
        size = wheel.stat().st_size / 1e6
        line("the release wheel", f"{size:.1f} MB", "", "", "< 12 MB", size < 12)


def memory_in_flight(stage: Stage, folder: Path) -> None:
    """Return what a call in flight costs in memory, measured between 100 and 10,100 of them."""
    more, each = 10_000, {}
    for name in ("aiohttp", *OURS):
        # A server each: it keeps the connections of calls whose caller is gone until their time is over.
        with server(folder, 120.0) as slow:
            caller = stage.caller(name, slow)
            caller.do(hold=100, seconds=1.0)
            before, began = caller.resident_kib(), slow.stats()["in_flight"]
            caller.start(hold=more, seconds=60.0)
            end = time.monotonic() + 40
            while slow.stats()["in_flight"] < began + more and time.monotonic() < end:
                time.sleep(0.25)
            reached = slow.stats()["in_flight"] - began
            each[name] = (caller.resident_kib() - before) / more if reached == more else math.nan
            caller.end()
        if reached < more:
            print(f"only {reached} calls of {name} came into flight in 40 s", file=sys.stderr)
    for name in OURS:
        line(
            f"memory of a call, 10,000 in flight: {name}",
            f"{each[name]:.1f} KiB",
            f"{each['aiohttp']:.1f} KiB aiohttp",
            f"{each[name] / each['aiohttp']:.2f}",
            "< 40 KiB",
            each[name] < 40,
        )


def paced(stage: Stage, folder: Path, prompts: int, keys: int, rate: int, job: str) -> None:
    """Measure prompts over keys of `rate` a minute, 20 at once; both stores at the same time."""
    burst = 20
    optimum = (prompts - keys * burst) / (keys * rate / 60)
    limits = {"rpm": {"amount": rate, "burst": burst}}
    names = [f"sk-test-{number}" for number in range(keys)]
    known = [
        {"key": name, "provider": "openai", "organization": f"org-{name}", "limits": {"rpm": rate, "burst": burst}}
        for name in names
    ]
    with server(folder, 0.0, known) as one, server(folder, 0.0, known) as other:
        runs = {
            name: (stage.caller(name, at, keys=names, limits=limits), at)
            for name, at in zip(OURS, (one, other), strict=True)
        }
        for caller, _ in runs.values():
            caller.start(**{job: prompts})
        for name, (caller, at) in runs.items():
            measured = caller.answer()
            refused = sum(at.stats()["refused"].values())
            ratio = measured["seconds"] / optimum
            good = ratio <= 1.01 and refused == 0 and measured["lost"] == 0
            how = "as a batch" if job == "batch" else "at once"
            line(
                f"{prompts:,} prompts {how}, {keys} keys of {rate} RPM (bucket of {burst}): {name}",
                f"{measured['seconds']:.2f} s",
                f"{optimum:.2f} s optimum; {refused} x 429, {measured['lost']:.0f} lost",
                f"{ratio:.4f}",
                "<= 1.01, 0, 0",
                good,
            )


def main() -> int:
    """Measure everything, or only the parts named on the command line."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    programs = built_programs()
    target = Path(os.environ.get("CARGO_TARGET_DIR", HERE.parent / "target"))
    began = time.monotonic()
    # Beside what is built, and not in /tmp: there a file may be memory, and SQLite would look better than it is.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=target) as name, Stage(Path(name), programs) as stage:
        folder = Path(name)
        with server(folder, 0.0) as fast, server(folder, 0.02) as middling:
            memory, sqlite = OURS
            parts: dict[str, Callable[[], None]] = {
                "ledger": lambda: ledger(programs["ledger"]),
                "decisions": lambda: decisions(programs["decisions"]),
                "queue": lambda: decisions(programs["waiting_line"]),
                "sequential": lambda: sequential(stage, fast),
                "stream": lambda: stream(stage, folder),
                "one": lambda: concurrent(stage, fast, "0 ms", 1, {}),
                "64": lambda: concurrent(
                    stage, fast, "0 ms", 64, {memory: 2.0, sqlite: 1.0}, ["httpx", "reqwest", "reqwest, 2 workers"]
                ),
                "512": lambda: concurrent(stage, fast, "0 ms", 512, {}),
                "latency": lambda: concurrent(stage, middling, "20 ms", 512, {memory: 1.5, sqlite: 1.5}),
                "batch": lambda: batches(stage, fast),
                "import": import_time,
                "wheel": wheel_size,
                "memory": lambda: memory_in_flight(stage, folder),
                "paced": lambda: paced(stage, folder, 900, 3, 600, "prompts"),
                "paced-batch": lambda: paced(stage, folder, 5_000, 5, 1_200, "batch"),
            }
            print(f"{os.cpu_count()} cores, load {os.getloadavg()[0]:.1f} before we began")
            line("what", "measured", "yardstick, in turns with it", "ratio", "asked", None, "processor a call")
            for part in sys.argv[1:] or parts:
                parts[part]()
    print(f"{time.monotonic() - began:.0f} s, load {os.getloadavg()[0]:.1f}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
