"""Validation by the standard library finds what jsonschema finds, at the same places and in the same words."""

from __future__ import annotations

import copy
import random
import re
import sys
from typing import Any

import pytest
from jsonschema.validators import Draft202012Validator

from unsloth_fft.core import schema, schema_keywords

NAMES = sorted(path.name.removesuffix(".schema.json") for path in schema.SCHEMA_DIR.glob("*.schema.json"))
FILES_EACH = 160  # 15 schemas: more than 2,000 files, a third of them valid
FEWER = {"evals": 20, "gpus": 60}  # which take jsonschema long
ODD = (
    *(None, True, False, 0, 1, -1, 2.0, 0.5, 1e308, 10**30, float("inf"), "", "x", "exact", "1.0", "a b", "x" * 300),
    *([], [1], [True], [[]], {}, {"a": 1}, [None, None], ["x", "x"]),
)


def found_here(value: Any, rules: Any) -> list[tuple]:
    return in_order((one.absolute_path, one.validator, one.message) for one in schema_keywords.violations(value, rules))


def found_by_jsonschema(value: Any, rules: Any) -> list[tuple]:
    errors = Draft202012Validator(rules).iter_errors(value)
    return in_order((tuple(one.absolute_path), one.validator, one.message) for one in errors)


def in_order(found: Any) -> list[tuple]:
    return sorted(found, key=lambda one: ([str(part) for part in one[0]], str(one[1]), one[2]))


class Maker:
    """Makes values that mostly match a schema."""

    def __init__(self, rules: Any, seed: int) -> None:
        self.root, self.random = rules, random.Random(seed)

    def make(self, rules: Any, depth: int = 0) -> Any:
        if not isinstance(rules, dict):
            return 1
        rules = self.merged(rules)
        if "const" in rules:
            return rules["const"]
        if "enum" in rules:
            return self.random.choice(rules["enum"])
        kinds = rules.get("type", "object" if "properties" in rules else "string")
        kind = self.random.choice(kinds) if isinstance(kinds, list) else kinds
        return getattr(self, f"{kind}_")(rules, depth)

    def merged(self, rules: dict) -> dict:
        """`rules` with references followed and one of each choice taken."""
        while "$ref" in rules:
            rest = {key: value for key, value in rules.items() if key != "$ref"}
            rules = {**self.root["$defs"][rules["$ref"].rpartition("/")[2]], **rest}
        for choice in ("oneOf", "anyOf"):
            if choice in rules:
                taken = self.merged(self.random.choice(rules[choice]))
                needed = [*rules.get("required", []), *taken.get("required", [])]
                rules = {**{key: value for key, value in rules.items() if key != choice}, **taken, "required": needed}
        return rules

    def object_(self, rules: dict, depth: int) -> dict:
        known, needed = rules.get("properties", {}), rules.get("required", [])
        made = {
            name: self.make(part, depth + 1)
            for name, part in known.items()
            if name in needed or (depth < 6 and self.random.random() < 0.6)
        }
        others = rules.get("additionalProperties")
        if isinstance(others, dict):
            names = rules.get("propertyNames", {"type": "string"})
            made |= {self.make(names): self.make(others, depth + 1) for _ in range(self.random.randint(1, 2))}
        return made

    def array_(self, rules: dict, depth: int) -> list:
        least = rules.get("minItems", 0)
        count = self.random.randint(least, min(rules.get("maxItems", least + 2), least + 2))
        return [self.make(rules.get("items", {}), depth + 1) for _ in range(count)]

    def string_(self, rules: dict, depth: int) -> str:
        if "pattern" in rules:
            return self.matching(rules["pattern"])
        return "word" + "x" * max(rules.get("minLength", 0) - 4, 0) + str(self.random.randint(0, 9))

    def matching(self, pattern: str) -> str:
        tries = (
            "a",
            "a-b",
            "abc",
            "1.0",
            "2026-12-01",
            "https://example.org/a",
            "A B",
            "0" * 64,
            "a/b",
            "1" * 40,
            "f" * 64,
            "12",
            "a.json",
            "files/a.md",
        )
        fitting = [text for text in tries if re.search(pattern, text)]
        return self.random.choice(fitting or list(tries))

    def number_(self, rules: dict, depth: int) -> float:
        least = rules.get("minimum", rules.get("exclusiveMinimum", 0))
        most = rules.get("maximum", rules.get("exclusiveMaximum", least + 10))
        edges = [
            edge for edge, open_at in ((least, "exclusiveMinimum"), (most, "exclusiveMaximum")) if open_at not in rules
        ]
        return self.random.choice([*edges, (least + most) / 2, least + (most - least) / 3])

    def integer_(self, rules: dict, depth: int) -> int:
        least = int(rules.get("minimum", rules.get("exclusiveMinimum", -1) + 1))
        return self.random.randint(least, int(rules.get("maximum", least + 5)))

    def boolean_(self, rules: dict, depth: int) -> bool:
        return self.random.random() < 0.5

    def null_(self, rules: dict, depth: int) -> None:
        return None


