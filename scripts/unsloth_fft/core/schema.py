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


MOST_SHOWN = 50  # violations that one error names


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
        more = f"; and {len(found) - MOST_SHOWN} more" if len(found) > MOST_SHOWN else ""
        raise BadInput(
            f"{where} does not match schemas/{name}.schema.json: {'; '.join(found[:MOST_SHOWN])}{more}",
            hint="; ".join([*_remedies(value, name)[:MOST_SHOWN], f"see schemas/{name}.schema.json"]),
        )


def _remedies(value: Any, name: str) -> list[str]:
    """What to do about each violation, in their order, each remedy once."""
    return list(dict.fromkeys(remedy for error in _errors(value, name) for remedy in _remedies_of(error)))


def _remedies_of(error: Any) -> Iterator[str]:
    place = "/".join(str(part) for part in error.absolute_path)
    inside = f" (in {place})" if place else ""
    for key, close in _unknown_keys(error):
        if not key.isprintable():
            continue
        if close is not None and close not in error.instance:
            yield f"rename {key} to {close}{inside}"
        else:
            yield f"remove {key}{inside}"
    asked: Any = error.schema.get(error.validator) if isinstance(error.schema, dict) else None
    if error.validator == "type":
        wanted = asked if isinstance(asked, list) else [asked]
        yield f"make {place or 'the top level'} {' or '.join(_TYPES[str(kind)] for kind in wanted)}"
    elif error.validator == "enum":
        choices = ", ".join("null" if choice is None else str(choice) for choice in asked or ())
        yield f"set {place} to one of: {choices}"
    elif error.validator == "required" and isinstance(error.instance, dict):
        supplied = {close for _, close in _misspelt(error.instance, error.schema)}
        missing = [key for key in asked or () if key not in error.instance and key not in supplied]
        if missing:
            yield f"add {', '.join(missing)}{inside}"
    elif error.validator in _BOUNDS:
        yield f"set {place} {_BOUNDS[error.validator]} {asked}"


_TYPES = {
    "integer": "a whole number", "number": "a number", "string": "a text in quotes", "boolean": "true or false",
    "array": "a list", "object": "an object", "null": "null",
}  # fmt: skip
_BOUNDS = {
    "minimum": "to at least", "maximum": "to at most", "exclusiveMinimum": "above", "exclusiveMaximum": "below",
}  # fmt: skip


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
        yield from _misspelt(error.instance, error.schema)


def _misspelt(instance: dict[str, Any], rules: Any) -> Iterator[tuple[str, str | None]]:
    """The keys of `instance` that a closed object's `rules` do not know, each with the nearest that they do."""
    if isinstance(rules, dict) and rules.get("additionalProperties") is False:
        known = rules.get("properties", {})
        for key in sorted(set(instance) - set(known)):
            yield key, _nearest(key, list(known))


def _shortened(message: str) -> str:
    """A message quotes the value, which may be a whole file; both its ends say what is wrong."""
    return message if len(message) <= 300 else f"{message[:140]} ... {message[-140:]}"


def _nearest(key: str, known: list[str]) -> str | None:
    import difflib  # only a misspelt key needs it

    close = difflib.get_close_matches(key, known, n=1)
    return close[0] if close else None
