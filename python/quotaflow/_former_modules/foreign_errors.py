"""Former home of what is in `quotaflow._retry.classify`."""

from quotaflow._retry.classify import classify_error

__all__ = ["classify_error"]
