"""A tracker that fails ends no run: it is left out from then on, and that is said once."""

from __future__ import annotations

import functools
from collections.abc import Callable
from typing import Any

from ..core.errors import FFTError
from ..core.terminal import say


def guard(trainer: Any) -> None:
    """Let the trackers among the trainer's callbacks fail without ending it; metrics.jsonl has what they miss."""
    from transformers.integrations.integration_utils import INTEGRATION_TO_CALLBACK

    for callback in trainer.callback_handler.callbacks:
        name = next((name for name, kind in INTEGRATION_TO_CALLBACK.items() if type(callback) is kind), None)
        if name is not None:
            _guarded(callback, name)


def _guarded(callback: Any, name: str) -> None:
    failed = False

    def tried(event: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(event)
        def call(*arguments: Any, **more: Any) -> Any:
            nonlocal failed
            if failed:
                return None
            try:
                return event(*arguments, **more)
            except FFTError:  # a stop that was asked for meanwhile
                raise
            except Exception as error:  # whatever another program raises
                failed = True
                reason = " ".join(str(error).split())[:200]
                say(f"warning: {name} failed ({type(error).__name__}: {reason}); it gets nothing more of this run,"
                    " which goes on: metrics.jsonl has every line")  # fmt: skip
                return None

        return call

    for key in dir(callback):
        if key.startswith("on_"):
            setattr(callback, key, tried(getattr(callback, key)))
