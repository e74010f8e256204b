"""The pytest fixture `quotaflow_simulator`; pytest finds it by itself.

A test that names it as a parameter gets a simulator of its own:

    def test_my_code(quotaflow_simulator):
        world = quotaflow_simulator
        llm = LLMInterface(keys=world.keys, base_urls=world.base_urls, state="memory")

    @pytest.mark.quotaflow_simulator(faults=[{"when": {"first": 1}, "do": {"status": 503}}])
    def test_that_it_copes(quotaflow_simulator): ...
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from collections.abc import Iterator

    from quotaflow.testing import SimulatedProviders

_MARK = "quotaflow_simulator"


def pytest_configure(config: pytest.Config) -> None:
    """Register the mark."""
    config.addinivalue_line(
        "markers", f"{_MARK}(**arguments): what quotaflow.testing.simulator() is started with for this test"
    )


@pytest.fixture
def quotaflow_simulator(request: pytest.FixtureRequest) -> Iterator[SimulatedProviders]:
    """Return a fresh simulator for one test, started with the arguments of its `quotaflow_simulator` mark."""
    from quotaflow.testing import simulator

    mark = request.node.get_closest_marker(_MARK)
    with simulator(*(mark.args if mark else ()), **(mark.kwargs if mark else {})) as running:
        yield running
