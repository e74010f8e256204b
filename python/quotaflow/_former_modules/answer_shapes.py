"""Former home of what is in `quotaflow._structured.response_format`."""

from quotaflow._structured.response_format import ResponseFormat

__all__ = ["ResponseFormat"]
