"""What violates a JSON Schema, by the standard library alone: a reader of the keywords that schemas/*.schema.json use.

The schemas stay the only rules: they are read, nothing is generated from them, so that a checkout and the ZIP are one.
jsonschema is the reference: where it is installed it has the last word (core/schema.py), and a property test holds both
to the same violations at the same places. A keyword that is not known here raises: no rule is passed over in silence.
"""

from __future__ import annotations

import operator
import re
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

Path = tuple[str | int, ...]
Schema = dict[str, Any] | bool

# Beside the value's shape: words for a reader. `format` is one of them, as jsonschema takes it by default.
SAYS_NOTHING = frozenset(
    {"$schema", "$id", "$comment", "$defs", "title", "description", "unit", "default", "examples", "format"}
)


class Violation(NamedTuple):
    """What is wrong at `absolute_path`. The fields are named as those of jsonschema's errors, which are read alike."""

    absolute_path: Path
    validator: str | None
    message: str
    instance: Any
    schema: Schema


def violations(value: Any, schema: Schema) -> Iterator[Violation]:
    """Every violation of `schema` (JSON Schema 2020-12) in `value`, in the order of the schema's keywords."""
    return _Reader(schema).read(value, schema, ())


class _Reader:
    """`root` is the schema that `$ref` points into."""

    def __init__(self, root: Schema) -> None:
        self._root = root

    def read(self, value: Any, schema: Schema, path: Path) -> Iterator[Violation]:
        if isinstance(schema, bool):
            if not schema:
                yield Violation(path, None, f"False schema does not allow {value!r}", value, schema)
            return
        for keyword, wanted in schema.items():
            if keyword in SAYS_NOTHING:
                continue
            if keyword in _PARTS:
                yield from _PARTS[keyword](self, wanted, value, schema, path)
            elif keyword in _CHECKS:
                message = _CHECKS[keyword](wanted, value, schema)
                if message:
                    yield Violation(path, keyword, message, value, schema)
            else:
                raise NotImplementedError(f"the schema keyword {keyword!r} is not known to core/schema_keywords.py")

    def holds(self, value: Any, schema: Schema) -> bool:
        return next(self.read(value, schema, ()), None) is None

    def target(self, reference: str) -> Schema:
        """The schema that a `$ref` inside this document (#/...) names."""
        found: Any = self._root
        for part in reference.removeprefix("#").split("/")[1:]:
            found = found[part.replace("~1", "/").replace("~0", "~")]
        target: Schema = found
        return target


# Keywords that say something of one value: the words for what is wrong, or None.


def _type(wanted: str | list[str], value: Any, _: Any) -> str | None:
    names = [wanted] if isinstance(wanted, str) else wanted
    if any(_TYPES[name](value) for name in names):
        return None
    return f"{value!r} is not of type {', '.join(map(repr, names))}"


def _enum(wanted: list[Any], value: Any, _: Any) -> str | None:
    return None if any(_same(value, one) for one in wanted) else f"{value!r} is not one of {wanted!r}"


def _const(wanted: Any, value: Any, _: Any) -> str | None:
    return None if _same(value, wanted) else f"{wanted!r} was expected"


def _pattern(wanted: str, value: Any, _: Any) -> str | None:
    if not isinstance(value, str) or re.search(wanted, value):
        return None
    return f"{value!r} does not match {wanted!r}"


def _unique(wanted: bool, value: Any, _: Any) -> str | None:
    if not wanted or not isinstance(value, list) or _all_differ(value):
        return None
    return f"{value!r} has non-unique elements"


def _multiple(wanted: float, value: Any, _: Any) -> str | None:
    return f"{value!r} is not a multiple of {wanted}" if _is_number(value) and value % wanted else None


def _bound(breaks: Callable[[Any, Any], bool], words: str) -> Callable[[Any, Any, Any], str | None]:
    def check(wanted: float, value: Any, _: Any) -> str | None:
        return f"{value!r} is {words} of {wanted!r}" if _is_number(value) and breaks(value, wanted) else None

    return check


