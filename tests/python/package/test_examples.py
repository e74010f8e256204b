"""The prompts of the example and the picture it draws."""

from __future__ import annotations

import json
from collections import Counter
from pathlib import Path
from xml.etree import ElementTree as ET

from report import table
from timeline import LOOKS, Mark, draw

PROMPTS = Path(__file__).parents[3] / "examples" / "prompts.jsonl"
SVG = "{http://www.w3.org/2000/svg}"


def test_there_are_at_least_120_different_prompts_of_many_topics() -> None:
    lines = [json.loads(line) for line in PROMPTS.read_text(encoding="utf-8").splitlines()]
    assert all(line.keys() == {"id", "prompt", "topic"} for line in lines)
    assert len({line["id"] for line in lines}) == len({line["prompt"] for line in lines}) == len(lines) >= 120
    topics = Counter(line["topic"] for line in lines)
    assert len(topics) >= 8
    assert min(topics.values()) >= 5
    lengths = [len(line["prompt"]) for line in lines]
    assert min(lengths) < 30
    assert max(lengths) > 250


def test_every_attempt_is_one_mark_in_the_row_of_its_key() -> None:
    marks = [Mark(key, 1.5 * number, 0.0, outcome, "<&>") for key in "ab" for number, outcome in enumerate(LOOKS)]
    picture = ET.fromstring(draw(marks, {"a": "one", "b": "two"}, {"b": 3.0}, "Title & more", "below"))
    drawn = [group.get("class") for group in picture.iter(f"{SVG}g") if "mark" in (group.get("class") or "")]
    assert sorted(map(str, drawn)) == sorted(f"{mark.outcome} mark" for mark in marks)
    texts = [text.text for text in picture.iter(f"{SVG}text")]
    assert {"a", "b", "one", "two", "Title & more", "day used up", "0 s"} <= set(texts)
    assert {look[0] for look in LOOKS.values()} <= set(texts)


def test_waits_that_overlap_are_drawn_once() -> None:
    marks = [
        Mark("a", 4.0, 3.0, "answered", ""),
        Mark("a", 5.0, 3.0, "answered", ""),
        Mark("a", 9.0, 1.0, "answered", ""),
    ]
    picture = ET.fromstring(draw(marks, {"a": ""}, {}, "", ""))
    rows = [rect for rect in picture.iter(f"{SVG}rect") if rect.get("class") == "wait"]
    assert len(rows) == 2 + 1  # two stretches and the legend


def test_nothing_sent_is_still_a_picture() -> None:
    assert ET.fromstring(draw([], {"a": ""}, {}, "", "")).tag == f"{SVG}svg"


def test_numbers_stand_to_the_right() -> None:
    assert table(("key", "sent"), [("one", "7")]).splitlines()[-1] == "one     7"
