"""Former home of what is in `quotaflow._streaming.stream`."""

from quotaflow._streaming.stream import AsyncPromptStream, PromptStream

__all__ = ["AsyncPromptStream", "PromptStream"]
