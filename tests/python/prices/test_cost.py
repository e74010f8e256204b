"""The cost of an answer, by the prices that hold."""

from __future__ import annotations

import asyncio
import logging
import pickle
import random
import subprocess
import sys
from datetime import UTC, datetime
from decimal import Decimal, localcontext
from typing import TYPE_CHECKING, Any

import genai_prices
import pytest
from genai_prices.data import providers as published

from quotaflow import ConfigError, InvalidArgumentError, LLMInterface, Reply
from quotaflow._quotaflow import cost_of, prices_made_from
from servers import OPENAI_ANSWER, Server, http

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

NOW = datetime(2026, 12, 24, 14, 30, tzinfo=UTC)
# Ours by theirs.
NAMES = {"google": "gemini", "x-ai": "xai"}
USAGES = [
    (1_000, 200, 0, 0, 0),
    (150_000, 4_000, 100_000, 0, 1_500),
    (250_000, 10, 0, 20_000, 0),
    (1_200_000, 65_000, 300_000, 300_000, 60_000),
    (0, 0, 0, 0, 0),
]
TOKENS = ("input_mtok", "output_mtok", "cache_read_mtok", "cache_write_mtok", "output_reasoning_mtok")


def names_of(clause: Any) -> list[str]:
    """Names that a rule of `genai-prices` may be for; those of its patterns are left to whoever reads them."""
    for attribute, make in (
        ("equals", "{}"), ("starts_with", "{}"), ("starts_with", "{}-20251231"), ("contains", "x{}y"),
        ("ends_with", "x{}"),
    ):  # fmt: skip
        text = getattr(clause, attribute, None)
        if text is not None and not (attribute == "starts_with" and make == "{}"):
            return [make.format(text), text.upper()]
    parts = getattr(clause, "or_", None) or getattr(clause, "and_", None) or ()
    return [name for part in parts for name in names_of(part)]


def expected(provider: str, model: str, usage: tuple[int, ...]) -> Decimal | None:
    """What the oracle says; `None` where it knows no price for tokens."""
    names = ("input_tokens", "output_tokens", "cache_read_tokens", "cache_write_tokens", "output_reasoning_tokens")
    used = genai_prices.Usage(**dict(zip(names, usage, strict=True)))
    try:
        found = genai_prices.calc_price(used, model, provider_id=provider, genai_request_timestamp=NOW)
    except LookupError:
        return None
    rates = found.model_price
    return None if rates.input_mtok is None and rates.output_mtok is None else found.total_price


def test_the_snapshot_charges_what_its_source_does() -> None:
    assert prices_made_from() == f"genai-prices {genai_prices.__version__}"
    compared = differing = 0
    wrong: list[object] = []
    for provider in published:
        names = {name for model in provider.models for name in (model.id, *names_of(model.match))}
        for name in sorted(names):
            for usage in random.Random(name).sample(USAGES, 2):
                ours = cost_of(NAMES.get(provider.id, provider.id), name, usage, b"", NOW.timestamp())
                theirs = expected(provider.id, name, usage)
                if (ours is None) != (theirs is None):
                    wrong.append((provider.id, name, usage, ours, theirs))
                elif ours is not None and theirs is not None:
                    compared += 1
                    # A few of their prices end in somebody's floating point: what is left of it in a picodollar.
                    if abs(Decimal(ours) / 10**12 - theirs) > theirs * Decimal("1e-5"):
                        wrong.append((provider.id, name, usage, ours, theirs))
                    differing += Decimal(ours) / 10**12 != theirs
    assert wrong == []
    assert compared > 5_000
    assert differing < compared / 50


