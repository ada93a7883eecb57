"""The Hub's address and the token for it, as the environment gives them."""

from __future__ import annotations

import os

from .errors import BadInput

ADDRESS = "https://huggingface.co"
# The names under which huggingface_hub reads a token (1.33.0, utils/_auth.py).
TOKENS = ("HF_TOKEN", "HUGGING_FACE_HUB_TOKEN")


def strip_tokens() -> None:
    """Take the blanks around a token out of the environment: `$(cat token.txt)` keeps a Windows line end.

    Done once, before any library reads them, because an HTTP header may hold none, and errors would quote the header.
    """
    for name in TOKENS:
        value = os.environ.get(name)
        if value is not None and value != value.strip():
            os.environ[name] = value.strip()


def token() -> str | None:
    """The token in HF_TOKEN, None without one. Raises BadInput for what no HTTP header can hold."""
    value = os.environ.get("HF_TOKEN", "").strip()
    if not value:
        return None
    if not value.isascii() or not value.isprintable() or " " in value:
        raise BadInput(
            "HF_TOKEN holds a blank, a line break or a character beyond ASCII, which no token has",
            hint="copy the token again (huggingface.co/settings/tokens), without what stands around it",
        )
    return value


def endpoint() -> str:
    """Where the Hub is: HF_ENDPOINT, or the public one where that is empty. Raises BadInput for no web address."""
    given = os.environ.get("HF_ENDPOINT", "").strip().rstrip("/")
    if not given:
        return ADDRESS
    if not given.lower().startswith(("http://", "https://")):
        raise BadInput(f"HF_ENDPOINT is {given!r}, no http or https address", hint=f"for example: {ADDRESS}")
    return given
