"""Fixtures of all tests: a clean environment, the simulator, interfaces."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL, ONE_A_MINUTE, WIDE
from scripted_core import Options, ScriptedCore

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

    from quotaflow import LLMInterface
    from quotaflow.testing import SimulatedProviders


@pytest.fixture(scope="session", autouse=True)
def ctrl_c_is_heard() -> None:
    """A shell lets what it starts in the background ignore Ctrl-C, and whoever that starts; here it is tested."""
    import signal

    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


# What decides how rich draws.
TERMINAL = {
    "CLICOLOR",
    "CLICOLOR_FORCE",
    "COLORTERM",
    "COLUMNS",
    "FORCE_COLOR",
    "JPY_PARENT_PID",
    "LINES",
    "NO_COLOR",
    "TTY_COMPATIBLE",
    "TTY_INTERACTIVE",
}


@pytest.fixture(scope="session", autouse=True)
def no_settings_of_this_machine() -> Iterator[None]:
    """No key, proxy or locale of the machine, and no property of its terminal, reaches a test or a fixture."""
    import os

    with pytest.MonkeyPatch.context() as monkeypatch:
        for name in list(os.environ):
            if (
                name.startswith(("QUOTAFLOW_", "LANGCHAIN_", "LANGSMITH_", "LC_"))
                or "_API_KEY" in name
                or name.lower().endswith("_proxy")
                or name in TERMINAL
            ):
                monkeypatch.delenv(name)
        monkeypatch.setenv("TERM", "xterm-256color")
        yield


@pytest.fixture(autouse=True)
def no_files_of_this_machine(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Each test has a home and a working folder of its own."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.chdir(tmp_path)


@pytest.fixture
def scripted(monkeypatch: pytest.MonkeyPatch) -> type[ScriptedCore]:
    """Interfaces of this test reach a scripted double instead of Rust."""
    monkeypatch.setattr(ScriptedCore, "made", [], raising=False)
    monkeypatch.setattr("quotaflow._call.base.Core", ScriptedCore)
    monkeypatch.setattr("quotaflow._call.options.CallOptions", Options)
    return ScriptedCore


@pytest.fixture
def scripted_llm(scripted: type[ScriptedCore]) -> tuple[LLMInterface, ScriptedCore]:
    """An interface and the double behind it."""
    from quotaflow import LLMInterface

    llm = LLMInterface(state="memory")
    return llm, scripted.made[-1]


@pytest.fixture
def simulated(quotaflow_simulator: SimulatedProviders) -> SimulatedProviders:
    """A simulator of the providers on loopback; the mark `quotaflow_simulator` says with what."""
    return quotaflow_simulator


@pytest.fixture
def make_llm(simulated: SimulatedProviders, tmp_path: Path) -> Iterator[Callable[..., LLMInterface]]:
    """Makes interfaces to the simulator, all on one state file unless told otherwise; closes them at the end."""
    from quotaflow import LLMInterface

    made = []

    def make(config: dict[str, Any] | None = None, **arguments: Any) -> LLMInterface:
        usual: dict[str, Any] = {
            "keys": simulated.keys,
            "base_urls": simulated.base_urls,
            "state": tmp_path / "state.sqlite",
        }
        llm = LLMInterface({} if config is None else config, **(usual | arguments))
        made.append(llm)
        return llm

    yield make
    for llm in made:
        llm.close()


@pytest.fixture
def llm(make_llm: Callable[..., LLMInterface]) -> LLMInterface:
    """An interface where nothing but the number of calls at once stands in the way."""
    return make_llm(limits=WIDE, state="memory")


@pytest.fixture
def full(make_llm: Callable[..., LLMInterface]) -> LLMInterface:
    """An interface whose only call of the minute was made."""
    llm = make_llm(limits=ONE_A_MINUTE)
    llm.send_prompt("Hi", model=MODEL)
    return llm
