"""What every call passes through: its arguments, its prompt, its event loop, its hooks.

The interface, the limiter, the key manager and all packages beside this one call it.
It may import `errors`, `events` and `records`.
"""
