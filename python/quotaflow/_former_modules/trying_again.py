"""Former home of what is in `quotaflow._retry.retrying`."""

from quotaflow._retry.retrying import Retry, retrying

__all__ = ["Retry", "retrying"]
