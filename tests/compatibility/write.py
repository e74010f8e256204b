"""Writer of the compatibility fixtures: files of a released quotaflow.

Run it with the version whose files are to be kept, in an empty folder:

    python write.py

It sends only to the simulator on loopback. It writes `pickles.json` (each pickle in base64, with the `repr` and
the attributes it must have again), `checkpoint.jsonl`, `state.sqlite` and `usage.json`.
"""

from __future__ import annotations

import base64
import json
import pickle
import sqlite3
from contextlib import suppress
from dataclasses import fields, is_dataclass
from pathlib import Path

import quotaflow
from quotaflow import APIKeyManager, LLMInterface, Piece, RateLimiter, events, records
from quotaflow.testing import simulator

# What a checkpoint and a cache know of the address: a test gives it again and starts no server there.
PORT = 47_821
KEYS = [
    {"key": "sk-test-1", "label": "first", "provider": "openai"},
    {"key": "sk-test-2", "label": "second", "provider": "openai"},
    {"key": "sk-ant-test-1", "label": "third", "provider": "anthropic", "limits": {"rpm": 2}},
    {"key": "gemini-test-1", "label": "fourth", "provider": "gemini", "limits": {"rpd": 2}},
    {"key": "gsk-test-1", "label": "fifth", "provider": "groq", "limits": {"rpm": 3, "tpd": 100}},
]
PROVIDERS = {"claude-haiku-4-5": "anthropic", "gemini-2.5-flash": "gemini", "llama-3.3-70b-versatile": "groq"}
LIMITS = {
    "openai": {
        "rpm": 600,
        "tpm": {"amount": 60_000, "refill": "rolling"},
        "rpd": {"amount": 100, "refill": "rolling"},
        "pause_threshold": 1.0,
    }
}
SAMPLES = {
    "str": "text", "int": 3, "float": 1.5, "bool": True, "datetime": None, "tuple": (), "list": [], "dict": {},
}  # fmt: skip


def sample(cls: type) -> object:
    """An object of a record class whose fields hold the simplest values."""
    values = {}
    for field in fields(cls):
        kind = str(field.type).split("[")[0].split("|")[0].strip()
        values[field.name] = SAMPLES.get(kind)
    return cls(**values)


def errors() -> dict[str, object]:
    """One object of each public error class, as the binding makes them."""
    facts = {
        "hint": "wait",
        "status": 429,
        "retry_after": 12.5,
        "provider": "openai",
        "model": "m",
        "key": "first",
    }
    made = {}
    for name in quotaflow.__all__:
        cls = getattr(quotaflow, name)
        if isinstance(cls, type) and issubclass(cls, quotaflow.QuotaflowError):
            known = set()
            for parent in cls.__mro__:
                known |= set(getattr(parent, "_facts", ()))
            made[name] = cls("It failed.", **{fact: value for fact, value in facts.items() if fact in known})
    return made


def attributes(thing: object) -> dict[str, str]:
    """The `repr` of each public attribute that is a value; none for a key manager, which reads its environment."""
    if isinstance(thing, APIKeyManager):
        return {}
    values = {name: getattr(thing, name, None) for name in dir(thing) if not name.startswith("_")}
    return {name: repr(value) for name, value in values.items() if not callable(value)}


def main() -> None:
    """Writes the four files into the working folder."""
    things: dict[str, object] = {}
    faults = [{"when": {"key": "second", "nth": [3]}, "do": {"status": 401}}]
    with simulator(keys=KEYS, faults=faults, port=PORT) as world:
        llm = LLMInterface({}, keys=world.keys, base_urls=world.base_urls, limits=LIMITS, state="state.sqlite")
        with llm:
            things["reply"] = llm.send_prompt("Name a river.", provider="openai", model="gpt-4o-mini")
            things["cached_reply"] = llm.send_prompt("Name a lake.", model="gpt-4o-mini", cache=True)
            batch = llm.send_batch(
                [*(f"River {n}" for n in range(6)), {"prompt": "Lake", "id": "the lake", "temperature": 0}],
                model="gpt-4o-mini",
                checkpoint="checkpoint.jsonl",
            )
            things["items"] = list(batch)
            things["summary"] = batch.summary
            for model in ("claude-haiku-4-5", "gemini-2.5-flash", "llama-3.3-70b-versatile"):
                for number in range(4):
                    with suppress(quotaflow.CallError):
                        llm.send_prompt(f"River {number}", model=model, provider=PROVIDERS[model], timeout=1.0)
            things["plan"] = llm.plan(["a", "b"], provider="openai", model="gpt-4o-mini")
            things["estimate"] = llm.estimate_cost("Name a river.", model="gpt-4o-mini")
            things["attempts"] = things["reply"].attempts
    with RateLimiter(
        {}, limits={"scraper": {"rpd": {"amount": 50, "refill": "rolling"}}}, state="memory"
    ) as limiter:
        for _ in range(7):
            with limiter.acquire("scraper"):
                pass
        limiter.save_usage("usage.json")
    things["piece"] = Piece("text")
    things["tool_piece"] = Piece("{}", "tool_call", call_index=0, call_id="call_1", tool_name="search")
    for module in (records, events):
        for name, cls in vars(module).items():
            if isinstance(cls, type) and is_dataclass(cls) and cls.__module__ == module.__name__:
                things[name] = sample(cls)
    for name in ("BatchSummary", "BatchProgress", "PlannedKey", "PlannedLimit", "PlannedCost"):
        cls = getattr(quotaflow, name)
        if is_dataclass(cls):
            things[name] = sample(cls)
    things.update(errors())
    things["key_manager"] = APIKeyManager("NAME_OF_A_VARIABLE", ["BACKUP_VARIABLE"], state="memory")
    kept = {
        name: {
            "pickle": base64.b64encode(pickle.dumps(thing, 4)).decode(),
            "repr": repr(thing),
            "attributes": attributes(thing),
        }
        for name, thing in things.items()
    }
    Path("pickles.json").write_text(json.dumps(kept, indent=1) + "\n")
    with sqlite3.connect("state.sqlite") as connection:
        connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        connection.execute("PRAGMA journal_mode=DELETE")


main()
