"""The formats of rows by name: what `--format` takes, and what an error says was expected."""

from __future__ import annotations

FORMATS = ("messages", "sharegpt", "alpaca", "prompt-completion", "text")
EXPECTED = (
    '{"messages": [{"role", "content"}]}, {"conversations": [{"from", "value"}]}, {"instruction", "output"}, '
    '{"prompt", "completion"} or {"text"}'
)