def places(value: Any, at: tuple = ()) -> list[tuple]:
    """The path of every part of `value`."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in parts for place in places(part, (*at, key)))]


def damaged(value: Any, chance: random.Random) -> Any:
    """`value` with one to three parts replaced, removed, added, doubled or misnamed."""
    value = copy.deepcopy(value)
    for _ in range(chance.randint(1, 3)):
        place = chance.choice(places(value))
        if not place:
            if isinstance(value, dict):
                value[chance.choice(["datset", "a", "zz"])] = chance.choice(ODD)
            continue
        inside = value
        for key in place[:-1]:
            inside = inside[key]
        change, key = chance.choice(("replace", "remove", "add", "double")), place[-1]
        if change == "remove":
            del inside[key]
        elif change == "add" and isinstance(inside, dict):
            inside[f"{key}x"] = inside.pop(key)
        elif change == "double" and isinstance(inside, list):
            inside.append(copy.deepcopy(inside[key]))
        else:
            inside[key] = copy.deepcopy(chance.choice(ODD))
    return value


@pytest.mark.parametrize("name", NAMES)
def test_the_verdict_and_the_place_are_jsonschemas(name: str) -> None:
    rules = schema.load(name)
    right, files = 0, FEWER.get(name, FILES_EACH)
    for number in range(files // 2):
        maker = Maker(rules, number)
        whole = maker.make(rules)
        right += not found_by_jsonschema(whole, rules)
        for value in (whole, damaged(whole, maker.random)):
            assert found_here(value, rules) == found_by_jsonschema(value, rules)
    assert right > files // 80, "too few of the files made are right for the comparison to mean much"


@pytest.mark.parametrize("name", NAMES)
def test_every_keyword_of_every_schema_is_known(name: str) -> None:
    def keywords(rules: Any) -> set[str]:
        if not isinstance(rules, dict):
            return set()
        inside = [
            *(part for key in ("properties", "$defs", "patternProperties") for part in rules.get(key, {}).values())
        ]
        inside += [
            rules[key]
            for key in ("items", "additionalProperties", "propertyNames", "not", "if", "then", "else")
            if key in rules
        ]
        inside += [part for key in ("allOf", "anyOf", "oneOf", "prefixItems") for part in rules.get(key, [])]
        return set(rules) | {key for part in inside for key in keywords(part)}

    assert keywords(schema.load(name)) <= schema_keywords.KNOWN


def test_a_keyword_that_is_not_known_is_not_passed_over() -> None:
    with pytest.raises(NotImplementedError, match="unevaluatedProperties"):
        list(schema_keywords.violations({}, {"unevaluatedProperties": False}))


UNUSED_YET = [
    *(
        {"maxLength": 0},
        {"maxLength": 2},
        {"maxItems": 0},
        {"maxProperties": 0},
        {"minProperties": 2},
        {"multipleOf": 2},
    ),
    *(
        {"uniqueItems": True},
        {"const": [1]},
        {"enum": [{"a": 1}, True]},
        {"items": False},
        {"type": ["integer", "null"]},
    ),
    *({"not": {"type": "object"}}, {"oneOf": [{"type": "integer"}, {"type": "number"}]}, False, True),
    *({"dependentRequired": {"a": ["b", "c"]}}, {"propertyNames": {"pattern": "^b"}}),
    {"prefixItems": [{"type": "string"}], "items": False},
    {"prefixItems": [{"type": "string"}], "items": {"type": "integer"}},
    {"patternProperties": {"^a": {"type": "null"}}, "additionalProperties": False},
    {"if": {"type": "string"}, "then": {"minLength": 1}, "else": {"type": "array"}},
]


@pytest.mark.parametrize("rules", UNUSED_YET)
def test_keywords_that_no_schema_uses_yet_hold_as_well(rules: Any) -> None:
    values = (
        *ODD,
        {"a": None, "b": 1},
        {"ab": 1, "c": None},
        ["x", 1, "y"],
        [True, 1],
        [{"a": 1}, {"a": True}],
        [{"a": 1}, {"a": 1.0}],
    )
    for value in values:
        assert found_here(value, rules) == found_by_jsonschema(value, rules), (rules, value)


def test_a_wrong_file_is_told_in_the_same_words_without_jsonschema(monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = damaged(Maker(schema.load("parameters"), 1).make(schema.load("parameters")), random.Random(5))
    by_jsonschema = schema.problems(wrong, "parameters")
    monkeypatch.setitem(sys.modules, "jsonschema.validators", None)
    assert schema.problems(wrong, "parameters") == by_jsonschema != []
