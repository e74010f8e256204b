"""LangChain: `LLMInterface` as a Runnable, and a chat model.

Programs import the chat model; `interface` inherits the methods of `runnable`.
It may import `interface`, `_streaming`, `_structured`, `reply`, `_call`, `errors` and `records`.
"""
