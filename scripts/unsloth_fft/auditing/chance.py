"""How many elements of a trained tensor may stand where they began by chance.

Two opposite steps can bring a float32 weight back to the very value it had. How often depends on how far the weights
moved, counted in the spacing of their values; how many of a tensor that may be depends on how many elements it has.
"""

from __future__ import annotations

import math
from typing import Final

RETURNED: Final = 0.01
"""The chance allowed to every element.

A float32 weight near 1 has a spacing of 1.2e-7; after twenty steps of 1e-6 about one in a hundred is back. Far below
what rounding to bfloat16 leaves standing at the learning rates of full fine-tuning (12% at 1e-4, 85% at 1e-5).
"""

MOST_RETURNED: Final = 0.1
"""The chance allowed at most, where all movement is about one spacing of float32."""

SURE: Final = 1e-6
"""How improbable a count must be before it is no longer called chance: a checkpoint has up to 100,000 tensors."""


def returning(typical_weight: float, typical_change: float, fraction_bits: int) -> float:
    """The chance that an element of about `typical_weight` stands where it began, its changes about `typical_change`.

    The share of normally distributed changes that round to nothing, kept between RETURNED and MOST_RETURNED.
    """
    if not (0 < typical_weight < math.inf and 0 < typical_change < math.inf):
        return RETURNED
    spacing = 2.0 ** (math.floor(math.log2(typical_weight)) - fraction_bits)
    share = math.erf(spacing / 2 / (typical_change * math.sqrt(2)))
    return min(max(share, RETURNED), MOST_RETURNED)


def may_stand(elements: int, chance: float = RETURNED) -> int:
    """The most of `elements` that stand still by chance, each with probability `chance`.

    More would have a probability below SURE (Chernoff's bound for a binomial count).
    """
    wanted = -math.log(SURE) * (1 - 1e-9)
    low, high = int(elements * chance), elements + 1  # the count looked for is above low; high always suffices
    while high - low > 1:
        middle = (low + high) // 2
        if elements * _divergence(middle / elements, chance) >= wanted:
            high = middle
        else:
            low = middle
    return high - 1


def _divergence(share: float, chance: float) -> float:
    """Kullback-Leibler divergence between two coins, in nats."""
    found = share * math.log(share / chance) if share else 0.0
    return found + ((1 - share) * math.log((1 - share) / (1 - chance)) if share < 1 else 0.0)
