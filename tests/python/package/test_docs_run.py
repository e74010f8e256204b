"""Every example in a docstring, run against the simulator over real sockets."""

from __future__ import annotations

import doctest
import importlib
import pkgutil
from typing import TYPE_CHECKING, Any

import pytest

import quotaflow
from quotaflow import APIKeyManager, RateLimiter

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow.testing import SimulatedProviders

MODULES = sorted(
    {module.name.partition(".")[2] for module in pkgutil.walk_packages(quotaflow.__path__, "quotaflow.")}
    - {"__main__", "_quotaflow"}
)


def test_no_module_is_forgotten() -> None:
    assert {"_cli", "integrations.langchain", "interface", "_call.prompt", "records", "reply"} <= set(MODULES)


@pytest.mark.parametrize("name", MODULES)
def test_examples_of(name: str, make_llm: Callable[..., Any], simulated: SimulatedProviders) -> None:
    limits = {"scraper": {"rps": 5}}
    module = importlib.import_module(f"quotaflow.{name}")
    found = doctest.DocTestFinder(exclude_empty=True).find(module, f"quotaflow.{name}")
    for test in found:
        if test.examples:
            manager = APIKeyManager("OPENAI_API_KEY", ["OPENAI_API_KEY_2"], state="memory")
            with RateLimiter({}, keys=simulated.keys, limits=limits, state="memory") as limiter:
                test.globs |= {"llm": make_llm(), "limiter": limiter, "manager": manager}
                assert doctest.DocTestRunner().run(test).failed == 0, test.name
