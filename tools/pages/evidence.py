"""The evidence ledger: claims, the numbers pages may quote under each, and the rows those come from."""

from __future__ import annotations

import ast
import functools
import json
import math
import operator
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from unsloth_fft.core import schema
from unsloth_fft.core.errors import BadInput
from unsloth_fft.core.files import BUNDLE_ROOT, read_json

LEDGER = BUNDLE_ROOT / "references" / "evidence.json"
MEASUREMENTS = BUNDLE_ROOT / "references" / "measurements"

Row = dict[str, Any]


@dataclass(frozen=True)
class Source:
    """A place where the claim was read: a web page (`url`) or a file of an installed package."""

    source: str
    quote: str
    read: str
    url: str = ""
    package: str = ""
    version: str = ""
    file: str = ""

    @property
    def place(self) -> str:
        """Where the quote stands: an address, or package, version and file."""
        return self.url or f"{self.package} {self.version}, {self.file}"


@dataclass(frozen=True)
class Basis:
    """What the verdict rests on; `rows` are ids in references/measurements."""

    kind: str
    rows: tuple[str, ...] = ()
    command: str = ""
    formula: str = ""


@dataclass(frozen=True)
class Number:
    """A number as printed: `expression` computes it, or it is `cited` from a quote, or neither and untraceable."""

    text: str
    unit: str
    expression: str = ""
    cited: bool = False


@dataclass(frozen=True)
class Claim:
    """One entry of the ledger, as schemas/evidence.schema.json describes it."""

    id: str
    topic: str
    claim: str
    said_by: tuple[Source, ...]
    verdict: str
    basis: Basis
    numbers: tuple[Number, ...]
    advice: str
    limits: str = ""


def load(path: Path = LEDGER) -> tuple[Claim, ...]:
    """The ledger at `path`, validated. Raises BadInput where it breaks its schema or repeats an id."""
    value = read_json(path, "evidence ledger")
    schema.check(value, "evidence", str(path))
    claims = tuple(_claim(entry) for entry in value["claims"])
    ids = [claim.id for claim in claims]
    repeated = sorted({name for name in ids if ids.count(name) > 1})
    if repeated:
        raise BadInput(f"{path} repeats the ids {', '.join(repeated)}", hint="give each claim an id of its own")
    return claims


@functools.cache
def claims_by_id() -> dict[str, Claim]:
    """The bundle's own ledger, by id."""
    return {claim.id: claim for claim in load()}


def evidence_ids() -> set[str]:
    """Every id that a page may refer to."""
    return set(claims_by_id())


def quoted_numbers(claim_id: str) -> set[str]:
    """The numbers, as printed and without unit, that a page may quote under `claim_id`.

    Raises BadInput for an id that the ledger does not have.
    """
    if claim_id not in claims_by_id():
        raise BadInput(f"no claim '{claim_id}' in {LEDGER.name}", hint="see references/evidence.md for the ids")
    return {number.text for number in claims_by_id()[claim_id].numbers}


@functools.cache
def measured_rows() -> dict[str, Row]:
    """Every training run under references/measurements by id. Raises BadInput for a broken or repeated row."""
    rows: dict[str, Row] = {}
    for path in sorted(MEASUREMENTS.glob("*.jsonl")):
        lines = path.read_text(encoding="utf-8").splitlines()
        # Training runs have ids; other records there (survival, traces, packing) have shapes and readers of their own.
        if not lines or "id" not in json.loads(lines[0]):
            continue
        for number, line in enumerate(lines, start=1):
            row = json.loads(line)
            schema.check(row, "measurement", f"{path.name} line {number}")
            if row["id"] in rows:
                raise BadInput(f"{path.name} line {number} repeats the id {row['id']}", hint="number it anew")
            rows[row["id"]] = row
    return rows


def rows_of(claim: Claim) -> list[Row]:
    """The rows the claim rests on, in its order. Raises BadInput for an id that no file has."""
    known = measured_rows()
    missing = [name for name in claim.basis.rows if name not in known]
    if missing:
        raise BadInput(
            f"claim '{claim.id}' rests on rows that do not exist: {', '.join(missing)}",
            hint="see references/measurements/",
        )
    return [known[name] for name in claim.basis.rows]


