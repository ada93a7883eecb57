"""Chat templates rendered with jinja2 alone, for counting without Transformers.

The environment is the one that transformers 5.17.0 makes (utils/chat_template_utils.py); a test holds the two equal.
"""

from __future__ import annotations

import json
import re
from collections.abc import Sequence
from datetime import datetime
from typing import Any

_MARK = re.compile(r"(\{%-?)\s*(end)?generation\s*(-?%\})")


class PlainTemplate:
    """One template, compiled. Raises ModuleNotFoundError without jinja2, and what jinja2 raises of a broken one."""

    def __init__(self, template: str, special: dict[str, str]) -> None:
        import jinja2
        from jinja2.sandbox import ImmutableSandboxedEnvironment

        environment = ImmutableSandboxedEnvironment(
            trim_blocks=True, lstrip_blocks=True, extensions=["jinja2.ext.loopcontrols"]
        )

        def refuse(message: str) -> None:
            raise jinja2.TemplateError(message)

        environment.filters["tojson"] = _to_json
        environment.globals["raise_exception"] = refuse
        environment.globals["strftime_now"] = lambda form: datetime.now().strftime(form)
        # The marks around the assistant's words change no text.
        self._compiled = environment.from_string(_MARK.sub(_always, template))
        self._special = special

    def render(self, messages: list[dict[str, Any]], tools: Sequence[Any] = ()) -> str:
        """The conversation as text. Raises what the template raises."""
        return self._compiled.render(
            messages=messages,
            tools=list(tools) or None,
            documents=None,
            add_generation_prompt=False,
            **self._special,
        )


def _always(mark: re.Match[str]) -> str:
    return f"{mark[1]} {'endif' if mark[2] else 'if true'} {mark[3]}"


def _to_json(
    value: Any, ensure_ascii: bool = False, indent: Any = None, separators: Any = None, sort_keys: bool = False
) -> str:
    return json.dumps(value, ensure_ascii=ensure_ascii, indent=indent, separators=separators, sort_keys=sort_keys)
