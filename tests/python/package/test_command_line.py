"""The command `quotaflow`: its output, its exit codes, its signals."""

from __future__ import annotations

import json
import os
import signal
import threading
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import ConfigError, __version__, _cli
from scripted_core import ScriptedSimulator

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    Run = Callable[..., tuple[int, ScriptedSimulator]]


ADDED = "latency: 0.5\nseed: 3\n"


@pytest.fixture
def run(monkeypatch: pytest.MonkeyPatch) -> Run:
    """Runs the command until its simulator is up, then sends a signal as a person or a service manager would."""
    made: list[ScriptedSimulator] = []

    def simulate(settings: str, port: int) -> ScriptedSimulator:
        made.append(ScriptedSimulator(settings, port))
        threading.Timer(0.05, os.kill, (os.getpid(), simulate.signal)).start()  # type: ignore[attr-defined]
        return made[-1]

    def run_it(*arguments: str, by: int = signal.SIGINT) -> tuple[int, ScriptedSimulator]:
        simulate.signal = by  # type: ignore[attr-defined]
        code = _cli.main(["simulate", *arguments])
        return code, made[-1]

    monkeypatch.setattr("quotaflow._cli.simulate", simulate)
    return run_it


def test_the_version(capsys: pytest.CaptureFixture[str]) -> None:
    assert _cli.main(["--version"]) == 0
    assert capsys.readouterr().out == f"quotaflow {__version__}\n"


@pytest.mark.parametrize("by", [signal.SIGINT, signal.SIGTERM])
def test_it_says_where_it_listens_and_runs_until_a_signal(
    run: Run, capsys: pytest.CaptureFixture[str], by: int
) -> None:
    before = signal.getsignal(by)
    code, simulator = run("--port", "0", by=by)
    assert (code, simulator.port, simulator.stopped) == (0, 0, True)
    assert capsys.readouterr().out == "http://127.0.0.1:40123\n"
    assert signal.getsignal(by) is before


def test_what_was_asked_reaches_the_simulator(run: Run, tmp_path: Path) -> None:
    keys = tmp_path / "keys.json"
    keys.write_text('[{"key": "sk-test-1", "provider": "openai"}]', encoding="utf-8")
    _, simulator = run("--port", "8123", "--latency", "0.25", "--keys", str(keys), "--seed", "7")
    assert simulator.port == 8123
    assert json.loads(simulator.settings) == {
        "keys": [{"key": "sk-test-1", "provider": "openai"}],
        "latency": 0.25,
        "seed": 7,
    }


def test_without_keys_it_plays_the_usual_three(run: Run) -> None:
    _, simulator = run()
    settings = json.loads(simulator.settings)
    assert [key["provider"] for key in settings["keys"]] == ["openai", "anthropic", "gemini"]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", ADDED),
        ("# nothing\n", "# nothing\n" + ADDED),
        ("keys:\n  - key: a\n    provider: openai\n", "keys:\n  - key: a\n    provider: openai\n" + ADDED),
        ("---\n# mine\n- key: a\n  provider: openai", "keys:\n# mine\n- key: a\n  provider: openai\n" + ADDED),
        ("# mine\n---\n  - key: a\n\n    provider: openai", "keys:\n  - key: a\n\n    provider: openai\n" + ADDED),
        ('{"keys": []}', '{"keys": [], "latency": 0.5, "seed": 3}'),
    ],
)
def test_latency_and_seed_join_what_the_file_says(text: str, expected: str) -> None:
    assert _cli.settings_text(text, latency=0.5, seed=3) == expected


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "the following arguments are required: command"),
        (["simulat"], "invalid choice: 'simulat'"),
        (["simulate", "--port", "http"], "argument --port: invalid port_number value: 'http'"),
        (["simulate", "--port", "70000"], "70000 is no port: ports are 0 to 65535"),
        (["simulate", "--latency", "-1"], "-1 is not between 0 and 86400 seconds"),
        (["simulate", "--latency", "nan"], "nan is not between 0 and 86400 seconds"),
        (["simulate", "--seed", "-1"], "-1 is not between 0 and 2^64 - 1"),
        (["simulate", "--keys", "nowhere.yaml"], "the keys cannot be read"),
        (["simulate", "--keys", "half.json"], "the keys cannot be read"),
    ],
)
def test_what_cannot_be_meant_is_said_and_is_2(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], arguments: list[str], words: str
) -> None:
    (tmp_path / "half.json").write_text('{"keys": [', encoding="utf-8")
    assert _cli.main(arguments) == 2
    told = capsys.readouterr()
    assert words in told.err
    assert not told.out


@pytest.mark.parametrize("error", [ConfigError("keys[0]: no provider"), OSError("port 80: permission denied")])
def test_what_the_simulator_refuses_is_said(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: Exception
) -> None:
    def refuse(*_: Any) -> None:
        raise error

    monkeypatch.setattr("quotaflow._cli.simulate", refuse)
    assert _cli.main(["simulate"]) == 2
    assert capsys.readouterr().err == f"quotaflow simulate: {error}\n"
