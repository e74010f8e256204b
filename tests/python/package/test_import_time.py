"""What importing loads, starts and opens, and how long it takes."""

from __future__ import annotations

import subprocess
import sys

import pytest

# What `from __future__ import annotations` itself brings; it holds nothing but names.
FREE = {"__future__"}

LIST = """
import sys
before = set(sys.modules)
{statement}
loaded = set(sys.modules) - before
import threading
print(threading.active_count(), *loaded)
"""


def cost(statement: str) -> tuple[set[str], int]:
    """Which modules a statement loads in a fresh interpreter, and how many threads run then."""
    command = [sys.executable, "-I", "-c", LIST.format(statement=statement)]
    threads, *loaded = subprocess.run(command, capture_output=True, check=True, text=True).stdout.split()
    return set(loaded) - FREE, int(threads)


def test_import_loads_only_the_package() -> None:
    assert cost("import quotaflow") == ({"quotaflow"}, 1)


@pytest.mark.parametrize(
    "heavy",
    [
        "asyncio",
        "concurrent.futures",
        "dataclasses",
        "json",
        "logging",
        "pathlib",
        "re",
        "typing",
        "http",
        "inspect",
        "socket",
        "ssl",
        "typing_extensions",
    ],
)
def test_the_interface_loads_nothing_heavy(heavy: str) -> None:
    assert heavy not in cost("from quotaflow import LLMInterface")[0]


def test_the_interface_starts_no_thread() -> None:
    assert cost("from quotaflow import LLMInterface")[1] == 1


def test_errors_can_be_named_without_the_rest() -> None:
    assert cost("from quotaflow import RateLimitError")[0] == {"quotaflow", "quotaflow.errors"}


AUDIT = """
import os, sys
def threads(): return len(os.listdir("/proc/self/task"))
def files(): return sorted(os.readlink(f"/proc/self/fd/{fd}") for fd in (0, 1, 2) + tuple(range(3, 64))
                           if os.path.lexists(f"/proc/self/fd/{fd}"))
before = threads(), files()
seen = []
def hook(event, arguments):
    if event == "open" or event.split(".")[0] in ("socket", "subprocess", "os", "sqlite3", "_thread"):
        seen.append((event, str(arguments[0]) if arguments else "", arguments[1] if event == "open" else None))
sys.addaudithook(hook)
import quotaflow
quotaflow.LLMInterface, quotaflow.RateLimitError, quotaflow.Reply, quotaflow.Usage
imported = list(seen)
llm = quotaflow.LLMInterface({}, keys={"openai": "sk-test-1"})
after = threads(), files()
outside = [e for e in imported if e[0] not in ("os.listdir", "os.scandir")
           and not (e[0] == "open" and e[2] in ("r", "rb") and (".py" in e[1] or e[1].endswith(".so")))]
print(outside, before == after, threads(), os.path.exists(os.environ["XDG_CACHE_HOME"]))
"""


def test_neither_importing_nor_making_one_starts_or_opens_anything() -> None:
    done = subprocess.run([sys.executable, "-c", AUDIT], capture_output=True, check=True, text=True)
    assert done.stdout.split("\n")[0] == "[] True 1 False"


@pytest.mark.quiet
def test_importing_takes_no_time_to_speak_of() -> None:
    command = (
        "import time; began = time.perf_counter(); from quotaflow import LLMInterface; "
        "print(time.perf_counter() - began)"
    )
    took = [
        float(subprocess.run([sys.executable, "-c", command], capture_output=True, check=True, text=True).stdout)
        for _ in range(3)
    ]
    assert min(took) < 0.2