def _size(
    kind: type[str] | type[list[Any]] | type[dict[str, Any]],
    breaks: Callable[[int, int], bool],
    at_edge: tuple[int, str],
    words: str,
) -> Callable[..., str | None]:
    """A check of len(value); `at_edge` is (limit, words) for the limit that reads better in words of its own."""

    def check(wanted: int, value: Any, _: Any) -> str | None:
        if not isinstance(value, kind) or not breaks(len(value), wanted):
            return None
        return f"{value!r} {at_edge[1] if wanted == at_edge[0] else words}"

    return check


# Keywords that lead to parts of the value, to names in it, or to other schemas.


def _properties(reader: _Reader, wanted: dict[str, Schema], value: Any, _: Any, path: Path) -> Iterator[Violation]:
    if isinstance(value, dict):
        for name, part in wanted.items():
            if name in value:
                yield from reader.read(value[name], part, (*path, name))


def _pattern_properties(
    reader: _Reader, wanted: dict[str, Schema], value: Any, _: Any, path: Path
) -> Iterator[Violation]:
    if isinstance(value, dict):
        for pattern, part in wanted.items():
            for name in value:
                if re.search(pattern, name):
                    yield from reader.read(value[name], part, (*path, name))


def _additional(reader: _Reader, wanted: Schema, value: Any, schema: dict[str, Any], path: Path) -> Iterator[Violation]:
    if not isinstance(value, dict):
        return
    known, patterns = schema.get("properties", {}), schema.get("patternProperties", {})
    extra = [name for name in value if name not in known and not any(re.search(one, name) for one in patterns)]
    if wanted is False and extra:
        listed = ", ".join(map(repr, sorted(extra, key=str)))
        if patterns:
            words = f"{listed} {'does' if len(extra) == 1 else 'do'} not match any of the regexes: "
            words += ", ".join(map(repr, sorted(patterns)))
        else:
            words = (
                f"Additional properties are not allowed ({listed} {'was' if len(extra) == 1 else 'were'} unexpected)"
            )
        yield Violation(path, "additionalProperties", words, value, schema)
    elif isinstance(wanted, dict):
        for name in extra:
            yield from reader.read(value[name], wanted, (*path, name))


def _names(reader: _Reader, wanted: Schema, value: Any, _: Any, path: Path) -> Iterator[Violation]:
    if isinstance(value, dict):
        for name in value:
            yield from reader.read(name, wanted, path)


def _required(_: _Reader, wanted: list[str], value: Any, schema: Any, path: Path) -> Iterator[Violation]:
    if isinstance(value, dict):
        for name in wanted:
            if name not in value:
                yield Violation(path, "required", f"{name!r} is a required property", value, schema)


def _dependent(_: _Reader, wanted: dict[str, list[str]], value: Any, schema: Any, path: Path) -> Iterator[Violation]:
    if isinstance(value, dict):
        for name, needs in wanted.items():
            for need in needs:
                if name in value and need not in value:
                    words = f"{need!r} is a dependency of {name!r}"
                    yield Violation(path, "dependentRequired", words, value, schema)


def _items(reader: _Reader, wanted: Schema, value: Any, schema: dict[str, Any], path: Path) -> Iterator[Violation]:
    if not isinstance(value, list):
        return
    begun = len(schema.get("prefixItems", ()))
    extra = value[begun:]
    if wanted is False and extra:
        words = f"Expected at most {begun} item{'' if begun == 1 else 's'} but found {len(extra)} extra: "
        yield Violation(path, "items", words + repr(extra[0] if len(extra) == 1 else extra), value, schema)
        return
    for place, part in enumerate(extra, start=begun):
        yield from reader.read(part, wanted, (*path, place))


def _prefix(reader: _Reader, wanted: list[Schema], value: Any, _: Any, path: Path) -> Iterator[Violation]:
    if isinstance(value, list):
        for place, (part, schema) in enumerate(zip(value, wanted, strict=False)):
            yield from reader.read(part, schema, (*path, place))


def _reference(reader: _Reader, wanted: str, value: Any, _: Any, path: Path) -> Iterator[Violation]:
    yield from reader.read(value, reader.target(wanted), path)


def _all_of(reader: _Reader, wanted: list[Schema], value: Any, _: Any, path: Path) -> Iterator[Violation]:
    for schema in wanted:
        yield from reader.read(value, schema, path)


def _any_of(reader: _Reader, wanted: list[Schema], value: Any, schema: Any, path: Path) -> Iterator[Violation]:
    if not any(reader.holds(value, one) for one in wanted):
        yield Violation(path, "anyOf", f"{value!r} is not valid under any of the given schemas", value, schema)


