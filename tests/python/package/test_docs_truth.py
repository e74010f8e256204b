"""The code blocks of the README and the guides run as they stand."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[3]
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs" / "guides").glob("*.md"))]
BLOCK = re.compile(r"^```python( no-run)?\n(.*?)^```$", re.MULTILINE | re.DOTALL)


def blocks(kind: str) -> list[tuple[str, str]]:
    found = []
    for page in PAGES:
        for number, (no_run, code) in enumerate(BLOCK.findall(page.read_text(encoding="utf-8")), start=1):
            if bool(no_run) == (kind == "no-run"):
                found.append((f"{page.name} block {number}", code))
    return found


RUN = blocks("run")
ONLY_READ = blocks("no-run")


def test_there_is_code_on_the_pages() -> None:
    assert len(RUN) >= 8
    assert len(ONLY_READ) >= 1


@pytest.mark.parametrize(("where", "code"), RUN, ids=[where for where, _ in RUN])
def test_a_block_runs_in_an_empty_folder(where: str, code: str, tmp_path: Path) -> None:
    ran = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        timeout=20,
        check=False,
    )
    assert ran.returncode == 0, f"{where}: {ran.stderr}"


@pytest.mark.parametrize(("where", "code"), ONLY_READ, ids=[where for where, _ in ONLY_READ])
def test_a_block_that_needs_keys_is_python(where: str, code: str) -> None:
    compile(code, where, "exec")