@pytest.mark.parametrize(
    ("provider", "model", "body", "terms"),
    [
        ("openai", "gpt-5-mini", b'{"service_tier":"flex"}', {"service_tier": "flex"}),
        ("openai", "gpt-5-mini", b'{"service_tier":"default"}', {}),
        ("openai", "gpt-4o", b'{"service_tier":"priority"}', {"service_tier": "priority"}),
        ("anthropic", "claude-opus-4-6", b'{"usage":{"speed":"fast"}}', {"speed": "fast"}),
    ],
)
def test_the_tier_that_answered_is_charged(provider: str, model: str, body: bytes, terms: dict[str, str]) -> None:
    usage = genai_prices.Usage(input_tokens=1_000, output_tokens=100)
    theirs = genai_prices.calc_price(
        usage, model, provider_id=provider, genai_request_timestamp=NOW, price_context=terms
    )
    ours = cost_of(provider, model, (1_000, 100, 0, 0, 0), body, NOW.timestamp())
    assert ours is not None
    assert Decimal(ours) / 10**12 == theirs.total_price


def answered(body: dict[str, Any], config: dict[str, Any] | None = None, **asked: Any) -> Reply:
    """One reply with this body, over a real socket."""
    with (
        Server(lambda _: http(body)) as server,
        LLMInterface(
            config, keys={"openai": "sk-test-1"}, base_urls={"openai": server.url}, state="memory"
        ) as llm,
    ):
        return llm.send_prompt("Name a river.", **({"provider": "openai", "model": "gpt-4o-mini"} | asked))


USED = OPENAI_ANSWER | {"usage": {"prompt_tokens": 1_000_000, "completion_tokens": 100_000}}


def test_a_reply_knows_its_cost_and_takes_it_along() -> None:
    reply = answered(USED)
    assert reply.cost == Decimal("0.15") + Decimal("0.06")
    mine = answered(USED, {"prices": {"openai": {"gpt-4o-mini": {"input": 2, "output": 3, "request": 0.5}}}})
    assert mine.cost == Decimal("2.8")
    # A process with other prices must not charge it anew.
    assert pickle.loads(pickle.dumps(mine)).cost == Decimal("2.8")
    with localcontext(prec=2):
        assert answered(USED, {"prices": {"openai": {"*": {"input": 1.234567, "output": 0}}}}, model="m").cost == (
            Decimal("1.234567")
        )


def test_a_name_that_only_the_user_knows_is_charged_as_what_answered() -> None:
    assert answered(USED | {"model": "gpt-4o-mini-2024-07-18"}, model="my-deployment").cost == Decimal("0.21")


def test_an_unknown_price_is_none_and_told_once(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING, "quotaflow")
    replies = [answered(USED | {"model": "m"}, model=model) for model in ("strange-1", "strange-1", "strange-2")]
    assert caplog.messages == []
    for _ in range(2):
        assert [reply.cost for reply in replies] == [None, None, None]
    assert pickle.loads(pickle.dumps(replies[0])).cost is None
    told = [message.split(",")[0] for message in caplog.messages]
    assert told == [f"no price is known for openai/strange-{number}" for number in (1, 2)]


def test_without_usage_there_is_no_cost_and_nothing_to_warn_of(caplog: pytest.LogCaptureFixture) -> None:
    unused = {name: value for name, value in OPENAI_ANSWER.items() if name != "usage"}
    assert answered(unused, model="strange-3").cost is None
    assert Reply("by hand").cost is None
    assert caplog.messages == []


def test_servers_of_ones_own_are_free_unless_stated() -> None:
    usage = (1_000_000, 10, 0, 0, 0)
    assert Reply("x", provider="ollama", model="llama3", usage=usage).cost == 0
    assert Reply("x", provider="ollama", model="llama3", usage=usage, cost=Decimal(3)).cost == 3


def test_what_the_router_charged_wins() -> None:
    body = USED | {"usage": USED["usage"] | {"cost": 0.0123}}
    with (
        Server(lambda _: http(body)) as server,
        LLMInterface(
            {"prices": {"openrouter": {"a/b": {"input": 9, "output": 9}}}},
            keys={"openrouter": "or-test-1"}, base_urls={"openrouter": server.url}, state="memory",
        ) as llm,
    ):  # fmt: skip
        assert llm.send_prompt("Hello", model="a/b").cost == Decimal("0.0123")