def _one_of(reader: _Reader, wanted: list[Schema], value: Any, schema: Any, path: Path) -> Iterator[Violation]:
    met = [one for one in wanted if reader.holds(value, one)]
    if not met:
        yield Violation(path, "oneOf", f"{value!r} is not valid under any of the given schemas", value, schema)
    elif len(met) > 1:
        words = f"{value!r} is valid under each of {', '.join(map(repr, [*met[1:], met[0]]))}"
        yield Violation(path, "oneOf", words, value, schema)


def _not(reader: _Reader, wanted: Schema, value: Any, schema: Any, path: Path) -> Iterator[Violation]:
    if reader.holds(value, wanted):
        yield Violation(path, "not", f"{value!r} should not be valid under {wanted!r}", value, schema)


def _if(reader: _Reader, wanted: Schema, value: Any, schema: dict[str, Any], path: Path) -> Iterator[Violation]:
    branch = "then" if reader.holds(value, wanted) else "else"
    if branch in schema:
        yield from reader.read(value, schema[branch], path)


def _by_if(*_: Any) -> Iterator[Violation]:
    return iter(())


def _is_number(value: Any) -> bool:
    """A bool is no number, although Python counts it as one."""
    return isinstance(value, (int, float)) and not isinstance(value, bool)


def _is_integer(value: Any) -> bool:
    return _is_number(value) and (isinstance(value, int) or value.is_integer())


def _same(one: Any, two: Any) -> bool:
    """Equality of JSON values: true is not 1, inside lists and objects neither."""
    if isinstance(one, list) and isinstance(two, list):
        return len(one) == len(two) and all(map(_same, one, two))
    if isinstance(one, dict) and isinstance(two, dict):
        return one.keys() == two.keys() and all(_same(one[key], two[key]) for key in one)
    return isinstance(one, bool) is isinstance(two, bool) and bool(one == two)


def _all_differ(values: list[Any]) -> bool:
    if all(isinstance(value, str) for value in values):
        return len(set(values)) == len(values)
    return not any(_same(one, two) for place, one in enumerate(values) for two in values[:place])


_TYPES: dict[str, Callable[[Any], bool]] = {
    "object": lambda value: isinstance(value, dict),
    "array": lambda value: isinstance(value, list),
    "string": lambda value: isinstance(value, str),
    "boolean": lambda value: isinstance(value, bool),
    "null": lambda value: value is None,
    "integer": _is_integer,
    "number": _is_number,
}
_CHECKS: dict[str, Callable[[Any, Any, Any], str | None]] = {
    "type": _type,
    "enum": _enum,
    "const": _const,
    "pattern": _pattern,
    "uniqueItems": _unique,
    "multipleOf": _multiple,
    "minimum": _bound(operator.lt, "less than the minimum"),
    "maximum": _bound(operator.gt, "greater than the maximum"),
    "exclusiveMinimum": _bound(operator.le, "less than or equal to the minimum"),
    "exclusiveMaximum": _bound(operator.ge, "greater than or equal to the maximum"),
    "minLength": _size(str, operator.lt, (1, "should be non-empty"), "is too short"),
    "maxLength": _size(str, operator.gt, (0, "is expected to be empty"), "is too long"),
    "minItems": _size(list, operator.lt, (1, "should be non-empty"), "is too short"),
    "maxItems": _size(list, operator.gt, (0, "is expected to be empty"), "is too long"),
    "minProperties": _size(dict, operator.lt, (1, "should be non-empty"), "does not have enough properties"),
    "maxProperties": _size(dict, operator.gt, (0, "is expected to be empty"), "has too many properties"),
}
_PARTS: dict[str, Callable[..., Iterator[Violation]]] = {
    "properties": _properties,
    "patternProperties": _pattern_properties,
    "additionalProperties": _additional,
    "propertyNames": _names,
    "required": _required,
    "dependentRequired": _dependent,
    "items": _items,
    "prefixItems": _prefix,
    "$ref": _reference,
    "allOf": _all_of,
    "anyOf": _any_of,
    "oneOf": _one_of,
    "not": _not,
    "if": _if,
    "then": _by_if,
    "else": _by_if,
}
KNOWN = SAYS_NOTHING | set(_CHECKS) | set(_PARTS)
