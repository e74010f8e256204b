"""`quotaflow.testing`: settings for the simulator and for the interface."""

from __future__ import annotations

import json
from datetime import timedelta
from math import nan
from typing import Any

import pytest

from quotaflow import ConfigError
from quotaflow.testing import SimulatedProviders, simulator
from scripted_core import ScriptedSimulator

KEYS: list[dict[str, Any]] = [
    {"key": "sk-test-1", "label": "A", "provider": "openai", "organization": "o", "limits": {"rpm": 60}},
    {"key": "sk-test-2", "provider": "openai"},
    {"key": "ant-1", "label": "C", "provider": "anthropic"},
    {"key": "gem-1", "provider": "gemini"},
]


@pytest.fixture
def made(monkeypatch: pytest.MonkeyPatch) -> list[ScriptedSimulator]:
    """The simulators this test has started; none of them is real."""
    started: list[ScriptedSimulator] = []

    def simulate(settings: str, port: int) -> ScriptedSimulator:
        started.append(ScriptedSimulator(settings, port))
        return started[-1]

    monkeypatch.setattr("quotaflow._quotaflow.simulate", simulate)
    return started


def test_arguments_overrule_settings(made: list[ScriptedSimulator]) -> None:
    fault = {"when": {"first": 1}, "do": {"status": 503}}
    with simulator(
        {"seed": 1, "tokens": {"overhead": 0}},
        keys=KEYS[:1],
        latency=timedelta(seconds=2),
        stream={"pieces": 3, "pause": 0.5},
        faults=[fault],
        seed=9,
        port=8123,
    ):
        assert json.loads(made[0].settings) == {
            "seed": 9,
            "tokens": {"overhead": 0},
            "keys": KEYS[:1],
            "latency": 2.0,
            "stream": {"pieces": 3, "pause": 0.5},
            "faults": [fault],
        }
        assert made[0].port == 8123


@pytest.mark.usefixtures("made")
def test_an_interface_is_told_addresses_and_keys_with_the_same_labels() -> None:
    with simulator(keys=KEYS) as world:
        assert world.url == "http://127.0.0.1:40123"
        assert world.base_urls == {
            "openai": "http://127.0.0.1:40123/v1",
            "anthropic": "http://127.0.0.1:40123",
            "gemini": "http://127.0.0.1:40123",
        }
        assert world.keys == {
            "openai": [{"label": "A", "key": "sk-test-1"}, {"label": "key-2", "key": "sk-test-2"}],
            "anthropic": [{"label": "C", "key": "ant-1"}],
            "gemini": [{"label": "key-4", "key": "gem-1"}],
        }
        assert world.stats() == {"requests": 2}


def test_it_stops_whatever_happens(made: list[ScriptedSimulator]) -> None:
    with pytest.raises(ZeroDivisionError), simulator():
        raise ZeroDivisionError
    assert made[0].stopped


def test_faults_can_be_added_later(made: list[ScriptedSimulator]) -> None:
    faults: list[dict[str, Any]] = [{"do": {"status": 500}}, {"do": "timeout"}]
    with simulator() as world:
        world.add_faults(*faults)
    assert made[0].faults == faults


@pytest.mark.parametrize("wrong", [{"latency": nan}, {"faults": [{"do": {1}}]}])
def test_settings_that_are_not_json_are_a_config_error(
    made: list[ScriptedSimulator], wrong: dict[str, Any]
) -> None:
    with pytest.raises(ConfigError, match="cannot be written as JSON"), simulator(**wrong):
        pass
    assert not made


@pytest.mark.quotaflow_simulator(keys=KEYS[2:3], seed=5)
def test_the_mark_says_what_the_fixture_starts(
    made: list[ScriptedSimulator], quotaflow_simulator: SimulatedProviders
) -> None:
    assert json.loads(made[0].settings) == {"keys": KEYS[2:3], "seed": 5}
    assert list(quotaflow_simulator.base_urls) == ["anthropic"]
