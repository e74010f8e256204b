"""Processes of a measurement: servers, callers, and programs that cargo builds."""

# ruff: noqa: S101, S310, S603 - it runs its own programs and talks to its own server

from __future__ import annotations

import json
import os
import subprocess
import sys
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from callers import BODY, STREAM_BODY

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import Self

HERE = Path(__file__).parent
KEY = "sk-test-1"
# Nothing a person has in their environment takes part.
CLEAN = {
    name: value
    for name, value in os.environ.items()
    if "_API_KEY" not in name and not name.startswith("QUOTAFLOW")
}


def built_programs() -> dict[str, str]:
    """Build the Rust programs beside this file; return where they are."""
    command = ["cargo", "bench", "--locked", "--no-default-features", "--no-run", "--message-format=json"]
    command += ["--bench", "decisions", "--bench", "ledger", "--bench", "reqwest_loop", "--bench", "waiting_line"]
    output = subprocess.run(command, cwd=HERE.parent, check=True, stdout=subprocess.PIPE, text=True).stdout
    lines = [json.loads(line) for line in output.splitlines()]
    return {line["target"]["name"]: line["executable"] for line in lines if line.get("executable")}


class Caller:
    """A process that calls and tells how fast it went."""

    def __init__(self, name: str, command: list[str]) -> None:
        self.name = name
        self.calls = 0.0
        self.processor_seconds = 0.0
        self.speaks_json = command[0] == sys.executable
        self.process = subprocess.Popen(
            command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=CLEAN, bufsize=1
        )

    def start(self, **job: float) -> None:
        """Give it a job."""
        assert self.process.stdin is not None
        text = json.dumps(job) if self.speaks_json else f"{job['in_flight']} {job['seconds']}"
        self.process.stdin.write(text + "\n")

    def answer(self) -> dict[str, float]:
        """Return its answer to the job."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.name} ended with exit code {self.process.wait()}")
        output: dict[str, float] = json.loads(line)
        return output

    def do(self, **job: float) -> dict[str, float]:
        """Give it a job and wait for its answer."""
        before = self.processor()
        self.start(**job)
        output = self.answer()
        self.processor_seconds += self.processor() - before
        self.calls += output.get("calls", 0)
        return output

    def processor(self) -> float:
        """Return the processor time all its threads have used, in seconds."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def processor_us(self) -> float:
        """Return the processor time a call cost it so far, in microseconds."""
        return self.processor_seconds / self.calls * 1e6

    def resident_kib(self) -> int:
        """Return the memory it holds."""
        status = Path(f"/proc/{self.process.pid}/status").read_text(encoding="ascii")
        return int(next(line.split()[1] for line in status.splitlines() if line.startswith("VmRSS")))

    def end(self) -> None:
        """End the process, whatever it does."""
        self.process.kill()
        self.process.communicate()


class Server:
    """A simulator in its own process."""

    def __init__(self, process: subprocess.Popen[str], url: str) -> None:
        self.process = process
        self.url = url

    @property
    def base_url(self) -> str:
        """As the SDKs of OpenAI take it."""
        return self.url + "/v1"

    def stats(self) -> dict[str, Any]:
        """Return what it has seen."""
        with urllib.request.urlopen(self.url + "/stats", timeout=30) as answer:
            seen: dict[str, Any] = json.load(answer)
        return seen


@contextmanager
def server(
    folder: Path, latency: float, keys: list[dict[str, Any]] | None = None, **more: Any
) -> Iterator[Server]:
    """Return a simulator that answers after `latency` seconds; one key without limits unless given."""
    known = keys or [{"key": KEY, "provider": "openai", "limits": "none"}]
    file = folder / f"server-{os.urandom(4).hex()}.json"
    file.write_text(json.dumps({"keys": known, "timeline": 0} | more), encoding="utf-8")
    command = [sys.executable, "-m", "quotaflow", "simulate", "--port", "0", "--latency", str(latency)]
    process = subprocess.Popen(
        [*command, "--keys", str(file)], stdout=subprocess.PIPE, text=True, env=CLEAN, cwd=folder
    )
    assert process.stdout is not None
    try:
        yield Server(process, process.stdout.readline().strip())
    finally:
        process.kill()
        process.communicate()


class Stage:
    """Starts callers and ends them all."""

    def __init__(self, folder: Path, programs: dict[str, str]) -> None:
        self.folder = folder
        self.programs = programs
        self.callers: list[Caller] = []

    def caller(self, name: str, to: Server, **more: Any) -> Caller:
        """Return a caller by its name.

        `reqwest`, `reqwest, 2 workers`, `reqwest stream`, `http_client`,
        `httpx`, `aiohttp`, `quotaflow memory`, `quotaflow sqlite`.
        """
        if name.startswith("reqwest"):
            workers = "2" if name == "reqwest, 2 workers" else "0"
            body = STREAM_BODY if name == "reqwest stream" else BODY
            command = [self.programs["reqwest_loop"], to.base_url + "/chat/completions", KEY, body, workers]
        else:
            kind, _, state = name.partition(" ")
            where = state if state == "memory" else str(self.folder / f"{os.urandom(4).hex()}.sqlite")
            setup = {"keys": [KEY], "base_url": to.base_url, "state": where} | more
            command = [sys.executable, str(HERE / "callers.py"), kind, json.dumps(setup)]
        caller = Caller(name, command)
        self.callers.append(caller)
        return caller

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_raised: object) -> None:
        for caller in self.callers:
            caller.end()
