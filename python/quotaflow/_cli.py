"""The command line: `quotaflow simulate` and `--version`."""

from __future__ import annotations

import argparse
import json
import signal
import sys
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING, Any

from quotaflow._quotaflow import __version__, simulate
from quotaflow.errors import ConfigError, QuotaflowError
from quotaflow.testing import DEFAULT_KEYS

if TYPE_CHECKING:
    from collections.abc import Sequence
    from types import FrameType


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return the exit code: 0 on success, 2 for an invalid command.

    >>> main(["simulate", "--port", "70000"])
    2
    """
    parser = _parser()
    try:
        chosen = parser.parse_args(arguments)
    except SystemExit as leaving:
        return leaving.code if isinstance(leaving.code, int) else 2
    try:
        return _simulate(chosen)
    except (OSError, QuotaflowError) as error:
        sys.stderr.write(f"quotaflow {chosen.command}: {error}\n")
        return 2


def settings_text(text: str, latency: float | None, seed: int | None) -> str:
    r"""Return the simulator's settings as YAML or JSON: what a file says, with latency and seed added.

    The file holds either settings or only the list of keys. Python reads no YAML by itself, so the two are
    added as text: a file that says them too is refused as one that says them twice.

    >>> settings_text("- {key: a, provider: openai}", latency=0.5, seed=None)
    'keys:\n- {key: a, provider: openai}\nlatency: 0.5\n'
    >>> settings_text('{"keys": []}', latency=None, seed=7)
    '{"keys": [], "seed": 7}'
    """
    added: dict[str, Any] = {}
    if latency is not None:
        added["latency"] = latency
    if seed is not None:
        added["seed"] = seed
    lines = text.splitlines()
    first = next(
        (number for number, line in enumerate(lines) if line.strip() and line.strip()[0] != "#"), len(lines)
    )
    if first < len(lines) and lines[first].rstrip() == "---":
        return settings_text("\n".join(lines[first + 1 :]), latency, seed)
    start = lines[first].lstrip()[0] if first < len(lines) else ""
    if start == "[":
        return json.dumps({"keys": json.loads(text)} | added)
    if start == "{":
        return json.dumps(json.loads(text) | added)
    if start == "-":
        lines.insert(0, "keys:")
    return "".join(f"{line}\n" for line in (*lines, *(f"{name}: {value}" for name, value in added.items())))


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="quotaflow", description="Prompts over many keys, as fast as their quotas allow."
    )
    parser.add_argument("--version", action="version", version=f"quotaflow {__version__}")
    commands = parser.add_subparsers(dest="command", required=True, metavar="command")
    simulate = commands.add_parser(
        "simulate",
        help="play OpenAI, Anthropic, Gemini and others on 127.0.0.1, with their limits",
        description="Plays providers on 127.0.0.1, with their limits, until Ctrl-C. GET /stats says what it saw.",
    )
    simulate.add_argument(
        "--port", type=port_number, default=8099, help="where to listen; 0 for any free port (8099)"
    )
    simulate.add_argument("--latency", type=seconds, help="seconds that each answer takes (0)")
    simulate.add_argument(
        "--keys",
        type=Path,
        metavar="FILE",
        help="YAML or JSON: the list of keys, or whole settings with keys and faults",
    )
    simulate.add_argument("--seed", type=seed, help="where chance starts (0)")
    return parser


def _simulate(chosen: argparse.Namespace) -> int:
    try:
        text = json.dumps(DEFAULT_KEYS) if chosen.keys is None else chosen.keys.read_text(encoding="utf-8")
        settings = settings_text(text, chosen.latency, chosen.seed)
    except (OSError, ValueError) as error:
        raise ConfigError(f"the keys cannot be read: {error}", path=str(chosen.keys)) from error
    running = simulate(settings, chosen.port)
    stop = Event()

    def leave(_number: int, _frame: FrameType | None) -> None:
        stop.set()

    before = {number: signal.signal(number, leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        sys.stdout.write(f"http://{running.address}\n")
        sys.stdout.flush()
        stop.wait()
    finally:
        running.stop()
        for number, handler in before.items():
            signal.signal(number, handler)
    return 0


def port_number(text: str) -> int:
    """Return a port; raise when the text is none."""
    port = int(text)
    if not 0 <= port <= 65_535:
        raise argparse.ArgumentTypeError(f"{text} is no port: ports are 0 to 65535")
    return port


def seconds(text: str) -> float:
    """Return seconds up to a day; raise when the text is none."""
    value = float(text)
    if not 0 <= value <= 86_400:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 86400 seconds")
    return value


def seed(text: str) -> int:
    """Return the seed of the simulator's chance; raise when the text is none."""
    value = int(text)
    if not 0 <= value < 2**64:
        raise argparse.ArgumentTypeError(f"{text} is not between 0 and 2^64 - 1")
    return value
