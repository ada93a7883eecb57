"""How many rows are held out where nobody said: a tenth, and no more than an evaluation needs."""

from __future__ import annotations

import math

from .data_facts import DataFacts
from .request import EVAL_FRACTION, Amount

# Of more rows or tokens an evaluation takes hours and says the same: judgements. 500 rows give a mean loss within a
# few hundredths of a nat a token.
MOST_ROWS, MOST_TOKENS = 500, 1_000_000


def usual_share(data: DataFacts | None, amount: Amount, tokens_a_step: int) -> float:
    """The share of rows to hold out; `tokens_a_step` counts where the data are not known, for one pass of them."""
    most = 1.0
    if data is not None:
        most = min(MOST_ROWS / data.rows, MOST_TOKENS / max(sum(data.lengths) * data.each, 1))
    elif amount.tokens is not None:
        most = MOST_TOKENS / amount.tokens
    elif amount.max_steps is not None:
        most = MOST_TOKENS / (amount.max_steps * tokens_a_step)
    return min(EVAL_FRACTION, _rounded_down(most))


def _rounded_down(share: float) -> float:
    """Two digits: 0.025, not 0.02487."""
    scale = 10.0 ** (1 - math.floor(math.log10(share)))
    return math.floor(share * scale + 1e-9) / scale
