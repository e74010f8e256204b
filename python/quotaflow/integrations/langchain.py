"""`ChatQuotaflow`: a chat model of LangChain over your keys and quotas.

It needs LangChain, which `pip install 'quotaflow[langchain]'` brings.
"""

from __future__ import annotations

from datetime import timedelta
from math import ceil
from operator import itemgetter
from typing import TYPE_CHECKING, Annotated, Any, Literal

try:
    import langchain_core  # noqa: F401
except ModuleNotFoundError as error:
    raise ImportError("this needs LangChain: pip install 'quotaflow[langchain]'") from error

from langchain_core.language_models.chat_models import BaseChatModel
from langchain_core.output_parsers import BaseOutputParser, JsonOutputParser, PydanticOutputParser
from langchain_core.output_parsers.openai_tools import JsonOutputKeyToolsParser, PydanticToolsParser
from langchain_core.outputs import ChatResult
from langchain_core.runnables import RunnableMap, RunnablePassthrough
from langchain_core.utils.function_calling import convert_to_openai_function, convert_to_openai_tool
from langchain_core.utils.pydantic import is_basemodel_subclass
from pydantic import BeforeValidator, ConfigDict, Field

from quotaflow._streaming.methods import awhole_answer, whole_answer
from quotaflow.errors import InvalidArgumentError
from quotaflow.integrations.messages import chunk_from, generation_from, last_chunk_from, openai_messages
from quotaflow.interface import LLMInterface

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Iterator, Mapping, Sequence
    from os import PathLike

    from langchain_core.callbacks import AsyncCallbackManagerForLLMRun, CallbackManagerForLLMRun
    from langchain_core.language_models import LanguageModelInput
    from langchain_core.language_models.base import LangSmithParams
    from langchain_core.messages import AIMessage, BaseMessage
    from langchain_core.outputs import ChatGenerationChunk
    from langchain_core.runnables import Runnable
    from langchain_core.tools import BaseTool

    from quotaflow.reply import Reply

_Seconds = Annotated[
    float, BeforeValidator(lambda span: span.total_seconds() if isinstance(span, timedelta) else span)
]
# The fields that are arguments of `send_prompt`, by the same names.
_ASKED = (
    "task_name", "provider", "model", "retry", "fallback", "max_retries", "retry_delay", "system", "priority",
    "timeout", "user", "temperature", "max_tokens",
)  # fmt: skip
# LangChain's words for OpenAI's.
_TOOL_CHOICES: dict[str | bool, str] = {"any": "required", True: "required"}
_WORDS_OF_CHOICE = ("auto", "none", "required")


