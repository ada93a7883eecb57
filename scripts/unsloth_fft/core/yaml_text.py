"""YAML text from plain values, so that rendering needs no YAML package. Written for YAML 1.1 readers (PyYAML)."""

from __future__ import annotations

import json
import re
from typing import Any

_PLAIN_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_-]*")


def dump(value: dict[str, Any]) -> str:
    """A mapping as block YAML, keys in the given order. Strings of several lines become literal blocks."""
    return "".join(_entry(key, item, "") for key, item in value.items())


def _entry(key: str, item: Any, indent: str) -> str:
    key = key if _PLAIN_KEY.fullmatch(key) else scalar(key)
    if isinstance(item, dict) and item:
        return f"{indent}{key}:\n" + "".join(_entry(name, inner, indent + "  ") for name, inner in item.items())
    if isinstance(item, list) and item:
        return f"{indent}{key}:\n" + "".join(_item(inner, indent + "  ") for inner in item)
    if isinstance(item, str) and "\n" in item:
        lines = "".join(f"{indent}  {line}".rstrip() + "\n" for line in item.rstrip("\n").split("\n"))
        return f"{indent}{key}: |\n{lines}"
    return f"{indent}{key}: {scalar(item)}\n"


def _item(item: Any, indent: str) -> str:
    if isinstance(item, dict):
        inside = "".join(_entry(key, value, indent + "  ") for key, value in item.items())
        return f"{indent}- {inside[len(indent) + 2 :]}"
    return f"{indent}- {scalar(item)}\n"


def scalar(value: Any) -> str:
    """One value; a float always has a point, without which YAML 1.1 would read 1e-05 as a string."""
    if isinstance(value, float):
        text = repr(value)
        if "e" in text and "." not in text:
            mantissa, exponent = text.split("e")
            text = f"{mantissa}.0e{exponent}"
        return text
    text = json.dumps(value, ensure_ascii=False)
    return text if text.isprintable() else "".join(map(_kept_or_escaped, text))


def _kept_or_escaped(character: str) -> str:
    """What a YAML 1.1 reader refuses, or takes for the end of a line (U+0085, U+2028), as YAML's own escape."""
    if character.isprintable():
        return character
    number = ord(character)
    return f"\\u{number:04x}" if number < 0x10000 else f"\\U{number:08x}"
