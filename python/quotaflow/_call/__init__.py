"""What every call passes through: arguments, prompt, options and hooks.

`interface` and all packages here but `_former_modules` call it.
It may import `errors`, `events` and `records`.
"""