class ChatQuotaflow(BaseChatModel):
    """A chat model of LangChain over your keys, models and providers, as fast as their quotas allow.

    Messages in every shape LangChain knows go in, with pictures, files and tool results; an `AIMessage` with tool
    calls, usage and the story of the call comes out. Everything that waits, rotates and falls back is that of
    `LLMInterface`, and so are the errors, unchanged. Streams bring chunks as they arrive, with usage and the story
    in the last one.

    Args:
        llm: the interface to use, which other code may share; or else one is made of the next five, which
            mean what they mean to `LLMInterface`.
        config: the configuration, or its path; none of these five is kept here, shown or serialised.
        keys: keys by provider.
        limits: limits by provider.
        base_urls: addresses by provider.
        state: where quotas are remembered.
        fields: the fields below, all of which a call can overrule: `chat.invoke("…", model="…")`.

    Raises:
        ConfigError: the configuration is invalid.

    >>> chat = ChatQuotaflow(llm=llm, model="gpt-4o-mini", temperature=0)
    >>> message = chat.invoke([("system", "Be brief."), ("human", "Name a river.")])
    >>> message.response_metadata["provider"], message.usage_metadata["output_tokens"] > 0
    ('openai', True)
    """

    # A misspelt field would otherwise be dropped without a word.
    model_config = ConfigDict(extra="forbid", arbitrary_types_allowed=True)

    llm: LLMInterface = Field(exclude=True, repr=False)
    """The interface behind it."""
    model: str | None = None
    """The model to ask for; `None` for that of the task or the config."""
    provider: str | None = None
    """The provider to ask; `None` leaves it to the model or the config."""
    task_name: str | None = None
    """The task whose model the config names."""
    temperature: float | None = None
    """How freely it answers; `None` for the provider's default."""
    max_tokens: int | None = None
    """The longest answer in tokens; `None` for the provider's default."""
    stop: list[str] | None = None
    """Where an answer ends, unless a call says otherwise."""
    system: str | None = None
    """Instructions before every prompt."""
    priority: int = 3
    """Who is served first when several wait: 9 before 0."""
    timeout: _Seconds | None = None
    """The seconds a whole call may take, waits included."""
    retry: bool = True
    """Whether to try again after a failure that may pass."""
    max_retries: int | None = None
    """How often a key that failed is tried again; `None` for what the config says (3)."""
    retry_delay: _Seconds | None = None
    """The first back-off in seconds; `None` for what the config says (1)."""
    fallback: bool = True
    """Whether to go on to the configured fallbacks."""
    user: str | None = None
    """The user of the call; it stays here and is not sent."""
    params: dict[str, Any] = Field(default_factory=dict)
    """Whatever else goes to the provider with every call: `top_p`, `seed`…"""
    streaming: bool = False
    """Whether `invoke` streams too, so that callbacks see each token."""

    def __init__(
        self,
        *,
        llm: LLMInterface | None = None,
        config: str | PathLike[str] | Mapping[str, Any] | None = None,
        keys: Mapping[str, Any] | None = None,
        limits: Mapping[str, Any] | None = None,
        base_urls: Mapping[str, str] | None = None,
        state: str | PathLike[str] | None = None,
        **fields: Any,
    ) -> None:
        # No fields: they hold keys, and fields are shown, copied and serialised.
        own = {"config": config, "keys": keys, "limits": limits, "base_urls": base_urls, "state": state}
        if llm is None:
            llm = LLMInterface(config, keys=keys, limits=limits, base_urls=base_urls, state=state)
        elif given := [name for name, value in own.items() if value is not None]:
            raise TypeError(f"llm= brings its own {', '.join(given)}: give one or the other")
        super().__init__(**{"llm": llm, **fields})

    @classmethod
    def is_lc_serializable(cls) -> bool:
        """Whether LangChain may write it down: yes, without keys; read again it takes them from the config."""
        return True

    @property
    def _llm_type(self) -> str:
        return "quotaflow"

    @property
    def _identifying_params(self) -> dict[str, Any]:
        known = {name: getattr(self, name) for name in (*_ASKED, "stop")}
        return {name: value for name, value in known.items() if value is not None} | self.params

    def _get_ls_params(self, stop: list[str] | None = None, **kwargs: Any) -> LangSmithParams:
        params = super()._get_ls_params(stop=stop or self.stop, **kwargs)
        params["ls_provider"] = kwargs.get("provider") or self.provider or "quotaflow"
        # Without a model the task names it, and without a task the config does.
        name = kwargs.get("model") or self.model or kwargs.get("task_name") or self.task_name
        params["ls_model_name"] = name or "default"
        return params

    def get_num_tokens(self, text: str) -> int:
        """Estimate the tokens of a text, as calls are estimated before they are sent; it loads no tokenizer.

        Four ASCII characters or one other character a token, and a tenth more.

        >>> ChatQuotaflow(llm=llm).get_num_tokens("Name a river in France.")
        7
        """
        if self.custom_get_token_ids is not None:
            return super().get_num_tokens(text)
        plain = len(text.encode("ascii", "ignore"))
        tokens = ceil(plain / 4) + len(text) - plain
        return tokens + ceil(tokens / 10)

    def _arguments(self, stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return what `send_prompt` is given besides the messages; the call's own arguments win."""
        made = {name: getattr(self, name) for name in _ASKED} | self.params
        made |= {"stop": stop or self.stop or None} | kwargs
        return {name: value for name, value in made.items() if value is not None}

    def _generate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return _result(whole_answer(self.llm, openai_messages(messages), self._arguments(stop, kwargs)))

    async def _agenerate(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,  # noqa: ARG002
        **kwargs: Any,
    ) -> ChatResult:
        return _result(await awhole_answer(self.llm, openai_messages(messages), self._arguments(stop, kwargs)))

    def _stream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: CallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> Iterator[ChatGenerationChunk]:
        with self.llm.stream_prompt(openai_messages(messages), **self._streamed(stop, kwargs)) as stream:
            for piece in stream.events():
                chunk = chunk_from(piece)
                if chunk is not None:
                    if run_manager is not None:
                        run_manager.on_llm_new_token(str(piece) if piece.kind == "text" else "", chunk=chunk)
                    yield chunk
        yield last_chunk_from(stream.reply)

    async def _astream(
        self,
        messages: list[BaseMessage],
        stop: list[str] | None = None,
        run_manager: AsyncCallbackManagerForLLMRun | None = None,
        **kwargs: Any,
    ) -> AsyncIterator[ChatGenerationChunk]:
        async with self.llm.astream_prompt(openai_messages(messages), **self._streamed(stop, kwargs)) as stream:
            async for piece in stream.events():
                chunk = chunk_from(piece)
                if chunk is not None:
                    if run_manager is not None:
                        text = str(piece) if piece.kind == "text" else ""
                        await run_manager.on_llm_new_token(text, chunk=chunk)
                    yield chunk
        yield last_chunk_from(stream.reply)

    def _streamed(self, stop: list[str] | None, kwargs: dict[str, Any]) -> dict[str, Any]:
        """Return the arguments of a stream; what LangChain was given cannot be taken back, so none is resumed."""
        arguments = self._arguments(stop, kwargs)
        if "resume" in arguments:
            raise InvalidArgumentError(
                "resume cannot be used in LangChain, where no chunk can be taken back",
                hint="use stream_prompt of the interface, or with_retry()",
            )
        return arguments

    def bind_tools(
        self,
        tools: Sequence[dict[str, Any] | type | Callable[..., Any] | BaseTool],
        *,
        tool_choice: dict[str, Any] | str | bool | None = None,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, AIMessage]:
        """Return a model that may call these tools.

        Args:
            tools: functions, Pydantic models, typed dicts, LangChain's tools, or dicts in a provider's shape.
            tool_choice: `auto`, `none`, `any` (or `required`, or True) for any of them, or a tool's name.
            strict: whether arguments must follow the schema exactly, where the provider can.
            kwargs: further arguments of each call, for instance `parallel_tool_calls=False`.

        >>> from langchain_core.tools import tool
        >>> @tool
        ... def add(a: int, b: int) -> int:
        ...     "Adds two numbers."
        ...     return a + b
        >>> bound = ChatQuotaflow(llm=llm, model="gpt-4o-mini").bind_tools([add], tool_choice="any")
        >>> bound.kwargs["tool_choice"], bound.kwargs["tools"][0]["function"]["name"]
        ('required', 'add')
        """
        kwargs["tools"] = [convert_to_openai_tool(tool, strict=strict) for tool in tools]
        if tool_choice and isinstance(tool_choice, bool | str):
            tool_choice = _TOOL_CHOICES.get(tool_choice, str(tool_choice))
            if tool_choice not in _WORDS_OF_CHOICE:
                tool_choice = {"type": "function", "function": {"name": tool_choice}}
        if tool_choice:
            kwargs["tool_choice"] = tool_choice
        return self.bind(**kwargs)

    def with_structured_output(
        self,
        schema: Any = None,
        *,
        method: Literal["function_calling", "json_schema", "json_mode"] = "function_calling",
        include_raw: bool = False,
        strict: bool | None = None,
        **kwargs: Any,
    ) -> Runnable[LanguageModelInput, Any]:
        """Return a model whose answers have this shape.

        Args:
            schema: a Pydantic model, which the answer is then an instance of, or a typed dict, a JSON schema, or
                a dict in a provider's shape, which make it a dict; `json_mode` can do without.
            method: `function_calling` has the model call a tool of this shape, `json_schema` uses the provider's
                structured outputs, `json_mode` asks for any JSON and leaves the shape to the prompt.
            include_raw: whether to give `{"raw", "parsed", "parsing_error"}` instead of raising what is wrong.
            strict: whether the provider must follow the schema exactly, where it can.
            kwargs: further arguments of each call.

        Raises:
            ValueError: there is no such method, or it needs a schema.
        """
        if method not in {"function_calling", "json_schema", "json_mode"}:
            raise ValueError(f"method is {method!r}: use 'function_calling', 'json_schema' or 'json_mode'")
        if schema is None and method != "json_mode":
            raise ValueError(f"{method} needs a schema")
        is_class = isinstance(schema, type) and is_basemodel_subclass(schema)
        traced: dict[str, Any] = {"ls_structured_output_format": {"kwargs": {"method": method}, "schema": schema}}
        parser: BaseOutputParser[Any]
        if method == "function_calling":
            tool = convert_to_openai_tool(schema, strict=strict)
            name = tool["function"]["name"]
            model = self.bind_tools([tool], tool_choice=name, **traced, **kwargs)
            if is_class:
                parser = PydanticToolsParser(tools=[schema], first_tool_only=True)
            else:
                parser = JsonOutputKeyToolsParser(key_name=name, first_tool_only=True)
        else:
            form = {"type": "json_object"} if method == "json_mode" else _json_schema(schema, strict)
            model = self.bind(response_format=form, **(traced if schema else {}), **kwargs)
            parser = PydanticOutputParser(pydantic_object=schema) if is_class else JsonOutputParser()
        if not include_raw:
            return model | parser
        parsed = RunnablePassthrough.assign(
            parsed=itemgetter("raw") | parser,
            parsing_error=lambda _: None,
        )
        failed = RunnablePassthrough.assign(parsed=lambda _: None)
        return RunnableMap(raw=model) | parsed.with_fallbacks([failed], exception_key="parsing_error")


def _json_schema(schema: Any, strict: bool | None) -> dict[str, Any]:
    function = convert_to_openai_function(schema, strict=strict)
    form = {"name": function["name"], "schema": function["parameters"]}
    return {"type": "json_schema", "json_schema": form if strict is None else form | {"strict": strict}}


def _result(reply: Reply) -> ChatResult:
    return ChatResult(generations=[generation_from(reply)], llm_output={"model_name": reply.model})
