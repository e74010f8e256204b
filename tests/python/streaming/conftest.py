"""Scenes of streams that stop in the middle, with an interface to them."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from streaming_servers import HEAD, Held, end, interface, said

if TYPE_CHECKING:
    from collections.abc import Iterator

    from streaming_servers import Scene


@pytest.fixture
def paused() -> Iterator[Scene]:
    """A stream of which `Par` is sent; `is` and the end follow after `held.go_on.set()`."""
    with Held(HEAD + said("Par"), said("is") + end()) as held, interface(held.server) as llm:
        yield held, llm
