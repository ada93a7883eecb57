"""Rows that are elsewhere, as a user describes them: how many, and about how many tokens each.

`600` is a mean, `600+-200` a mean and its standard deviation, `p50=400,p95=1800` percentiles; `max=4000` bounds each.
Lengths are taken to be spread like a log-normal, which text lengths about are; nothing was read.
"""

from __future__ import annotations

import math
import re
from dataclasses import dataclass
from statistics import NormalDist

from ..core.errors import BadInput
from .data_facts import DataFacts

# The standard deviation, as a share of the mean, where none is given: a judgement. Rows all alike would be given +-0.
USUAL_SPREAD = 0.5
# As many lengths stand for all rows, however many there are.
SAMPLE = 2000
MOST_SIGMAS = 3.0
_NUMBER = r"\d+(?:\.\d+)?(?:[eE]\d+)?"
_MEAN = re.compile(rf"({_NUMBER})(?:\s*(?:\+-|±|\+/-)\s*({_NUMBER}))?")
_POINT = re.compile(rf"(p{_NUMBER}|max|mean)=({_NUMBER})")
EXPECTED = "a mean (600), a mean and its spread (600+-200), or percentiles (p50=400,p95=1800,max=4000)"


@dataclass(frozen=True)
class Lengths:
    """Tokens a row. `points` are (percentile, tokens); without any, mean and standard deviation say it all."""

    mean: float | None
    deviation: float | None = None
    points: tuple[tuple[float, float], ...] = ()
    longest: float = math.inf

    @property
    def sentence(self) -> str:
        """What was said, and what was assumed beside it."""
        if self.points:
            said = ", ".join(f"{share:g}% up to {tokens:,.0f}" for share, tokens in self.points)
            return f"lengths as given ({said} tokens), log-normal between"
        assert self.mean is not None
        if self.deviation is not None:
            return f"{self.mean:,.0f} tokens on average with a standard deviation of {self.deviation:,.0f}, as given"
        return (
            f"{self.mean:,.0f} tokens on average, as given, with a standard deviation of half of that (a judgement; say"
            f" --tokens-per-row {self.mean:.0f}+-X or p50=X,p95=Y)"
        )


def parse(text: str) -> Lengths:
    """The lengths that `text` describes. Raises ValueError, which argparse words, where it describes none."""
    whole = _MEAN.fullmatch(text.strip())
    if whole:
        mean, deviation = float(whole[1]), None if whole[2] is None else float(whole[2])
        if not 1 <= mean <= 1e9 or (deviation or 0) > 100 * mean:
            raise ValueError(text)
        return Lengths(mean, deviation)
    points, longest, mean_given = [], math.inf, None
    for part in text.split(","):
        found = _POINT.fullmatch(part.strip())
        if found is None or not 1 <= float(found[2]) <= 1e9:
            raise ValueError(text)
        if found[1] == "max":
            longest = float(found[2])
        elif found[1] == "mean":
            mean_given = float(found[2])
        elif 0 < float(found[1][1:]) < 100:
            points.append((float(found[1][1:]), float(found[2])))
        else:
            raise ValueError(text)
    points.sort()
    rising = all(one[0] < two[0] and one[1] <= two[1] for one, two in zip(points, points[1:], strict=False))
    if not (points or mean_given) or not rising:
        raise ValueError(text)
    return Lengths(mean_given, None, tuple(points), longest)


def facts(rows: int, lengths: Lengths, form: str | None) -> DataFacts:
    """`rows` rows of `lengths` as the planner knows data that were read."""
    count = min(rows, SAMPLE)
    places = [NormalDist().inv_cdf((index + 0.5) / count) for index in range(count)]
    tokens = [min(value, lengths.longest) for value in _quantiles(lengths, places)]
    if lengths.mean is not None:
        tokens = _with_mean(tokens, lengths.mean)
    whole = tuple(sorted(max(round(value), 1) for value in tokens))
    return DataFacts(rows, whole, form, described=f"{rows:,} rows of {lengths.sentence}")


def _quantiles(lengths: Lengths, places: list[float]) -> list[float]:
    """Tokens at each of `places`, in standard deviations from the middle."""
    if not lengths.points:
        assert lengths.mean is not None
        deviation = USUAL_SPREAD * lengths.mean if lengths.deviation is None else lengths.deviation
        sigma = math.sqrt(math.log1p((deviation / lengths.mean) ** 2))
        return [lengths.mean * math.exp(sigma * place - sigma * sigma / 2) for place in places]
    known = [(NormalDist().inv_cdf(share / 100), math.log(tokens)) for share, tokens in lengths.points]
    return [math.exp(_between(known, max(min(place, MOST_SIGMAS), -MOST_SIGMAS))) for place in places]


def _between(known: list[tuple[float, float]], place: float) -> float:
    """The logarithm at `place` on the line through its neighbours, or through the nearest two beyond the ends."""
    if len(known) == 1:
        return known[0][1] + math.sqrt(math.log1p(USUAL_SPREAD**2)) * (place - known[0][0])
    after = next((index for index in range(1, len(known) - 1) if known[index][0] >= place), len(known) - 1)
    (left, low), (right, high) = known[after - 1], known[after]
    return low + (high - low) * (place - left) / (right - left)


def _with_mean(tokens: list[float], mean: float) -> list[float]:
    """The same lengths scaled to `mean`: of few rows the sampled mean is a little off."""
    factor = mean * len(tokens) / sum(tokens)
    if not 0.5 <= factor <= 2:
        raise BadInput(
            f"--tokens-per-row: a mean of {mean:g} and these percentiles contradict each other (they give"
            f" {sum(tokens) / len(tokens):,.0f})",
            hint="leave one of them out",
        )
    return [value * factor for value in tokens]
