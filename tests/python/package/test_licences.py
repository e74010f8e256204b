"""Licence texts of third-party code in the installed distribution."""

import re
from importlib.metadata import distribution

import pytest


def licence_file(name: str) -> str:
    files = [file for file in distribution("quotaflow").files or () if file.name == name]
    assert len(files) == 1, files
    assert ".dist-info/licenses/" in files[0].as_posix()
    return files[0].read_text(encoding="utf-8")


def text_of(crate: str) -> str:
    """What follows the heading that names the crate, up to the next heading."""
    sections = re.split(r"^-{100}\n", licence_file("THIRD-PARTY-LICENSES"), flags=re.MULTILINE)
    headings, texts = sections[1::2], sections[2::2]
    pairs = zip(headings, texts, strict=True)
    found = [text for heading, text in pairs if re.search(rf"^{crate} \d", heading, re.MULTILINE)]
    return "\n".join(found)


@pytest.mark.parametrize(
    ("crate", "words"),
    [
        ("tokio", "Copyright (c) Tokio Contributors"),
        ("rustls", "Copyright (c) 2016 Joseph Birr-Pixton"),
        ("ring", "Brian Smith"),
        ("pyo3", "PyO3 Project and Contributors"),
        ("governor", "Andreas Fuchs"),  # it names its licence and ships no text
        ("option-ext", "Mozilla Public License Version 2.0"),
    ],
)
def test_the_wheel_has_the_licence_text_of_a_crate(crate: str, words: str) -> None:
    assert words in text_of(crate)


def test_the_wheel_has_no_text_of_crates_that_only_tests_use() -> None:
    assert not text_of("proptest")


def test_the_wheel_has_its_own_licence_and_that_of_the_prices() -> None:
    assert "MIT License" in licence_file("LICENSE")
    assert "Permission is hereby granted" in licence_file("LICENSE-genai-prices")
