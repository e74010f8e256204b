"""Does importing load and start nothing that was not asked for?"""

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