def test_an_attempt_that_failed_is_not_charged() -> None:
    turns = iter([http({"error": {"message": "oh"}}, status=500), http(USED)])
    with (
        Server(lambda _: next(turns)) as server,
        LLMInterface(keys={"openai": "sk-test-1"}, base_urls={"openai": server.url}, state="memory") as llm,
    ):
        reply = asyncio.run(llm.asend_prompt("Hello", model="gpt-4o-mini", retry_delay=0.001))
    assert [attempt.status for attempt in reply.attempts] == [500, 200]
    assert reply.cost == Decimal("0.21")


def test_a_price_that_cannot_be_meant_is_refused() -> None:
    with pytest.raises(ConfigError, match="did you mean `cached_input`"):
        LLMInterface({"prices": {"openai": {"m": {"input": 1, "output": 1, "cached_inptu": 1}}}}, state="memory")


NEWER = """
class Named:
    def __init__(self, **facts): self.__dict__.update(facts)
from decimal import Decimal
prices = Named(input_mtok=Decimal(7), output_mtok=Decimal(9))
model = Named(id="m", match=Named(equals="gpt-4o-mini"), prices=prices)
providers = [Named(id="openai", models=[model])]
"""
ASK = """
import sys
sys.path.insert(0, {folder!r})
from quotaflow import Reply
reply = Reply("x", provider="openai", model="gpt-4o-mini", usage=(1_000_000, 0, 0, 0, 0))
before = "genai_prices" in sys.modules
print(before, reply.cost, "genai_prices" in sys.modules, reply.cost)
"""


@pytest.mark.parametrize(
    ("version", "data", "printed", "told"),
    [
        ("999.1", NEWER, "False 7 True 7", ""),
        ("0.0.1", NEWER, "False 0.15 False 0.15", ""),
        ("999.1", "raise RuntimeError('spoilt')", "False 0.15 True 0.15", "cannot be read (RuntimeError: spoilt)"),
        ("999.1", "providers = [3]", "False 0.15 True 0.15", "cannot be read (AttributeError"),
    ],
)
def test_a_newer_package_wins_and_is_imported_when_it_is_needed(
    tmp_path: Path, version: str, data: str, printed: str, told: str
) -> None:
    package = tmp_path / "genai_prices"
    package.mkdir()
    (package / "__init__.py").write_text("")
    (package / "data.py").write_text(data)
    facts = tmp_path / f"genai_prices-{version}.dist-info"
    facts.mkdir()
    (facts / "METADATA").write_text(f"Metadata-Version: 2.1\nName: genai-prices\nVersion: {version}\n")
    command = "import logging; logging.basicConfig()\n" + ASK.format(folder=str(tmp_path))
    done = subprocess.run([sys.executable, "-c", command], capture_output=True, check=True, text=True)
    assert done.stdout.strip() == printed
    assert (told in done.stderr) if told else (done.stderr == "")


def test_estimates_bracket_what_is_charged(make_llm: Callable[..., LLMInterface]) -> None:
    llm = make_llm()
    estimate = llm.estimate_cost("Name a river. " * 20, "gpt-4o-mini", 50)
    assert estimate is not None
    assert (estimate.provider, estimate.is_exact, estimate.max_output_tokens) == ("openai", True, 50)
    assert estimate.low == Decimal(estimate.input_tokens * 150_000) / 10**12
    assert estimate.high == estimate.low + Decimal(50 * 600_000) / 10**12
    assert llm.estimate_cost("Name a river.", "gpt-4o-mini").high is None  # type: ignore[union-attr]
    assert llm.estimate_cost("Name a river.", "strange-9", provider="openai") is None


@pytest.mark.parametrize("wrong", [{"max_tokens": -10}, {"max_tokens": "5"}, {"temperature": "hot"}])
def test_what_no_call_may_say_has_no_estimate(
    make_llm: Callable[..., LLMInterface], wrong: dict[str, Any]
) -> None:
    llm = make_llm()
    with pytest.raises(InvalidArgumentError, match=next(iter(wrong))):
        llm.estimate_cost("Name a river.", "gpt-4o-mini", **wrong)
    assert llm.estimate_cost("Name a river.", "gpt-4o-mini", max_tokens=10, temperature=0) is not None
