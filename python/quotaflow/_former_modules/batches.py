"""Former home of what is in `quotaflow._batch.results`."""

from quotaflow._batch.results import Batch, BatchItem, Results

__all__ = ["Batch", "BatchItem", "Results"]
