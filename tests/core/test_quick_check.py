"""The quick check may say "no" to anything, but a "yes" is jsonschema's yes, and plans are said yes to."""

from __future__ import annotations

import copy
import functools
import subprocess
import sys

from hypothesis import given, settings
from hypothesis import strategies as st
from jsonschema.validators import Draft202012Validator

from conftest import SCRIPTS
from plans import plan, request
from unsloth_fft.core import quick_check, schema
from unsloth_fft.planning.request import Amount

NAMES = sorted(path.name.removesuffix(".schema.json") for path in schema.SCHEMA_DIR.glob("*.schema.json"))
ODD = st.one_of(
    st.none(), st.booleans(), st.integers(-2, 3), st.floats(allow_nan=True, width=32), st.text(max_size=4),
    st.sampled_from(["", "exact", "float32", "1.0", "nan", [], {}, [None], {"a": 1}, 1.0, 10**400, "x" * 300]),
)  # fmt: skip


@functools.cache
def plan_of_8b() -> dict:
    return plan(request(amount=Amount(max_steps=9))).to_json()


def places(value: object, at: tuple = ()) -> list[tuple]:
    """The path of every part of `value`."""
    parts = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    return [at, *(place for key, part in parts for place in places(part, (*at, key)))]


def agrees(value: object, name: str) -> bool:
    found = schema.load(name)
    return not quick_check.surely_valid(value, found) or Draft202012Validator(found).is_valid(value)


@settings(max_examples=400, deadline=None)
@given(
    st.deferred(lambda: st.sampled_from(places(plan_of_8b())[1:])), ODD, st.sampled_from(["replace", "add", "remove"])
)
def test_a_yes_is_what_jsonschema_says_too(place: tuple, odd: object, change: str) -> None:
    value = copy.deepcopy(plan_of_8b())
    inside = value
    for key in place[:-1]:
        inside = inside[key]
    if change == "remove":
        del inside[place[-1]]
    elif change == "add" and isinstance(inside, dict):
        inside[str(odd)] = odd
    else:
        inside[place[-1]] = odd
    assert agrees(value, "parameters")


@settings(max_examples=200, deadline=None)
@given(
    st.sampled_from(NAMES),
    st.recursive(ODD, lambda part: st.lists(part, max_size=3) | st.dictionaries(st.text(), part)),
)
def test_a_yes_to_anything_under_any_schema_is_jsonschemas(name: str, value: object) -> None:
    assert agrees(value, name)


def test_a_plan_is_checked_without_importing_jsonschema() -> None:
    assert quick_check.surely_valid(plan_of_8b(), schema.load("parameters"))
    probe = (
        f"import sys; sys.path.insert(0, {str(SCRIPTS)!r}); from unsloth_fft.commands import plan;"
        " code = plan.main(['--model', 'meta-llama/Llama-3.1-8B', '--gpu', 'H200', '--max-steps', '9']);"
        " assert code == 0 and 'jsonschema' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", probe], check=True, capture_output=True)


def test_inside_lists_and_objects_true_is_not_one() -> None:
    """Python calls [True] equal to [1]; JSON Schema does not."""
    for wanted, value in (([1], [True]), ({"a": 1}, {"a": True})):
        assert not quick_check.surely_valid(value, {"const": wanted})
        assert not quick_check.surely_valid(value, {"enum": [wanted]})


def test_schemas_that_are_true_or_false() -> None:
    assert quick_check.surely_valid([1], {"items": True}) and not quick_check.surely_valid([1], {"items": False})
