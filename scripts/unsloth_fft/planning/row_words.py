"""What a plan says of its rows: how far they are known, which are held out, and which are longer than a row may be."""

from __future__ import annotations

import math

from .data_facts import DataFacts
from .request import Request


def warnings(request: Request) -> list[str]:
    """What could surprise about the rows; of those nobody read, what was assumed."""
    if request.unread is not None:
        return [
            f"{request.unread} was not read here: its rows are not known, and rows of {request.seq_length} tokens"
            f" were assumed.{_shorter_rows(request)}"
        ]
    if request.data is None:
        return []
    described = request.data.described
    return [
        *([f"The rows were not read: {described}."] if described else _basis_warnings(request.data)),
        *_held_out_warnings(request, request.data),
        *_length_warnings(request, request.data),
    ]


def _basis_warnings(data: DataFacts) -> list[str]:
    if data.is_counted:
        return []
    if data.basis == "sampled":
        return ["Tokens were counted in one row of twenty, and scaled by characters in the others."]
    return [
        "Tokens of rows are estimated from their characters: within 15% in Latin letters and code, 50% in other"
        " scripts, without what the chat template adds of its own (a default system turn). They are counted where"
        " --model is a folder with its tokenizer and template, and the packages tokenizers and jinja2 are installed."
    ]


def _shorter_rows(request: Request) -> str:
    """What rows that are shorter than assumed do to an amount in tokens, which becomes a number of steps here."""
    if request.amount.tokens is None:
        return ""
    return (
        " The steps are counted for such rows: shorter ones bring fewer tokens a step, so that less than"
        f" {request.amount.tokens:,} tokens, and perhaps only a part of the rows, is trained. Say how the rows are:"
        " --rows N --tokens-per-row X."
    )


def _held_out_warnings(request: Request, data: DataFacts) -> list[str]:
    """Of instructions some are held out by custom; of a text somebody may want every line learned."""
    share = request.reading.eval_fraction
    held_out = data.held_out(share)
    if request.objective != "pretrain" or held_out == 0 or data.set_apart:
        return []
    return [
        f"{held_out:,} of {data.rows:,} rows ({share:.3g} of them) are held out for evaluation and not learned:"
        " --eval-fraction X changes that."
    ]


def _length_warnings(request: Request, data: DataFacts) -> list[str]:
    longer = round(data.each * sum(length > request.seq_length for length in data.lengths))
    about = "" if data.is_counted else "about "
    if longer and data.form != "text":  # a long text goes on in the next sequence
        return [_cut_warning(request, data, longer, about)]
    longest = max(data.lengths, default=0)
    if request.objective == "sft" and longest <= request.seq_length / 4:
        way = f"--seq-length {_kept_by(longest)} cuts none of them, and"
        if not data.is_counted:
            way = "count them (data FILE --model DIR) before you choose a shorter --seq-length, which"
        return [
            f"Memory is that of rows of {request.seq_length:,} tokens, and the longest here has {about}"
            f"{longest:,}: {way} plans what these need."
        ]
    return []


def reasons(request: Request) -> list[str]:
    """That longer texts are split, not cut."""
    data = request.data
    if data is None or data.form != "text":
        return []
    longer = round(data.each * sum(length > request.seq_length for length in data.lengths))
    if not longer:
        return []
    about = "" if data.is_counted else "about "
    return [
        f"Nothing of a text is cut: of {data.rows:,} texts {about}{longer:,} are longer than {request.seq_length:,}"
        " tokens and go on in the next row."
    ]


def _cut_warning(request: Request, data: DataFacts, longer: int, about: str) -> str:
    from ..data import cut_ends  # only a plan with long rows pays for it

    cut = f"{about}{longer} of {data.rows} rows are longer than {request.seq_length} tokens and will be cut"
    lost = sum(max(length - request.seq_length, 0) for length in data.lengths) / sum(data.lengths)
    cut = f"{cut[0].upper()}{cut[1:]}, which leaves out {about}{lost:.1%} of all tokens"
    if request.reading.allow_cut_ends or not cut_ends.is_too_many(longer, data.rows):
        return f"{cut}."
    kept = _kept_by(data.lengths[math.ceil(len(data.lengths) * (1 - cut_ends.ALLOWED)) - 1])
    limit = request.shape.max_positions
    way = f"the model has {limit:,} positions: split the rows"
    if kept <= limit:
        way = f"--seq-length {kept} {cut_ends.leaves(any(length > kept for length in data.lengths))}"
    return f"{cut}; they lose the end of their last answer, which init refuses: {way}, --allow-cut-ends accepts it."


def _kept_by(length: int) -> int:
    """The multiple of 64 that rows of `length` tokens fit into."""
    return -(-length // 64) * 64
