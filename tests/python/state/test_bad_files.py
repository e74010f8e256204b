"""State files that cannot be used: named in the error and left unchanged."""

from __future__ import annotations

import json
import os
import sqlite3
import subprocess
import sys
import tempfile
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from quotaflow import LLMInterface, QuotaflowError, StateError

if TYPE_CHECKING:
    from collections.abc import Callable

    from quotaflow.testing import SimulatedProviders

MODEL = "gpt-4o-mini"


def garbage(path: Path) -> None:
    path.write_bytes(b"this is no database " * 500)


def foreign(path: Path) -> None:
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE bookmarks (url TEXT)")
        connection.commit()


def newer(path: Path) -> None:
    with LLMInterface({}, state=path) as llm:
        llm.status()
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("PRAGMA user_version = 99")
        connection.commit()


def damaged(path: Path) -> None:
    """A file of ours with the middle overwritten."""
    with closing(sqlite3.connect(path)) as connection:
        connection.execute("CREATE TABLE ledgers (name TEXT PRIMARY KEY, state TEXT NOT NULL) WITHOUT ROWID")
        connection.commit()
    content = bytearray(path.read_bytes())
    content[20:60] = b"\xff" * 40
    path.write_bytes(content)


BAD = {
    "garbage": (garbage, "move the file away"),
    "foreign": (foreign, "move the file away"),
    "newer": (newer, "upgrade quotaflow"),
    "damaged": (damaged, "move the file away"),
}


@pytest.mark.parametrize("name", BAD)
def test_it_is_named_and_left_as_it_was(
    simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface], tmp_path: Path, name: str
) -> None:
    make, hint = BAD[name]
    path = tmp_path / f"{name}.sqlite"
    make(path)
    before = path.read_bytes()
    llm = make_llm(state=path)
    for ask in (lambda: llm.send_prompt("Hi", model=MODEL), llm.status, llm.reset):
        with pytest.raises(StateError) as caught:
            ask()
        assert caught.value.path == str(path)
        assert str(path) in str(caught.value)
        assert hint in str(caught.value)
    assert path.read_bytes() == before
    assert simulated.stats()["requests"] == 0
    path.unlink()
    assert llm.send_prompt("Hi", model=MODEL).provider == "openai"


def test_a_folder_is_no_state_file(make_llm: Callable[..., LLMInterface], tmp_path: Path) -> None:
    with pytest.raises(StateError) as caught:
        make_llm(state=tmp_path).send_prompt("Hi", model=MODEL)
    assert caught.value.path == str(tmp_path)
    assert caught.value.hint


def test_a_state_in_a_new_folder_is_made_for_its_owner_only(
    make_llm: Callable[..., LLMInterface], tmp_path: Path
) -> None:
    path = tmp_path / "a" / "b" / "state.sqlite"
    make_llm(state=path).send_prompt("Hi", model=MODEL)
    assert path.stat().st_size > 0
    assert path.parent.stat().st_mode & 0o077 == 0


def test_redis_is_not_there_yet(make_llm: Callable[..., LLMInterface]) -> None:
    with pytest.raises(QuotaflowError, match="not supported yet"):
        make_llm(state="redis://127.0.0.1:6379/0").send_prompt("Hi", model=MODEL)


def test_a_state_that_breaks_later_loses_nothing(
    simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface], tmp_path: Path
) -> None:
    path = tmp_path / "state.sqlite"
    llm = make_llm(state=path, limits={"openai": {"rpd": 100}})
    llm.send_prompt("Hi", model=MODEL)
    with closing(sqlite3.connect(path)) as connection:
        rows = connection.execute("SELECT name, state FROM ledgers").fetchall()
        connection.execute("UPDATE ledgers SET state = 'no JSON'")
        connection.commit()
        with pytest.raises(StateError, match="damaged"):
            llm.send_prompt("Hi", model=MODEL)
        connection.executemany("UPDATE ledgers SET state = ?2 WHERE name = ?1", rows)
        connection.commit()
    llm.send_prompt("Hi", model=MODEL)
    [key] = [key for key in llm.status()["keys"] if key["provider"] == "openai"]
    assert (key["sent"], key["in_flight"]) == (2, 0)
    assert simulated.stats()["requests"] == 2


# The rights of files mean nothing to root, so another user tries.
AS_NOBODY = """
import json, os, sys
from quotaflow import LLMInterface, StateError
llm = LLMInterface({}, **json.loads(sys.argv[1]))
if os.getuid() == 0:
    os.setgid(65534)
    os.setuid(65534)
try:
    llm.send_prompt("Hi", model="gpt-4o-mini")
except StateError as error:
    print(json.dumps([error.path, str(error)]))
"""


@pytest.mark.parametrize("read_only", ["file", "folder"])
def test_a_read_only_state_says_so_and_sends_nothing(
    simulated: SimulatedProviders, make_llm: Callable[..., LLMInterface], tmp_path: Path, read_only: str
) -> None:
    folder = tmp_path / "readonly"
    folder.mkdir()
    path = folder / "state.sqlite"
    if read_only == "file":
        llm = make_llm(state=path)
        llm.status()
        llm.close()
        path.chmod(0o444)
    folder.chmod(0o555)
    if os.getuid() == 0:  # then the other user has to come as far as the folder
        for above in folder.parents:
            if above.is_relative_to(tempfile.gettempdir()) and above != Path(tempfile.gettempdir()):
                above.chmod(above.stat().st_mode | 0o055)
    given: dict[str, Any] = {"keys": simulated.keys, "base_urls": simulated.base_urls, "state": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", AS_NOBODY, json.dumps(given)], capture_output=True, text=True, check=False
    )
    folder.chmod(0o755)
    assert done.stdout, done.stderr
    where, words = json.loads(done.stdout)
    assert where == str(path)
    assert "writable" in words or "state=" in words
    assert simulated.stats()["requests"] == 0


FULL_DISK = """
import json, resource, sys
from quotaflow import LLMInterface, StateError
llm = LLMInterface({}, **json.loads(sys.argv[1]))
llm.send_prompt("Hi", model="gpt-4o-mini")
most = resource.getrlimit(resource.RLIMIT_FSIZE)[1]
resource.setrlimit(resource.RLIMIT_FSIZE, (1, most))
try:
    llm.send_prompt("Hi", model="gpt-4o-mini")
except StateError as error:
    print(json.dumps([error.path, str(error)]))
resource.setrlimit(resource.RLIMIT_FSIZE, (most, most))
llm.send_prompt("Hi", model="gpt-4o-mini")
[key] = [key for key in llm.status()["keys"] if key["provider"] == "openai"]
print(json.dumps([key["sent"], key["in_flight"]]))
"""


def test_a_full_disk_sends_nothing_and_loses_nothing(simulated: SimulatedProviders, tmp_path: Path) -> None:
    path = tmp_path / "state.sqlite"
    given: dict[str, Any] = {"keys": simulated.keys, "base_urls": simulated.base_urls, "state": str(path)}
    done = subprocess.run(
        [sys.executable, "-c", FULL_DISK, json.dumps(given)], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    refused, after = (json.loads(line) for line in done.stdout.splitlines())
    assert refused[0] == str(path)
    assert "full disk" in refused[1]
    assert "free some space" in refused[1]
    assert after == [2, 0]
    assert simulated.stats()["requests"] == 2
