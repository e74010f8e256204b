"""The progress display in a terminal, a file and a notebook."""

from __future__ import annotations

import fcntl
import io
import json
import os
import pty
import re
import struct
import subprocess
import sys
import termios
from typing import TYPE_CHECKING

import pytest

from probes import MODEL
from quotaflow._batch.progress_display import Bar, Line, shown_to
from quotaflow.testing import simulator

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow import LLMInterface

DRAWN = """
from quotaflow import BatchProgress
from quotaflow._batch.progress_display import shown_to
bar = shown_to(None)
progress = BatchProgress(
    done=1_200, total=10_000, failed=12, under_way=80, waiting=66, seconds=100.0, remaining_seconds=3_723.0,
    waiting_on="requests per minute at openai/gpt-4o-mini", input_tokens=1_000_000, output_tokens=234_567,
)
bar.show(progress)
bar.show(progress)
bar.end()
"""

BATCH = """
import json, sys
from quotaflow import LLMInterface
setup = json.loads(sys.argv[1])
llm = LLMInterface({}, keys=setup["keys"], base_urls=setup["base_urls"], state="memory",
                   limits={"openai": {"rpm": {"amount": 600, "burst": 1, "refill": "bucket"}}})
llm.send_batch([f"prompt {number}" for number in range(20)], model="gpt-4o-mini")
"""


def seen(script: str, columns: int, *arguments: str) -> list[list[str]]:
    """What a terminal of so many columns shows, picture after picture."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {
        name: value for name, value in os.environ.items() if name not in ("COLUMNS", "LINES", "NO_COLOR")
    }
    running = subprocess.Popen(
        [sys.executable, "-c", script, *arguments], stdin=theirs, stdout=theirs, stderr=theirs,
        env=environment | {"TERM": "xterm-256color", "LANG": "C.UTF-8", "PYTHONUTF8": "1"},
    )  # fmt: skip
    os.close(theirs)
    told = b""
    while True:
        try:
            read = os.read(ours, 65_536)
        except OSError:  # nobody is left at the other end
            break
        if not read:
            break
        told += read
    os.close(ours)
    assert running.wait(20) == 0, told.decode()
    # Before it is drawn anew, the cursor goes up over what is there and wipes it out.
    pictures = re.split(r"(?:\r?\x1b\[(?:2K|1A))+", told.decode())
    plain = [re.sub(r"\x1b\[[0-9;?]*[a-zA-Z]", "", picture).replace("\r", "").strip("\n") for picture in pictures]
    return [picture.split("\n") for picture in plain if picture.strip()]


PICTURES = {
    60: """
━━━━━━━━━━━ 1,200/10,000 · 12 failed · 12.0/s · 1:02:03 left
1,234,567 tokens · 66 wait: requests per minute at openai/g…
""",
    80: """
━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━━ 1,200/10,000 · 12 failed · 12.0/s · 1:02:03 left
1,234,567 tokens · 66 wait: requests per minute at openai/gpt-4o-mini
""",
}


@pytest.mark.parametrize("columns", [60, 80, 100, 160])
def test_it_fits_into_a_terminal(columns: int) -> None:
    pictures = seen(DRAWN, columns)
    assert len(pictures) >= 2
    for first, second in pictures:
        bar, numbers = first.split(" ", 1)
        assert set(bar) <= set("━╸╺")
        assert 8 <= len(bar) <= 60
        assert numbers.rstrip() == "1,200/10,000 · 12 failed · 12.0/s · 1:02:03 left"
        assert max(len(first.rstrip()), len(second.rstrip())) <= columns
        assert second.startswith("1,234,567 tokens · 66 wait: requests per minute at")
        if columns in PICTURES:
            assert [first.replace("╸", "━").replace("╺", "━"), second.rstrip()] == PICTURES[columns].strip().split(
                "\n"
            )


def test_a_batch_in_a_terminal_of_eighty_columns() -> None:
    with simulator(latency=0.01) as world:
        setup = json.dumps({"keys": world.keys, "base_urls": world.base_urls})
        pictures = seen(BATCH, 80, setup)
    assert len(pictures) >= 5
    for first, second in pictures:
        assert max(len(first), len(second)) <= 80
        assert re.match(r"[━╸╺]{8,} [\d]+/20 · [\d.]+/s", first), first
        assert re.match(r"\d+ tokens", second), second
    middle = pictures[len(pictures) // 2]
    assert re.search(r" · 0:0\d left$", middle[0].rstrip()), middle
    assert "wait: requests per minute at openai/gpt-4o-mini" in middle[1]
    assert " 20/20 · " in pictures[-1][0]


def test_what_a_program_prints_stays_its_own() -> None:
    script = DRAWN.replace("bar.end()", "print('the answer')\nbar.end()")
    ours, theirs = pty.openpty()
    ran = subprocess.run(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, stderr=theirs, stdin=theirs, check=True, text=True,
        env=os.environ | {"TERM": "xterm"},
    )  # fmt: skip
    os.close(theirs)
    os.close(ours)
    assert ran.stdout == "the answer\n"


def test_a_file_gets_lines_from_the_beginning(
    make_llm: Callable[..., LLMInterface], monkeypatch: pytest.MonkeyPatch
) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    assert type(shown_to(True)) is Line
    with simulator(latency=0.02) as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls, limits={"openai": {"concurrency": 1}})
        for _ in llm.iter_batch([f"prompt {number}" for number in range(5)], 1, model=MODEL, progress=True):
            assert screen.getvalue().startswith("0/5 · "), "not only at the end"
    assert screen.getvalue().splitlines()[-1].startswith("5/5 · ")


def test_a_terminal_that_cannot_draw_gets_lines(monkeypatch: pytest.MonkeyPatch) -> None:
    screen = io.StringIO()
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setattr(screen, "isatty", lambda: True)
    for term, kind in (("dumb", Line), ("xterm", Bar)):
        monkeypatch.setenv("TERM", term)
        assert type(shown_to(None)) is kind


class ZMQInteractiveShell:
    """What a notebook's kernel calls its shell."""


def test_a_notebook_without_widgets_gets_lines(
    make_llm: Callable[..., LLMInterface], monkeypatch: pytest.MonkeyPatch
) -> None:
    import types

    screen, fake = io.StringIO(), types.ModuleType("IPython")
    fake.get_ipython = ZMQInteractiveShell  # type: ignore[attr-defined]
    monkeypatch.setattr(sys, "stderr", screen)
    monkeypatch.setitem(sys.modules, "IPython", fake)
    monkeypatch.setitem(sys.modules, "ipywidgets", None)
    assert type(shown_to(None)) is Line
    with simulator() as world:
        llm = make_llm(keys=world.keys, base_urls=world.base_urls)
        llm.send_batch(["a", "b"], model=MODEL)
    assert screen.getvalue().splitlines()[-1].startswith("2/2 · ")

    widgets = types.ModuleType("ipywidgets")
    widgets.__spec__ = types.SimpleNamespace(name="ipywidgets")  # type: ignore[assignment]
    monkeypatch.setitem(sys.modules, "ipywidgets", widgets)
    assert type(shown_to(None)) is Bar
