"""What every call passes through: its arguments, its prompt, its options, its hooks.

`interface` and all packages here but `_former_modules` call it.
It may import `errors`, `events` and `records`.
"""
