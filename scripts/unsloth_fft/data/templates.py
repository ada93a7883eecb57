"""A named chat template put onto a tokenizer by Unsloth's own `get_chat_template`."""

from __future__ import annotations

from typing import Any

from ..core.errors import BadInput


def known_names() -> list[str]:
    """Names of Unsloth's chat templates, sorted. Imports unsloth."""
    from unsloth.chat_templates import CHAT_TEMPLATES

    return sorted(CHAT_TEMPLATES)


def named(tokenizer: Any, name: str) -> Any:
    """The tokenizer with the template called `name`.

    The template's text alone is not enough: Unsloth fills in its default system message and, for some templates,
    renames the end-of-sequence token to the template's end-of-turn token, so that the vocabulary keeps its size.
    Raises BadInput when there is no such template or it needs tokens that this tokenizer lacks.
    """
    from unsloth.chat_templates import get_chat_template

    if name not in known_names():
        raise BadInput(f"data.chat_template '{name}' is not known", hint=f"choose one of: {', '.join(known_names())}")
    try:
        return get_chat_template(tokenizer, chat_template=name)
    except (RuntimeError, ValueError, AssertionError) as error:
        reason = (str(error).strip() or type(error).__name__).splitlines()[0]
        raise BadInput(
            f"data.chat_template '{name}' does not suit this tokenizer: {reason}",
            hint="choose the template of the model's own family, for example chatml for a base model",
        ) from None
