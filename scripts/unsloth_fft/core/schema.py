"""Validation against schemas/*.schema.json, the single source of truth for every JSON that is written.

The standard library is enough (schema_keywords.py). Where jsonschema is installed, it has the last word on a value in
which something was found wrong; on one that is right it is not even imported, which would take longer than a plan.
"""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from typing import Any

from . import schema_keywords
from .errors import BadInput
from .files import SCHEMA_DIR

SCHEMA_VERSION = "1.0"


@functools.cache
def load(name: str) -> dict[str, Any]:
    """The schema called `name`, for example "parameters"."""
    with (SCHEMA_DIR / f"{name}.schema.json").open(encoding="utf-8") as file:
        schema: dict[str, Any] = json.load(file)
    return schema


def problems(value: Any, name: str) -> list[str]:
    """Every violation of schema `name`, one sentence each, in document order; empty when valid."""
    return [sentence for error in _errors(value, name) for sentence in _sentences(error)]


def _errors(value: Any, name: str) -> list[Any]:
    """The violations of schema `name`: jsonschema's errors where it is installed, else our own, which read alike."""
    rules = load(name)
    found: list[Any] = list(schema_keywords.violations(value, rules))
    if found:
        try:
            from jsonschema.validators import Draft202012Validator
        except ImportError:
            pass
        else:
            found = list(Draft202012Validator(rules).iter_errors(value))
    return sorted(found, key=lambda error: [str(part) for part in error.absolute_path])


def check(value: Any, name: str, where: str) -> None:
    """Raise BadInput naming the first violations of schema `name` in `value`, which came from `where`."""
    found = problems(value, name)
    if found:
        shown = "; ".join(found[:3]) + (f"; and {len(found) - 3} more" if len(found) > 3 else "")
        renames = list(_renames(value, name))[:3]
        raise BadInput(
            f"{where} does not match schemas/{name}.schema.json: {shown}",
            hint="; ".join([*renames, f"see schemas/{name}.schema.json"]),
        )


def _renames(value: Any, name: str) -> Iterator[str]:
    """What to rename: each unknown key of `value` that is close to an allowed one which is not there yet."""
    for error in _errors(value, name):
        place = "/".join(str(part) for part in error.absolute_path)
        for key, close in _unknown_keys(error):
            if close is not None and close not in error.instance and key.isprintable():
                yield f"rename {key} to {close}" + (f" (in {place})" if place else "")


def _sentences(error: Any) -> Iterator[str]:
    place = "/".join(str(part) for part in error.absolute_path) or "the top level"
    unknown = list(_unknown_keys(error))
    for key, close in unknown:
        yield f"{place}: unknown key '{key}'" + (f" (did you mean '{close}'?)" if close else "")
    if not unknown:
        yield f"{place}: {_shortened(error.message)}"


def _unknown_keys(error: Any) -> Iterator[tuple[str, str | None]]:
    """Each key that the schema does not know, and the allowed key nearest to it, if one is near."""
    if error.validator == "additionalProperties" and isinstance(error.instance, dict):
        known = error.schema.get("properties", {})
        for key in sorted(set(error.instance) - set(known)):
            yield key, _nearest(key, list(known))


def _shortened(message: str) -> str:
    """A message quotes the value, which may be a whole file; both its ends say what is wrong."""
    return message if len(message) <= 300 else f"{message[:140]} ... {message[-140:]}"


def _nearest(key: str, known: list[str]) -> str | None:
    import difflib  # only a misspelt key needs it

    close = difflib.get_close_matches(key, known, n=1)
    return close[0] if close else None
