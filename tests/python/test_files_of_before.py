"""Files that were written before the Python modules stood in packages, and are read after it.

`tests/old_files` holds what the last commit before that wrote: pickles of everything public that can be pickled,
a checkpoint, a state file, and a file of saved usage.
"""

from __future__ import annotations

import base64
import json
import pickle
import shutil
from pathlib import Path
from typing import Any

import pytest

import quotaflow
from quotaflow import APIKeyManager, LLMInterface, RateLimiter

FILES = next(
    folder / "tests" / "old_files"
    for folder in Path(__file__).resolve().parents
    if (folder / "pyproject.toml").is_file()
)
PICKLES: dict[str, dict[str, str]] = json.loads((FILES / "pickles.json").read_text(encoding="utf-8"))


def shown(value: Any) -> str:
    """What there is to see of a value, as it was written beside its pickle."""
    if isinstance(value, quotaflow.Reply):
        facts = (value.provider, value.model, value.usage, value.cost, value.latency, value.attempts)
        return repr([str(value), *facts])
    if isinstance(value, quotaflow.Piece):
        return repr([str(value), value.kind])
    if isinstance(value, quotaflow.QuotaflowError):
        return repr([type(value).__name__, str(value), value.hint])
    if isinstance(value, quotaflow.BatchItem):
        return repr([value.index, value.ok, str(value.reply), value.digest, value.duplicate_of])
    if isinstance(value, quotaflow.Batch):
        return shown(value[0])
    return value.__name__ if callable(value) and hasattr(value, "__name__") else repr(value)


@pytest.mark.parametrize("name", PICKLES)
def test_a_pickle_is_read(name: str) -> None:
    value = pickle.loads(base64.b64decode(PICKLES[name]["pickle"]))
    assert shown(value) == PICKLES[name]["shown"]
    # What is pickled now is read as well.
    assert shown(pickle.loads(pickle.dumps(value))) == PICKLES[name]["shown"]


def test_a_checkpoint_is_gone_on_with(tmp_path: Path) -> None:
    shutil.copy(FILES / "batch.jsonl", tmp_path / "batch.jsonl")
    # Where it was written; nothing is sent there now.
    urls = {"openai": "http://127.0.0.1:18765/v1"}
    with LLMInterface({}, keys={"openai": ["sk-test-1"]}, base_urls=urls, state="memory") as llm:
        prompts = ["Name a river.", "Name a lake."]
        batch = llm.send_batch(prompts, model="gpt-4o-mini", checkpoint=tmp_path / "batch.jsonl")
    assert [str(item.reply) for item in batch] == [f"answer to: {prompt}" for prompt in prompts]
    assert (batch.summary.resumed, batch.summary.failed) == (2, 0)


KEYS = {"scraper": ["sk-test-scraper"]}
LIMITS = {"scraper": {"rpd": 100}}
REFUSED = [{"model": "*", "reason": "auth", "until": None, "origin": "provider"}]


def test_a_state_file_is_read(tmp_path: Path) -> None:
    shutil.copy(FILES / "state.sqlite", tmp_path / "state.sqlite")
    with RateLimiter({}, keys=KEYS, limits=LIMITS, state=tmp_path / "state.sqlite") as limiter:
        [key] = limiter.status()["keys"]
    assert (key["state"], key["blocks"], key["sent"]) == ("disabled", REFUSED, 1)


def test_saved_usage_is_read() -> None:
    with RateLimiter({}, keys=KEYS, limits=LIMITS, state="memory") as limiter:
        assert limiter.load_usage(FILES / "usage.json") == 1
        [key] = limiter.status()["keys"]
    assert (key["state"], key["blocks"]) == ("disabled", REFUSED)


def test_a_key_manager_is_made_again() -> None:
    manager = pickle.loads(base64.b64decode(PICKLES["manager.4"]["pickle"]))
    assert isinstance(manager, APIKeyManager)
    assert (manager.primary_key_env, manager.backup_key_envs) == ("OPENAI_API_KEY", ["OPENAI_API_KEY_2"])
