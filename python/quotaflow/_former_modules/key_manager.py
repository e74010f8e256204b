"""Former home of what is in `quotaflow._keys.manager`."""

from quotaflow._keys.manager import APIKeyManager, _made_again

__all__ = ["APIKeyManager", "_made_again"]
