"""Former home of what is in `quotaflow._plan.plan`."""

from quotaflow._plan.plan import Plan, PlannedCost, PlannedKey, PlannedLimit

__all__ = ["Plan", "PlannedCost", "PlannedKey", "PlannedLimit"]
