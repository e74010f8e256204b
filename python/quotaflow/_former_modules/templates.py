"""Former home of what is in `quotaflow._templates.render`."""

from quotaflow._templates.render import prepare_prompt_with_context, render

__all__ = ["prepare_prompt_with_context", "render"]
