"""The demo: five keys, tight limits, and more prompts than they allow at once.

Starts a simulator of the providers, sends `prompts.jsonl`, and shows a table, a picture (`demo.svg`) and a second
process that still knows which keys have used up their day. Nothing leaves this machine. `make demo` runs it.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
import tempfile
import time
from collections import Counter
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any

from quotaflow import CallError, LLMInterface
from quotaflow.testing import simulator
from report import Progress, table
from timeline import Mark, draw

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from quotaflow import Attempt

HERE = Path(__file__).parent
AT_ONCE = 48
RATE = {"rpm": 90, "burst": 6}

# What the providers enforce. The two keys of organisation north share one minute and one day.
KEYS: list[dict[str, Any]] = [
    {"key": "sk-test-1", "label": "OPENAI_API_KEY", "provider": "openai", "organization": "org-north"},
    {"key": "sk-test-2", "label": "OPENAI_API_KEY_2", "provider": "openai", "organization": "org-north"},
    {"key": "sk-test-3", "label": "OPENAI_API_KEY_3", "provider": "openai", "organization": "org-south"},
    {"key": "sk-ant-test-1", "label": "ANTHROPIC_API_KEY", "provider": "anthropic", "organization": "org-ant"},
    {"key": "gemini-test-1", "label": "GEMINI_API_KEY", "provider": "gemini", "organization": "project-gem"},
]
ENFORCED = {
    "org-north": RATE | {"rpd": 24},
    "org-south": RATE | {"rpd": 500},
    "org-ant": RATE | {"rpd": 500},
    "project-gem": {"rpm": 60, "rpd": 500},
}
# For five seconds the provider behind the Anthropic key has no capacity.
FAULTS = [{"when": {"provider": "anthropic", "between": [6, 11]}, "do": {"status": 529}}]

# What the program knows: the limits of a minute. The limits of a day it finds out.
PER_MINUTE = {"rpm": {"amount": RATE["rpm"], "burst": RATE["burst"]}}
LIMITS = {"openai": PER_MINUTE, "anthropic": PER_MINUTE, "gemini": {"rpm": 60}}
MODEL = {"openai": "gpt-4o-mini", "anthropic": "claude-haiku-4-5", "gemini": "gemini-2.5-flash"}
CONFIG = {
    "models": {
        "default": {"provider": "openai", "model": MODEL["openai"]},
        "fallback": [{"provider": name, "model": MODEL[name]} for name in ("gemini", "openai")],
    }
}
PROVIDER_OF_TOPIC = dict.fromkeys(("translation", "languages", "writing"), "anthropic") | dict.fromkeys(
    ("summary", "extraction", "knowledge"), "gemini"
)


@dataclass(frozen=True)
class Sent:
    """One prompt and what became of it."""

    asked: str
    attempts: tuple[Attempt, ...]
    error: CallError | None


async def send_all(llm: LLMInterface, prompts: Sequence[dict[str, str]], progress: Progress) -> list[Sent]:
    """Send all prompts, a bounded number at once, each to the provider its topic is for."""
    room = asyncio.Semaphore(AT_ONCE)

    async def send(line: dict[str, str]) -> Sent:
        asked = PROVIDER_OF_TOPIC.get(line["topic"], "openai")
        async with room:
            try:
                reply = await llm.asend_prompt(line["prompt"], provider=asked, model=MODEL[asked], max_tokens=64)
                sent = Sent(asked, reply.attempts, None)
            except CallError as error:
                sent = Sent(asked, error.attempts, error)
        progress.step(sent.attempts[-1].key if sent.attempts else "no key")
        return sent

    return list(await asyncio.gather(*(send(line) for line in prompts)))


def marks_of(sent: Iterable[Sent], began: float) -> list[Mark]:
    """Return one mark of the picture for each attempt."""
    marks = []
    for call in sent:
        for attempt in call.attempts:
            if attempt.succeeded:
                outcome = "answered" if attempt.provider == call.asked else "fell_back"
                words = f"answered by {attempt.model}"
            else:
                known = attempt.failure in {"rate_limited", "daily_quota", "overloaded"}
                outcome = str(attempt.failure) if known else "failed"
                words = f"{attempt.failure} ({attempt.status}) from {attempt.model}"
            start = attempt.started_unix - began
            marks.append(Mark(attempt.key, start, attempt.waited_seconds, outcome, words))
    return marks


def exhausted_until(llm: LLMInterface) -> dict[str, float]:
    """Return until when (seconds since 1970) each key that has used up its day is left alone."""
    return {
        key["label"]: key["exhausted_until"]
        for key in llm.status()["keys"]
        if key.get("exhausted_until") is not None
    }


def clock(unix: float | None) -> str:
    """Return a moment as people write it, in the zone of this machine."""
    return "" if unix is None else f"{datetime.fromtimestamp(unix).astimezone():%d %b %H:%M:%S}"


def key_rows(marks: Sequence[Mark], until: dict[str, float]) -> list[tuple[str, ...]]:
    """Return the rows of the table: label, sent, waited, refused, exhausted until."""
    rows: list[tuple[str, ...]] = []
    for key in KEYS:
        own = [mark for mark in marks if mark.key == key["label"]]
        refused = Counter(mark.outcome for mark in own if mark.outcome not in {"answered", "fell_back"})
        words = ", ".join(f"{count} {outcome.replace('_', ' ')}" for outcome, count in sorted(refused.items()))
        waits = [mark.waited for mark in own if mark.waited > 0.05]
        waited = f"{len(waits)} calls, longest {max(waits):.1f} s" if waits else "none"
        rows.append(
            (
                key["label"],
                key["organization"],
                str(len(own)),
                waited,
                words or "0",
                clock(until.get(key["label"])),
            )
        )
    return rows


def proofs(sent: Sequence[Sent], marks: Sequence[Mark], later: dict[str, Any]) -> list[tuple[str, bool]]:
    """Return what this demo promises to show, and whether it did."""
    north = {key["label"] for key in KEYS if key["organization"] == "org-north"}
    answers = [call for call in sent if call.error is None]
    rotated = any(
        any(attempt.failure == "daily_quota" for attempt in call.attempts) and call.attempts[-1].key not in north
        for call in answers
    )
    fell_back = any(
        any(attempt.status == 529 for attempt in call.attempts) and call.attempts[-1].provider != call.asked
        for call in answers
    )
    known = north <= set(later["known"]) and later["keys"] and not north & set(later["keys"])
    return [
        (f"every prompt was answered ({len(answers)} of {len(sent)})", len(answers) == len(sent)),
        ("a minute limit was waited out", any(mark.waited > 1 and mark.outcome == "answered" for mark in marks)),
        ("a day limit was met, and the call went to another organisation", rotated),
        ("a 529 fell back to another provider", fell_back),
        ("a second process still knew which keys had used up their day", bool(known)),
    ]


def second_run() -> int:
    """Run the program an hour later, as far as it knows: a new process, the same state file."""
    given = json.load(sys.stdin)
    with LLMInterface(CONFIG, limits=LIMITS, **given["arguments"]) as llm:
        known = exhausted_until(llm)
        sent = asyncio.run(send_all(llm, given["prompts"], Progress(len(given["prompts"]), quiet=True)))
    keys = [attempt.key for call in sent for attempt in call.attempts]
    json.dump({"known": known, "keys": keys}, sys.stdout)
    return 0


def main() -> int:
    """Run the demo; 0 when everything it promises was seen."""
    prompts = [json.loads(line) for line in (HERE / "prompts.jsonl").read_text(encoding="utf-8").splitlines()]
    enforced = [key | {"limits": ENFORCED[key["organization"]]} for key in KEYS]
    with (
        tempfile.TemporaryDirectory(prefix="quotaflow-demo-") as folder,
        simulator(keys=enforced, faults=FAULTS, latency={"min": 0.15, "max": 0.6}, seed=7) as world,
    ):
        arguments: dict[str, Any] = {
            "keys": world.keys,
            "base_urls": world.base_urls,
            "state": str(Path(folder) / "state.sqlite"),
        }
        print(f"{len(prompts)} prompts, {len(KEYS)} keys, providers simulated at {world.url}\n")
        began = time.time()
        with LLMInterface(CONFIG, limits=LIMITS, **arguments) as llm, Progress(len(prompts)) as progress:
            sent = asyncio.run(send_all(llm, prompts, progress))
            until = exhausted_until(llm)
        took = time.time() - began
        marks = marks_of(sent, began)
        heads = ("key", "organisation", "sent", "waited", "refused", "exhausted until")
        print(table(heads, key_rows(marks, until)))
        openai = [line for line in prompts if PROVIDER_OF_TOPIC.get(line["topic"], "openai") == "openai"][:8]
        ran = subprocess.run(  # noqa: S603 - it is this file
            [sys.executable, __file__, "--second-run"],
            input=json.dumps({"arguments": arguments, "prompts": openai}),
            capture_output=True,
            text=True,
            timeout=30,
            check=False,
        )
    if ran.returncode != 0:
        print(ran.stderr, file=sys.stderr)
        return 1
    later = json.loads(ran.stdout)
    print("\nA second process on the same state file:")
    for label, moment in later["known"].items():
        print(f"  {label} is known to be used up until {clock(moment)}")
    for label, count in Counter(later["keys"]).items():
        print(f"  {count} prompts went to {label}")
    write_picture(marks, len(sent), took, until)
    print()
    seen = proofs(sent, marks, later)
    for words, shown in seen:
        print(f"  {'yes' if shown else 'NO '}  {words}")
    for call in [call for call in sent if call.error is not None][:3]:
        print(f"  {type(call.error).__name__}: {call.error}", file=sys.stderr)
    print(f"\n{took:.1f} s; who sent what when: demo.svg")
    return 0 if all(shown for _, shown in seen) else 1


def write_picture(marks: Sequence[Mark], count: int, took: float, until: dict[str, float]) -> None:
    """Write `demo.svg` into the working directory."""
    refused = [mark.start for mark in marks if mark.outcome == "daily_quota"]
    exhausted = dict.fromkeys(until, min(refused)) if refused else {}
    picture = draw(
        marks,
        {key["label"]: key["organization"] for key in KEYS},
        exhausted,
        f"{count} prompts over {len(KEYS)} keys in {took:.0f} s",
        "Every mark is one attempt; hover over it for its story.",
    )
    Path("demo.svg").write_text(picture, encoding="utf-8")


if __name__ == "__main__":
    sys.exit(second_run() if "--second-run" in sys.argv[1:] else main())
