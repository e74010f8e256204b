"""Prompts over many keys, models and providers, as fast as their quotas allow.

    from quotaflow import LLMInterface

    llm = LLMInterface()
    print(llm.send_prompt("Name three rivers.", provider="openai", model="gpt-4o-mini"))

Importing this package starts nothing and loads nothing; each name is loaded when it is first used.
"""

from __future__ import annotations

TYPE_CHECKING = False
if TYPE_CHECKING:
    from quotaflow import testing
    from quotaflow._batch.results import Batch, BatchItem
    from quotaflow._batch.summary import BatchProgress, BatchSummary
    from quotaflow._keys.manager import APIKeyManager
    from quotaflow._limiter.limiter import RateLimiter
    from quotaflow._limiter.permits import Permit, PermitKey
    from quotaflow._plan.plan import Plan, PlannedCost, PlannedKey, PlannedLimit
    from quotaflow._quotaflow import Verdict, __version__
    from quotaflow._retry.classify import classify_error
    from quotaflow._retry.retrying import Retry, retrying
    from quotaflow._streaming.piece import Piece
    from quotaflow._streaming.stream import AsyncPromptStream, PromptStream
    from quotaflow._structured.response_format import ResponseFormat
    from quotaflow._templates.render import prepare_prompt_with_context, render
    from quotaflow.errors import (
        AnswerError,
        AuthError,
        CallError,
        CallTimeoutError,
        CheckpointError,
        ClosedError,
        ConfigError,
        ContentFilteredError,
        ContextTooLongError,
        CreditExhaustedError,
        DailyQuotaError,
        DeadlineExceededError,
        InvalidArgumentError,
        InvalidPromptError,
        InvalidRequestError,
        NetworkError,
        NoKeyError,
        NotFoundError,
        OverloadedError,
        ParseError,
        PermissionDeniedError,
        QueueCleared,
        QueueFullError,
        QuotaflowError,
        RateLimitError,
        ServerError,
        StateError,
        StreamInterrupted,
        TemplateError,
        TokenLimitError,
        UserLimitError,
        ValidationError,
    )
    from quotaflow.events import (
        BlockedEvent,
        ExhaustedEvent,
        FallbackEvent,
        RecoveredEvent,
        RetryEvent,
        RotateEvent,
        SettledEvent,
        WaitEvent,
    )
    from quotaflow.interface import LLMInterface
    from quotaflow.records import Attempt, CostEstimate, QueuedCall, Usage
    from quotaflow.reply import Reply

__all__ = [
    "APIKeyManager",
    "AnswerError",
    "AsyncPromptStream",
    "Attempt",
    "AuthError",
    "Batch",
    "BatchItem",
    "BatchProgress",
    "BatchSummary",
    "BlockedEvent",
    "CallError",
    "CallTimeoutError",
    "CheckpointError",
    "ClosedError",
    "ConfigError",
    "ContentFilteredError",
    "ContextTooLongError",
    "CostEstimate",
    "CreditExhaustedError",
    "DailyQuotaError",
    "DeadlineExceededError",
    "ExhaustedEvent",
    "FallbackEvent",
    "InvalidArgumentError",
    "InvalidPromptError",
    "InvalidRequestError",
    "LLMInterface",
    "NetworkError",
    "NoKeyError",
    "NotFoundError",
    "OverloadedError",
    "ParseError",
    "PermissionDeniedError",
    "Permit",
    "PermitKey",
    "Piece",
    "Plan",
    "PlannedCost",
    "PlannedKey",
    "PlannedLimit",
    "PromptStream",
    "QueueCleared",
    "QueueFullError",
    "QueuedCall",
    "QuotaflowError",
    "RateLimitError",
    "RateLimiter",
    "RecoveredEvent",
    "Reply",
    "ResponseFormat",
    "Retry",
    "RetryEvent",
    "RotateEvent",
    "ServerError",
    "SettledEvent",
    "StateError",
    "StreamInterrupted",
    "TemplateError",
    "TokenLimitError",
    "Usage",
    "UserLimitError",
    "ValidationError",
    "Verdict",
    "WaitEvent",
    "__version__",
    "classify_error",
    "prepare_prompt_with_context",
    "render",
    "retrying",
    "testing",
]

_HOMES = {
    "APIKeyManager": "_keys.manager",
    "AsyncPromptStream": "_streaming.stream",
    "Attempt": "records",
    "Batch": "_batch.results",
    "BatchItem": "_batch.results",
    "BatchProgress": "_batch.summary",
    "BatchSummary": "_batch.summary",
    "BlockedEvent": "events",
    "CostEstimate": "records",
    "ExhaustedEvent": "events",
    "FallbackEvent": "events",
    "LLMInterface": "interface",
    "Permit": "_limiter.permits",
    "PermitKey": "_limiter.permits",
    "Plan": "_plan.plan",
    "PlannedCost": "_plan.plan",
    "PlannedKey": "_plan.plan",
    "PlannedLimit": "_plan.plan",
    "QueuedCall": "records",
    "Piece": "_streaming.piece",
    "PromptStream": "_streaming.stream",
    "RateLimiter": "_limiter.limiter",
    "RecoveredEvent": "events",
    "Reply": "reply",
    "ResponseFormat": "_structured.response_format",
    "Retry": "_retry.retrying",
    "RetryEvent": "events",
    "RotateEvent": "events",
    "SettledEvent": "events",
    "Usage": "records",
    "Verdict": "_quotaflow",
    "WaitEvent": "events",
    "__version__": "_quotaflow",
    "classify_error": "_retry.classify",
    "prepare_prompt_with_context": "_templates.render",
    "render": "_templates.render",
    "retrying": "_retry.retrying",
}

# Modules of earlier releases, for imports and pickles that name them: they are found after those of this folder.
__path__.append(f"{__path__[0]}/_former_modules")


def __getattr__(name: str) -> object:
    if name not in __all__:
        raise AttributeError(f"module 'quotaflow' has no attribute {name!r}")
    # Not importlib: it would load more than most of what is asked for.
    home = name if name == "testing" else _HOMES.get(name, "errors")
    module = __import__(f"quotaflow.{home}", fromlist=[name])
    value: object = module if home == name else getattr(module, name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__
