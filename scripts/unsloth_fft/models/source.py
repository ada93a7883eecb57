"""Where a model's shape comes from: a local folder or file, the shipped catalogue, and only then the Hub."""

from __future__ import annotations

import os
import re
from typing import Any

from ..core import hub, json_text
from ..core.errors import BadInput, MissingHere
from . import catalogue
from .shape import ModelShape

TIMEOUT_S = 10.0
# A config.json is a few kilobytes; anything near this is not one.
MAX_BYTES = 4 * 2**20
_BASE_WORDS = {"base", "pt"}
_TUNED_WORDS = {"instruct", "chat", "it", "sft", "dpo", "rlhf", "think", "thinking", "reasoning", "distill", "zephyr"}
# Families whose plain names are the tuned models (their cards on the Hub; see models/catalogue.json).
_TUNED_FAMILIES = ("qwen3", "qwq", "gpt-oss", "phi-4", "smollm3", "glm-4", "granite-4", "aya", "c4ai")
_REPOSITORY = re.compile(r"[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")


def resolve(model: str) -> ModelShape:
    """The shape of `model`. Raises BadInput where it is unknown, MissingHere where the Hub cannot be reached."""
    try:
        return catalogue.load_shape(model)
    except BadInput:
        if not _REPOSITORY.fullmatch(model) or os.path.exists(model) or _is_listed(model):
            raise
    return ModelShape.from_config(_config_from_hub(model), model)


def unloadable(name: str) -> str | None:
    """Why no training can load a model by this name, wherever it runs; None where nothing speaks against it."""
    if name.endswith(".json") or os.path.isfile(name):
        return f"{name} is a file that holds a model's shape, not its weights"
    if os.path.basename(name.rstrip("/")) in ("", ".", ".."):
        return f"{name} means whatever folder it is read from"
    return None


def may_be_a_base_model(name: str) -> bool:
    """Whether a published name lacks every word by which instruction-tuned models are known; a path never is one."""
    if os.path.exists(name) or name.startswith((".", "/", "~")):
        return False
    short = name.rsplit("/", 1)[-1].lower()
    words = set(re.split(r"[-_.]", short))
    if words & _BASE_WORDS:
        return True
    return not (words & _TUNED_WORDS or short.startswith(_TUNED_FAMILIES))


def _is_listed(model: str) -> bool:
    try:
        catalogue.find_entry(model)
    except BadInput:
        return False
    return True


def _config_from_hub(model: str) -> Any:
    """The published config.json of `model`; a token in HF_TOKEN is used and never shown."""
    # Imported here: no plan for a known or local model pays for it, and none touches the network.
    import http.client
    import urllib.error
    import urllib.request

    if os.environ.get("HF_HUB_OFFLINE", "0").lower() in ("1", "true", "yes", "on"):
        raise MissingHere(
            f"model {model} is not in the catalogue, and HF_HUB_OFFLINE forbids looking on the Hub", hint=_HINT
        )
    address, token = f"{hub.endpoint()}/{model}/resolve/main/config.json", hub.token()
    try:
        request = urllib.request.Request(address)
        if token:
            request.add_unredirected_header("Authorization", f"Bearer {token}")
        with urllib.request.urlopen(request, timeout=TIMEOUT_S) as answer:
            text = answer.read(MAX_BYTES)
    except urllib.error.HTTPError as error:
        raise _refused(model, error.code) from None
    except (OSError, ValueError, http.client.HTTPException) as error:
        reason = getattr(error, "reason", None) or str(error) or type(error).__name__
        raise MissingHere(
            f"model {model} is not in the catalogue, and the Hub could not be reached ({reason})", hint=_HINT
        ) from None
    try:
        return json_text.parse(text.decode("utf-8"))
    except ValueError as error:  # what is no text, too
        raise BadInput(f"what the Hub sent as config.json of {model} is not JSON: {error}", hint=_HINT) from None


def _refused(model: str, status: int) -> BadInput:
    if status in (401, 403):
        return BadInput(
            f"the Hub does not let you read {model} (HTTP {status}): it is gated, private or does not exist",
            hint=f"set HF_TOKEN to a token that may read it, or {_HINT}",
        )
    return BadInput(f"model {model} has no config.json on the Hub (HTTP {status})", hint=_HINT)


_HINT = "give --model a local folder with the model's config.json, that file itself, or a catalogue name"
