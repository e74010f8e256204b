"""What did an answer cost, what will one cost, and how many tokens is a prompt?"""

from __future__ import annotations

from quotaflow._call.prompt import encode_prompt, unencodable_prompt
from quotaflow._quotaflow import cost_of

TYPE_CHECKING = False
if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from decimal import Decimal
    from typing import Any

    from quotaflow._quotaflow import CallOptions, Core
    from quotaflow.records import CostEstimate
    from quotaflow.reply import Reply

    Prompt = str | Sequence[Any]

_PICODOLLARS = 10**12
# Models that a warning named already; a dict, for setting a default is one step.
_warned: dict[tuple[str, str], object] = {}


class CostsFace:
    """Counts and prices, for an object that has the core behind `LLMInterface`."""

    __slots__ = ()

    if TYPE_CHECKING:
        _core: Core
        _options_for: Callable[..., CallOptions]

    def count_tokens(
        self,
        prompt: Prompt,
        model: str | None = None,
        *,
        provider: str | None = None,
        task_name: str | None = None,
        system: str | None = None,
        **params: Any,
    ) -> int:
        """How many tokens a prompt is for a model. Sends nothing and needs no key.

        Models of OpenAI, and its open ones elsewhere, are counted with their own tokenizer; its tables take about
        0.2 s to load, once a process. All others are estimated, and corrected by what earlier answers of the model
        were billed.

        Args:
            prompt: text, which is counted as it is; or a list of messages as `send_prompt` takes them, which are
                counted with the frame that each gets.
            model: the model; with `provider` and `task_name` it is found as `send_prompt` finds it.
            provider: the provider, when the model's name does not tell.
            task_name: the task whose model the config names.
            system: instructions before the prompt; with them a text is counted as the message it becomes.
            params: `tools` and `response_format`, as `send_prompt` takes them, are part of what is read; others
                change nothing.

        >>> llm.count_tokens("hello world", model="gpt-4o-mini")
        2
        >>> llm.count_tokens([{"role": "user", "content": "hello world"}], model="gpt-4o-mini")
        9
        """
        options = _options(self, task_name, provider, model, system, params)
        if type(prompt) is str and not prompt and system is None:
            return 0
        text, is_messages = _encoded(prompt)
        alone = not is_messages and system is None and not params
        try:
            return self._core.count_tokens(text, is_messages, alone, options)
        except UnicodeEncodeError as error:
            raise unencodable_prompt(error) from None

    def estimate_cost(
        self,
        prompt: Prompt,
        model: str | None = None,
        max_tokens: int | None = None,
        *,
        provider: str | None = None,
        task_name: str | None = None,
        system: str | None = None,
        **params: Any,
    ) -> CostEstimate | None:
        """What a call will cost in US dollars, or `None` when nobody knows the price of its model.

        Sends nothing and needs no key. Nothing is assumed to come from a prompt cache, and nothing to be tried
        twice.

        Args:
            prompt: text or messages, as `send_prompt` takes them.
            model: the model; with `provider` and `task_name` it is found as `send_prompt` finds it.
            max_tokens: the longest answer the call will allow; without one nothing bounds its cost.
            provider: the provider, when the model's name does not tell.
            task_name: the task whose model the config names.
            system: instructions before the prompt.
            params: what else the call gets, as `send_prompt` takes it; `tools` and `response_format` are part of
                what is read.

        >>> estimate = llm.estimate_cost("Name a river.", model="gpt-4o-mini", max_tokens=100)
        >>> estimate.low < estimate.expected <= estimate.high, estimate.max_output_tokens
        (True, 100)
        """
        from quotaflow._prices.genai_prices import look_once
        from quotaflow.records import CostEstimate

        look_once()
        if max_tokens is not None:
            params["max_tokens"] = max_tokens
        options = _options(self, task_name, provider, model, system, params)
        text, is_messages = _encoded(prompt)
        try:
            facts, provider_name, model_name = self._core.estimate_cost(text, is_messages, options)
        except UnicodeEncodeError as error:
            raise unencodable_prompt(error) from None
        if facts is None:
            warn_once(provider_name, model_name)
            return None
        provider_name, model_name, (tokens, at_most, is_exact), output, most_output, low, expected, high = facts
        return CostEstimate(
            provider_name, model_name, tokens, at_most, is_exact, output, most_output,
            dollars(low), dollars(expected), None if high is None else dollars(high),
        )  # fmt: skip


def _options(
    face: CostsFace, task_name: object, provider: object, model: object, system: object, params: dict[str, Any]
) -> CallOptions:
    if "response_format" in params:
        from quotaflow._structured.shapes import handed_on

        params = handed_on(params)
    return face._options_for(
        task_name, provider, model, True, True, 3, 1.0, system, 3, None, None, None, False, params, None
    )


def _encoded(prompt: Prompt) -> tuple[str, bool]:
    if type(prompt) is str and prompt:
        return prompt, False
    return encode_prompt(prompt)


def reply_cost(reply: Reply, warns: bool = True) -> Decimal | None:
    """What a reply cost in US dollars; `None`, with one warning for each model, when its price is not known."""
    from quotaflow._prices.genai_prices import look_once

    outcome = reply._outcome
    stated: Any = getattr(outcome, "cost", None)
    if callable(stated):
        look_once()
        picodollars = stated()
    elif stated is not None:
        known: Decimal = stated
        return known
    elif not outcome.provider or not outcome.model:
        return None
    else:
        look_once()
        picodollars = cost_of(outcome.provider, outcome.model, outcome.usage, outcome.raw, _when(outcome.attempts))
    if picodollars is not None:
        return dollars(picodollars)
    if warns and outcome.usage is not None:
        warn_once(outcome.provider, outcome.model)
    return None


def _when(attempts: Sequence[tuple[Any, ...]]) -> float:
    if attempts:
        started: float = attempts[-1][5]
        return started
    from time import time

    return time()


def dollars(picodollars: int) -> Decimal:
    """Picodollars as US dollars, exact whatever the decimal context.

    >>> dollars(2_500_000), dollars(3 * 10**12)
    (Decimal('0.0000025'), Decimal('3'))
    """
    from decimal import Decimal

    whole, rest = divmod(picodollars, _PICODOLLARS)
    return Decimal(f"{whole}.{rest:012d}".rstrip("0").rstrip("."))


def warn_once(provider: str, model: str) -> None:
    """Says once in this process that nobody knows the price of this model."""
    token = object()
    if _warned.setdefault((provider, model), token) is token:
        from quotaflow._call.logs import logger

        logger().warning(
            "no price is known for %s/%s, so that its cost is None; state one under prices in the config",
            provider, model,
        )  # fmt: skip
