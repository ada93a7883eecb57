"""What may be said of text from outside: no secret in it, and nothing that would break a line or move a terminal."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator

from .control import escaped

HIDDEN = "***"
# Variables that name a secret by how they end; HF_TOKEN_PATH is a path, and HF_HUB_DISABLE_IMPLICIT_TOKEN is 1.
SECRET_ENDINGS = ("TOKEN", "SECRET", "PASSWORD", "PASSWD", "APIKEY", "API_KEY", "ACCESS_KEY", "SECRET_KEY")
SHORTEST_SECRET = 8  # characters: a shorter value may be an ordinary word
# Secrets by their form, wherever they came from: a Hub token, an HTTP header, and the two places in a URL.
SECRET_FORMS = (
    (r"\bhf_[A-Za-z0-9]{16,}", HIDDEN),
    (r"(?i)\b(bearer)\s+[\w.~+/=-]{8,}", rf"\1 {HIDDEN}"),
    (r"(?<=://)[^/\s@'\"]+@", f"{HIDDEN}@"),
    (r"(?i)(?<=[?&])([\w-]*(?:token|key|secret|password|signature))=[^&\s'\"]+", rf"\1={HIDDEN}"),
)


def without_secrets(text: str) -> str:
    """`text` with every secret of the environment, and whatever looks like a token, replaced by ***."""
    for secret in sorted(set(_secrets()), key=len, reverse=True):
        text = text.replace(secret, HIDDEN)
    for form, replacement in SECRET_FORMS:
        text = re.sub(form, replacement, text)
    return text


def plain_line(text: str) -> str:
    """`text` as one line that can be shown anywhere: without secrets, control characters as escapes."""
    return escaped(without_secrets(text))


def _secrets() -> Iterator[str]:
    """Each word of each secret variable: a line end inside one is often all that is wrong with it."""
    for name, value in os.environ.items():
        if name.upper().endswith(SECRET_ENDINGS):
            yield from (word for word in value.split() if len(word) >= SHORTEST_SECRET)
