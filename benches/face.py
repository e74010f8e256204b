"""Microseconds that Python adds to a call, and milliseconds that importing takes.

The core is replaced by one that answers at once, so what is left is Python. Each figure is the best of many
rounds: the machine's other work can only make a round slower.
"""

from __future__ import annotations

import subprocess
import sys
import time
from typing import TYPE_CHECKING, Any

from quotaflow import LLMInterface
from quotaflow._call import base

if TYPE_CHECKING:
    from collections.abc import Callable

ROUNDS, CALLS = 30, 2_000
STARTS = 15


class Answer:
    """An outcome as Rust hands it over, as far as a reply reads it at once."""

    text = "Paris"


class InstantCore:
    """Answers at once; what a call costs then is Python."""

    def __init__(self, *_: object) -> None:
        self.answer = Answer()
        self.limits_money = False

    def send(self, _prompt: str | bytes, _options: object) -> Answer:
        """Do the same answer for everything."""
        return self.answer


def best(call: Callable[[], object]) -> float:
    """Return microseconds of one call, in the best round."""
    rounds = []
    for _ in range(ROUNDS):
        began = time.perf_counter()
        for _ in range(CALLS):
            call()
        rounds.append((time.perf_counter() - began) / CALLS)
    return min(rounds) * 1e6


def start(statement: str) -> float:
    """Return milliseconds of a fresh interpreter that runs one statement, at best."""
    times = []
    for _ in range(STARTS):
        began = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", statement], check=True)  # noqa: S603 - the statements stand below
        times.append(time.perf_counter() - began)
    return min(times) * 1e3


def main() -> None:
    """Print one line for each figure."""
    instant: Any = InstantCore
    vars(base)["Core"] = instant
    llm = LLMInterface(state="memory")
    core: Any = InstantCore()
    messages = [{"role": "system", "content": "Be brief."}, {"role": "user", "content": "Capital of France?"}]
    bare = best(lambda: core.send("Capital of France?", None))
    for name, call in {
        "send_prompt, defaults": lambda: llm.send_prompt("Capital of France?"),
        "send_prompt, model and system": lambda: llm.send_prompt(
            "Hi", None, "openai", "gpt-4o-mini", system="Be brief."
        ),
        "send_prompt, max_tokens=64": lambda: llm.send_prompt("Hi", model="gpt-4o-mini", max_tokens=64),
        "send_prompt, two messages": lambda: llm.send_prompt(messages),
    }.items():
        print(f"{name:<36} {best(call) - bare:6.2f} µs over the core")
    nothing = start("pass")
    for statement in ("import quotaflow", "from quotaflow import LLMInterface"):
        print(f"{statement:<36} {start(statement) - nothing:6.2f} ms over an interpreter that does nothing")


if __name__ == "__main__":
    main()
