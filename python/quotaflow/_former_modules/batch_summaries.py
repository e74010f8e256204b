"""Former home of what is in `quotaflow._batch.summary`."""

from quotaflow._batch.summary import BatchProgress, BatchSummary

__all__ = ["BatchProgress", "BatchSummary"]
