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
    from quotaflow._quotaflow import Verdict, __version__
    from quotaflow.answer_shapes import ResponseFormat
    from quotaflow.batch_summaries import BatchProgress, BatchSummary
    from quotaflow.batches import Batch, BatchItem
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
    from quotaflow.foreign_errors import classify_error
    from quotaflow.interface import LLMInterface
    from quotaflow.key_manager import APIKeyManager
    from quotaflow.permits import Permit, PermitKey
    from quotaflow.pieces import Piece
    from quotaflow.plans import Plan, PlannedCost, PlannedKey, PlannedLimit
    from quotaflow.rate_limiter import RateLimiter
    from quotaflow.records import Attempt, CostEstimate, QueuedCall, Usage
    from quotaflow.reply import Reply
    from quotaflow.streams import AsyncPromptStream, PromptStream
    from quotaflow.templates import prepare_prompt_with_context, render
    from quotaflow.trying_again import Retry, retrying

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
    "APIKeyManager": "key_manager",
    "AsyncPromptStream": "streams",
    "Attempt": "records",
    "Batch": "batches",
    "BatchItem": "batches",
    "BatchProgress": "batch_summaries",
    "BatchSummary": "batch_summaries",
    "BlockedEvent": "events",
    "CostEstimate": "records",
    "ExhaustedEvent": "events",
    "FallbackEvent": "events",
    "LLMInterface": "interface",
    "Permit": "permits",
    "PermitKey": "permits",
    "Plan": "plans",
    "PlannedCost": "plans",
    "PlannedKey": "plans",
    "PlannedLimit": "plans",
    "QueuedCall": "records",
    "Piece": "pieces",
    "PromptStream": "streams",
    "RateLimiter": "rate_limiter",
    "RecoveredEvent": "events",
    "Reply": "reply",
    "ResponseFormat": "answer_shapes",
    "Retry": "trying_again",
    "RetryEvent": "events",
    "RotateEvent": "events",
    "SettledEvent": "events",
    "Usage": "records",
    "Verdict": "_quotaflow",
    "WaitEvent": "events",
    "__version__": "_quotaflow",
    "classify_error": "foreign_errors",
    "prepare_prompt_with_context": "templates",
    "render": "templates",
    "retrying": "trying_again",
}


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