def value_of(text: str) -> float:
    """The value of a number as printed: "8,110" is 8110.0."""
    return float(text.replace(",", ""))


def half_unit(text: str) -> float:
    """Half a unit of the last printed place: how far a correctly rounded number can be from its value."""
    digits, _, exponent = text.replace(",", "").partition("e")
    decimals = len(digits.partition(".")[2])
    return 0.5 * 10.0 ** (int(exponent or 0) - decimals)


def agrees(number: Number, rows: Sequence[Row]) -> bool:
    """Whether the printed number is what its expression gives over `rows`, rounded to the printed place."""
    return abs(evaluate(number.expression, rows) - value_of(number.text)) <= half_unit(number.text) * (1 + 1e-9)


def evaluate(expression: str, rows: Sequence[Row]) -> float:
    """Arithmetic over `rows[i].field`, with mean(list, last_n) and normal_share(x); nothing else is allowed.

    Raises BadInput for anything else, so that a ledger can hold formulas and not programs.
    """
    try:
        return float(_value(ast.parse(expression, mode="eval").body, rows))
    except (SyntaxError, ValueError, KeyError, IndexError, TypeError, ZeroDivisionError) as error:
        raise BadInput(
            f"cannot evaluate '{expression}': {type(error).__name__} {error}",
            hint="an expression is numbers, rows[i].field, + - * / **, mean(list, last_n), normal_share(x)",
        ) from None


def normal_share(x: float) -> float:
    """Share of a standard normal distribution with magnitude below `x`."""
    return math.erf(x / math.sqrt(2))


def _mean(values: list[float], last: float) -> float:
    tail = values[-int(last) :]
    return sum(tail) / len(tail)


_OPERATORS: dict[type[ast.operator], Callable[[Any, Any], Any]] = {
    ast.Add: operator.add,
    ast.Sub: operator.sub,
    ast.Mult: operator.mul,
    ast.Div: operator.truediv,
    ast.Pow: operator.pow,
}
_FUNCTIONS: dict[str, Callable[..., float]] = {"mean": _mean, "normal_share": normal_share}


def _value(node: ast.expr, rows: Sequence[Row]) -> Any:
    match node:
        case ast.Constant(value=int() | float() as number):
            return number
        case ast.UnaryOp(op=ast.USub(), operand=operand):
            return -_value(operand, rows)
        case ast.BinOp(left=left, op=op, right=right) if type(op) in _OPERATORS:
            return _OPERATORS[type(op)](_value(left, rows), _value(right, rows))
        case ast.Name(id="rows"):
            return rows
        case ast.Attribute(value=ast.Subscript() as row, attr=field):
            return _value(row, rows)[field]
        case ast.Subscript(value=inner, slice=key):
            return _value(inner, rows)[_key(key)]
        case ast.Call(func=ast.Name(id=name), args=args, keywords=[]) if name in _FUNCTIONS:
            return _FUNCTIONS[name](*(_value(argument, rows) for argument in args))
    raise TypeError(f"'{ast.unparse(node)}' is not allowed")


def _key(node: ast.expr) -> int | str:
    key = ast.literal_eval(node)
    if not isinstance(key, int | str):
        raise TypeError(f"'{key}' is not a position or a name")
    return key


def _claim(entry: dict[str, Any]) -> Claim:
    basis = entry["basis"]
    return Claim(
        id=entry["id"],
        topic=entry["topic"],
        claim=entry["claim"],
        said_by=tuple(Source(**source) for source in entry["said_by"]),
        verdict=entry["verdict"],
        basis=Basis(basis["kind"], tuple(basis["rows"]), basis.get("command", ""), basis.get("formula", "")),
        numbers=tuple(Number(n["text"], n["unit"], n.get("from", ""), n.get("cited", False)) for n in entry["numbers"]),
        advice=entry["advice"],
        limits=entry.get("limits", ""),
    )
