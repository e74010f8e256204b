"""`LLMInterface` in LangChain's chains and callbacks; needs LangChain."""

from __future__ import annotations

import inspect
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from quotaflow._call.checks import wrong_type
from quotaflow.integrations.langchain import ChatQuotaflow  # first: it says what to install

from langchain_core.messages import AnyMessage, convert_to_messages  # isort: skip
from langchain_core.prompt_values import ChatPromptValue, ChatPromptValueConcrete, PromptValue, StringPromptValue
from langchain_core.runnables import Runnable, RunnableSequence, ensure_config
from langchain_core.runnables.base import coerce_to_runnable

from quotaflow._call.options import takes_a_shape
from quotaflow._structured.repair import Wanted
from quotaflow.errors import InvalidPromptError
from quotaflow.integrations.messages import reply_of

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator

    from langchain_core.outputs import LLMResult
    from langchain_core.runnables import RunnableConfig

    from quotaflow.reply import Reply


_NAME = "LLMInterface"


class _TextRunnable(Runnable[Any, str]):
    """What LangChain asks a Runnable about, answered for text; it is only looked into and never made."""

    @property
    def InputType(self) -> Any:  # noqa: N802
        return str | StringPromptValue | ChatPromptValueConcrete | list[AnyMessage]

    @property
    def OutputType(self) -> type[str]:  # noqa: N802
        return str


def borrowed(llm: Any, name: str) -> Any:
    """Return a member of LangChain's Runnable, as if the interface had inherited it."""
    try:
        member = inspect.getattr_static(_TextRunnable, name)
    except AttributeError:
        text = f"{type(llm).__name__!r} object has no attribute {name!r}"
        raise AttributeError(text, name=name, obj=llm) from None
    return member.__get__(llm, type(llm)) if hasattr(member, "__get__") else member


def sequence(*steps: Any, name: str | None = None) -> Runnable[Any, Any]:
    """Return a chain of these."""
    return RunnableSequence(*map(coerce_to_runnable, steps), name=name)


def invoke(llm: Any, prompt: object, config: Any, kwargs: dict[str, Any]) -> Reply:
    """Send one call under a config; its callbacks see a chat model."""
    value, under = _prompt_value(prompt), _config(config)
    return _reply(ChatQuotaflow(llm=llm).generate_prompt([value], **_told(under), **kwargs), kwargs)


async def ainvoke(llm: Any, prompt: object, config: Any, kwargs: dict[str, Any]) -> Reply:
    """Do the same for asyncio."""
    value, under = _prompt_value(prompt), _config(config)
    return _reply(await ChatQuotaflow(llm=llm).agenerate_prompt([value], **_told(under), **kwargs), kwargs)


def stream(llm: Any, prompt: object, config: Any, kwargs: dict[str, Any]) -> Iterator[str]:
    """Yield the text of one call in pieces under a config; its callbacks see a chat model."""
    value, under = _prompt_value(prompt), _named(_config(config))
    for chunk in ChatQuotaflow(llm=llm).stream(value, under, **kwargs):
        if text := str(chunk.text):
            yield text


async def astream(llm: Any, prompt: object, config: Any, kwargs: dict[str, Any]) -> AsyncIterator[str]:
    """Do the same for asyncio."""
    value, under = _prompt_value(prompt), _named(_config(config))
    async for chunk in ChatQuotaflow(llm=llm).astream(value, under, **kwargs):
        if text := str(chunk.text):
            yield text


def batch(llm: Any, inputs: Any, config: Any, return_exceptions: bool, kwargs: dict[str, Any]) -> list[Any]:
    """Send many calls, each under its config, from LangChain's threads."""
    made: list[Any] = borrowed(llm, "batch")(inputs, config, return_exceptions=return_exceptions, **kwargs)
    return made


async def abatch(llm: Any, inputs: Any, config: Any, return_exceptions: bool, kwargs: dict[str, Any]) -> list[Any]:
    """Do the same for asyncio."""
    made: list[Any] = await borrowed(llm, "abatch")(inputs, config, return_exceptions=return_exceptions, **kwargs)
    return made


def _config(config: Any) -> RunnableConfig:
    try:
        return ensure_config(config)
    except (AttributeError, TypeError):
        raise wrong_type("config", config, "pass a RunnableConfig or None") from None


def _named(config: RunnableConfig) -> RunnableConfig:
    """Return the config, in which a run without a name has that of the interface."""
    return {**config, "run_name": config.get("run_name") or _NAME}


def _told(config: RunnableConfig) -> dict[str, Any]:
    """Return a config's arguments for LangChain's models; a run without a name has the interface's."""
    return {
        "callbacks": config.get("callbacks"),
        "tags": config.get("tags"),
        "metadata": config.get("metadata"),
        "run_name": config.get("run_name") or _NAME,
        "run_id": config.get("run_id"),
    }


def _prompt_value(prompt: object) -> PromptValue:
    if isinstance(prompt, PromptValue):
        return prompt
    if isinstance(prompt, str):
        return StringPromptValue(text=prompt)
    if isinstance(prompt, Sequence) and not isinstance(prompt, bytes | bytearray | memoryview):
        try:
            return ChatPromptValue(messages=convert_to_messages(prompt))
        except (ValueError, TypeError, KeyError, NotImplementedError):
            pass  # LangChain's words show the prompt
    raise InvalidPromptError(
        f"the prompt, of type {type(prompt).__name__}, cannot be read as messages",
        hint="pass a string, messages, or a prompt value of LangChain",
    )


def _reply(result: LLMResult, kwargs: dict[str, Any]) -> Reply:
    reply = reply_of(result.generations[0][0])  # type: ignore[arg-type]
    wanted = kwargs.get("response_format")
    if reply.parsed is not None or reply.error is not None or not takes_a_shape(wanted):
        return reply
    # LangChain put it together from chunks, or had it in its cache.
    return Wanted(wanted).judged(reply)[0]
