"""LangChain: an interface as a Runnable, and a chat model; importing this package imports none of it.

Programs import the chat model; `interface` inherits the methods of `runnable`.
It may import `interface`, `_streaming`, `_structured`, `reply`, `_call`, `errors` and `records`.
"""
