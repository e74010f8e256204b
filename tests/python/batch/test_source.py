"""The sources of a batch: lists, generators, files, and invalid prompts."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from probes import MODEL
from quotaflow import InvalidArgumentError, InvalidPromptError, LLMInterface, TemplateError

if TYPE_CHECKING:
    from collections.abc import Iterator


def written(folder: Path, *lines: str | bytes) -> Path:
    path = folder / "prompts.jsonl"
    path.write_bytes(b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines))
    return path


def test_every_shape_of_a_prompt(llm: LLMInterface) -> None:
    given: list[Any] = [
        "text",
        [{"role": "user", "content": "messages"}],
        {"prompt": "in a dict", "id": 7},
        {"messages": [{"role": "user", "content": "messages in a dict"}], "id": "b", "temperature": 0},
        {"prompt": "another model", "model": "gpt-4o", "params": {"max_tokens": 300}},
    ]
    batch = llm.send_batch(iter(given), model=MODEL, system="Be brief.")
    assert [str(item.reply) for item in batch] == [
        "answer to: text", "answer to: messages", "answer to: in a dict", "answer to: messages in a dict",
        "answer to: another model",
    ]  # fmt: skip
    assert [item.id for item in batch] == [None, None, 7, "b", None]
    assert [item.reply.model for item in batch if item.reply is not None] == [MODEL] * 4 + ["gpt-4o"]


@pytest.mark.parametrize(
    ("prompt", "words"),
    [
        ("", "the prompt is empty"),
        ("  ", "the prompt is empty"),
        (7, "of type int"),
        (None, "of type NoneType"),
        ([], "no messages"),
        ({}, "neither prompt nor messages"),
        ({"prompt": "a", "messages": []}, "both prompt and messages"),
        ({"role": "user", "content": "a"}, "one message and no prompt"),
        ({"prompt": "a", "id": [1]}, "id of the prompt is of type list"),
        ({"prompt": "a", "params": 3}, "params of the prompt is of type int"),
        ({"prompt": "a", "priority": "high"}, "priority is of type str"),
        ({"prompt": "a", "temperature": object()}, "cannot be written as JSON"),
        ("half a pair \ud800", "unpaired surrogate"),
        ([{"role": "user", "content": "a", "name": 5}], "messages are wrong"),
    ],
)
def test_what_is_no_prompt_is_an_item_with_an_error(llm: LLMInterface, prompt: object, words: str) -> None:
    batch = llm.send_batch(["before", prompt, "after"], model=MODEL)
    assert [item.ok for item in batch] == [True, False, True]
    error = batch[1].error
    assert isinstance(error, InvalidArgumentError)
    assert words in str(error)


@pytest.mark.parametrize("text", ["", "half a pair \ud800"])
def test_the_item_of_what_is_no_prompt_has_its_id(llm: LLMInterface, text: str) -> None:
    prompts = [{"prompt": text, "id": "mine"}, {"messages": [{"role": "user", "content": text}], "id": 7}]
    batch = llm.send_batch(prompts, model=MODEL)
    assert [(item.ok, item.id) for item in batch] == [(False, "mine"), (False, 7)]


@pytest.mark.parametrize("prompts", ["one prompt", b"bytes", {"prompt": "a"}, 7, None])
def test_what_holds_no_prompts_is_refused(llm: LLMInterface, prompts: Any) -> None:
    with pytest.raises(InvalidArgumentError, match="prompts is of type"):
        llm.send_batch(prompts, model=MODEL)


def test_a_file_that_is_not_there_is_refused(llm: LLMInterface) -> None:
    for path in ("nowhere.jsonl", Path("nowhere")):
        with pytest.raises(InvalidArgumentError, match=r"cannot be read.*nowhere"):
            llm.send_batch(path, model=MODEL)


def test_a_file_of_lines(llm: LLMInterface, tmp_path: Path) -> None:
    path = written(
        tmp_path, b"\xef\xbb\xbf" + b'"text"', "", '[{"role": "user", "content": "messages"}]',
        '{"prompt": "dict", "id": 3}', "",
    )  # fmt: skip
    for given in (path, str(path)):
        batch = llm.send_batch(given, model=MODEL)
        assert [str(item.reply) for item in batch] == [
            "answer to: text", "answer to: messages", "answer to: dict"
        ]  # fmt: skip
        assert [item.id for item in batch] == [None, None, 3]


def test_broken_lines_are_named_and_the_rest_goes_on(llm: LLMInterface, tmp_path: Path) -> None:
    path = written(tmp_path, '"one"', "{broken", '"two"', b'"\xff"', '{"no": "prompt"}', "[" * 100_000, '"three"')
    batch = llm.send_batch(path, model=MODEL)
    assert [item.ok for item in batch] == [True, False, True, False, False, False, True]
    assert all(isinstance(item.error, InvalidPromptError) for item in batch.errors)
    places = [str(item.error).split(":")[0] for item in batch.errors]
    assert places == [f"line {number} of prompts.jsonl" for number in (2, 4, 5, 6)]


def test_a_file_is_read_as_far_as_it_is_needed(llm: LLMInterface, tmp_path: Path) -> None:
    path = written(tmp_path, *(json.dumps(f"prompt {number}") for number in range(100_000)))
    came = llm.iter_batch(path, 4, model=MODEL)
    for _ in range(20):
        next(came)
    source = came.gi_frame.f_locals["work"]._prompts  # type: ignore[attr-defined]
    assert source.line < 100
    came.close()  # type: ignore[attr-defined]


def test_a_generator_is_asked_as_far_as_it_is_needed(llm: LLMInterface) -> None:
    asked: list[int] = []

    def endless() -> Iterator[str]:
        while True:
            asked.append(len(asked))
            yield f"prompt {len(asked)}"

    for item in llm.iter_batch(endless(), 4, ordered=True, model=MODEL):
        if item.index == 50:
            break
    assert len(asked) < 70


def test_templates_are_filled_where_the_interface_can(llm: LLMInterface, monkeypatch: pytest.MonkeyPatch) -> None:
    given = [{"template": "Translate $word", "params": {"word": "bread"}}]
    if not hasattr(LLMInterface, "render"):
        batch = llm.send_batch(given, model=MODEL)
        assert isinstance(batch[0].error, InvalidPromptError)
        monkeypatch.setattr(
            LLMInterface,
            "render",
            lambda _self, template, params: template.replace("$word", params["word"]),
            raising=False,
        )
    assert [str(reply) for reply in llm.send_batch(given, model=MODEL)] != []
    assert str(llm.send_batch(given, model=MODEL)[0].reply) == "answer to: Translate bread"


class Unprintable:
    def __str__(self) -> str:
        raise RuntimeError("no words")


@pytest.mark.parametrize("template", ["Translate $word to $language", "Translate {{ word }} to {{ language }}"])
def test_each_template_has_its_own_parameters_and_its_own_faults(llm: LLMInterface, template: str) -> None:
    params: list[Any] = [
        {"word": "bread", "language": "French"},
        {"word": "wine"},
        {"word": "salt", "language": "French", "tone": "kind"},
        {"word": "milk", "langauge": "French"},
        {"word": Unprintable(), "language": "French"},
        {"word": "$word {{ word }}", "language": None},
        "bread",
    ]
    given = [{"template": template, "params": each} for each in params]
    batch = llm.send_batch([*given, {"template": template}, "plain"], model=MODEL)
    assert [str(item.reply) for item in batch if item.ok] == [
        "answer to: Translate bread to French",
        "answer to: Translate $word {{ word }} to ",
        "answer to: plain",
    ]
    says = [
        "needs", "does not use tone", "did you mean it by langauge?", "RuntimeError: no words",
        "params of the prompt is of type str", "are missing",
    ]  # fmt: skip
    assert [item.index for item in batch.errors] == [1, 2, 3, 4, 6, 7]
    for item, words in zip(batch.errors, says, strict=True):
        assert isinstance(item.error, InvalidPromptError if "of type" in words else TemplateError)
        assert words in str(item.error)
        assert item.attempts == 0


def test_a_template_in_a_file_is_filled_and_its_line_is_named(llm: LLMInterface, tmp_path: Path) -> None:
    path = written(
        tmp_path,
        '{"template": "Translate $word", "params": {"word": "bread"}, "temperature": 0}',
        '{"template": "Translate $word", "params": {"wrod": "wine"}}',
        '{"template": "Translate {{ word }", "params": {}}',
    )
    first, second, third = llm.send_batch(path, model=MODEL)
    assert str(first.reply) == "answer to: Translate bread"
    assert isinstance(second.error, TemplateError)
    assert second.error.message.startswith("line 2 of ")
    assert str(third.reply) == "answer to: Translate {{ word }"


def test_a_template_that_fails_ends_a_batch_when_asked(llm: LLMInterface) -> None:
    given = ["a", {"template": "$word", "params": {}}, "b"]
    with pytest.raises(TemplateError, match="needs"):
        llm.send_batch(given, 1, model=MODEL, stop_on_error=True)
