"""Compatibility with 0.1.0: files that it wrote are read, and mean the same."""

from __future__ import annotations

import base64
import json
import pickle
import shutil
import time
from pathlib import Path
from typing import Any

import pytest

from quotaflow import LLMInterface, RateLimiter

WRITTEN = Path(__file__).parents[2] / "compatibility" / "0.1.0"
PICKLES: dict[str, dict[str, Any]] = json.loads((WRITTEN / "pickles.json").read_text(encoding="utf-8"))
MODEL = "gpt-4o-mini"
# The writer's simulator listened there. Its answers are found again under this address; nothing listens there now.
BASE_URL = "http://127.0.0.1:47821/v1"
PROMPTS: list[Any] = [*(f"River {n}" for n in range(6)), {"prompt": "Lake", "id": "the lake", "temperature": 0}]


def opened(state: str) -> LLMInterface:
    keys = [{"key": "sk-test-1", "label": "first"}, {"key": "sk-test-2", "label": "second"}]
    limits = {"rpd": {"amount": 100, "refill": "rolling"}, "pause_threshold": 1.0}
    return LLMInterface(
        {}, keys={"openai": keys}, base_urls={"openai": BASE_URL}, limits={"openai": limits}, state=state
    )


def values_of(thing: object) -> dict[str, str]:
    values = {name: getattr(thing, name, None) for name in dir(thing) if not name.startswith("_")}
    return {name: repr(value) for name, value in values.items() if not callable(value)}


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_of_0_1_0_is_read(name: str) -> None:
    written = PICKLES[name]
    thing = pickle.loads(base64.b64decode(written["pickle"]))
    assert repr(thing) == written["repr"]
    values = values_of(thing) if written["attributes"] else {}
    assert {known: values.get(known) for known in written["attributes"]} == written["attributes"]
    again = pickle.loads(pickle.dumps(thing))
    assert type(again) is type(thing)
    assert repr(again) == repr(thing)


def test_a_checkpoint_of_0_1_0_is_resumed(tmp_path: Path) -> None:
    path = tmp_path / "checkpoint.jsonl"
    shutil.copyfile(WRITTEN / "checkpoint.jsonl", path)
    with opened("memory") as llm:
        batch = llm.send_batch(PROMPTS, model=MODEL, checkpoint=path)
    assert (batch.summary.resumed, batch.summary.successful, batch.summary.failed) == (7, 7, 0)
    assert [str(reply) for reply in batch.replies] == [
        *(f"answer to: River {n}" for n in range(6)), "answer to: Lake"
    ]  # fmt: skip
    assert batch[6].id == "the lake"


def test_a_state_file_of_0_1_0_is_taken_over(tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    shutil.copyfile(WRITTEN / "state.sqlite", path)
    with opened(str(path)) as llm:
        keys = {key["label"]: key for key in llm.status()["keys"] if key["provider"] == "openai"}
        kept = llm.send_prompt("Name a lake.", model=MODEL, cache=True)
    assert {label: (key["group"], key["sent"]) for label, key in keys.items()} == {
        "first": ("org-org-first", 6), "second": ("org-org-second", 4)
    }  # fmt: skip
    assert [block["reason"] for block in keys["second"]["blocks"]] == ["auth"]
    assert (str(kept), kept.cached) == ("answer to: Name a lake.", True)


def test_a_usage_file_of_0_1_0_is_loaded(tmp_path: Path) -> None:
    path = tmp_path / "usage.json"
    usage = json.loads((WRITTEN / "usage.json").read_text(encoding="utf-8"))
    # All of it is moved to this moment; what was used a day ago counts no more.
    passed = time.time() - usage["saved_at"]
    usage["saved_at"] += passed
    for limit in usage["keys"][0]["limits"]:
        limit["reset"] += passed
    path.write_text(json.dumps(usage), encoding="utf-8")
    limits = {"scraper": {"rpd": {"amount": 50, "refill": "rolling"}}}
    with RateLimiter({}, limits=limits, state="memory") as limiter:
        limiter.load_usage(path)
        (key,) = limiter.status()["keys"]
    assert [(limit["period"], limit["used"]) for limit in key["limits"]] == [("day", 7)]
