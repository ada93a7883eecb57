"""Whether a value surely matches a schema, found without jsonschema, whose import takes longer than a whole plan.

Only "yes" counts: whatever is not plainly right, or uses a keyword not listed here, is left to jsonschema, which also
finds the words for what is wrong (core/schema.py). A test holds every "yes" against jsonschema's.
"""

from __future__ import annotations

import operator
from collections.abc import Callable
from typing import Any

_SAYS_NOTHING = frozenset({"$schema", "$id", "title", "description", "unit", "default", "examples"})
_TYPES: dict[str, tuple[type, ...]] = {
    "object": (dict,), "array": (list,), "string": (str,), "boolean": (bool,), "null": (type(None),),
    "integer": (int,), "number": (int, float),
}  # fmt: skip

# What may be compared by ==: inside lists and objects Python would call True equal to 1.
_PLAIN = (str, int, float, bool, type(None))

_BOUNDS: dict[str, Callable[[Any, Any], bool]] = {
    "minimum": operator.ge, "maximum": operator.le, "exclusiveMinimum": operator.gt, "exclusiveMaximum": operator.lt
}  # fmt: skip


def surely_valid(value: Any, schema: dict[str, Any] | bool) -> bool:
    """True only where `value` matches `schema`; False where it does not, or where that is not plain to see."""
    if not isinstance(schema, dict):
        return schema is True
    return all(_surely(keyword, wanted, value, schema) for keyword, wanted in schema.items())


def _surely(keyword: str, wanted: Any, value: Any, schema: dict[str, Any]) -> bool:
    if keyword in _SAYS_NOTHING:
        return True
    if keyword == "properties":
        return "additionalProperties" in schema  # which then looks at each of them
    if keyword == "type":
        return any(_is(value, name) for name in ([wanted] if isinstance(wanted, str) else wanted))
    if keyword in ("enum", "const"):
        allowed = wanted if keyword == "enum" else [wanted]
        return type(value) in _PLAIN and any(type(value) is type(one) and value == one for one in allowed)
    if keyword in ("required", "additionalProperties", "propertyNames"):
        return value is None or (isinstance(value, dict) and _of_object(keyword, wanted, value, schema))
    return _bounded(keyword, wanted, value)


def _of_object(keyword: str, wanted: Any, value: dict[Any, Any], schema: dict[str, Any]) -> bool:
    """Null beside these is the type's affair, as beside the bounds below."""
    if keyword == "required":
        return all(name in value for name in wanted)
    if keyword == "propertyNames":
        return all(surely_valid(name, wanted) for name in value)
    return all(_property(name, part, wanted, schema) for name, part in value.items())


def _is(value: Any, name: str) -> bool:
    """A bool is no number, although Python counts it as one."""
    return type(value) in _TYPES.get(name, ())


def _property(name: Any, part: Any, others: Any, schema: dict[str, Any]) -> bool:
    known = schema.get("properties", {})
    if name in known:
        return surely_valid(part, known[name])
    return isinstance(others, dict) and surely_valid(part, others)


def _bounded(keyword: str, wanted: Any, value: Any) -> bool:
    """Bounds hold for values of their kind only: null beside a number with a minimum is the type's affair."""
    if keyword in _BOUNDS:
        return value is None or (type(value) in (int, float) and bool(_BOUNDS[keyword](value, wanted)))
    if keyword == "minLength":
        return value is None or (isinstance(value, str) and len(value) >= wanted)
    if keyword in ("minItems", "maxItems"):
        if not isinstance(value, list):
            return value is None
        return bool(len(value) >= wanted if keyword == "minItems" else len(value) <= wanted)
    if keyword == "items":
        return value is None or (isinstance(value, list) and all(surely_valid(one, wanted) for one in value))
    return False
