"""What would end or spoil a run, found in its rows before it starts: what the template refuses, ends cut off."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ..core.errors import BadInput, FFTError
from ..core.shell_words import word
from ..data import cut_ends, scanning
from ..settings.parameters import Data
from . import every_row, tokenizer
from .counting import Counter
from .oddities import sentences

MOST_SECONDS = 120.0


class Unreadable(Exception):
    """The model's tokenizer cannot be read without the training stack."""


@dataclass(frozen=True)
class Found:
    """Where the rows' answers end, and what else is worth a word before training, in sentences."""

    ends: cut_ends.Ends
    remarks: list[str]


def check(data: Data, model: Path, limit: int) -> Found:
    """Read every row through the tokenizer in the folder `model`.

    Raises BadInput at the first row that training would refuse and when too many rows lose their end, Unreadable where
    rows cannot be tokenized here, every_row.OutOfTime after MOST_SECONDS.
    """
    try:
        loaded = tokenizer.load(model, data.chat_template)
    except (FFTError, ModuleNotFoundError) as error:  # another kind of tokenizer may still be one that training reads
        raise Unreadable(str(error)) from None
    counter = Counter(loaded, loss_on=data.loss_on, limit=limit, find_repeats=False)
    faults = every_row.faults_of(every_row.read(data, counter, MOST_SECONDS))
    if faults.shown:
        first = faults.shown[0]
        raise BadInput(
            f"{first.file}: {scanning.counted_in(first.file)} {first.line} {first.message}",
            hint=f"{first.hint or 'mend or remove that row'}; all faults at once: unsloth_fft_tool.py data"
            f" {word(first.file)} --model {word(model)}",
        )
    found = cut_ends.Ends(counter.ends(), limit)
    cut_ends.refuse(found, data, loaded.longest)
    remarks = sentences(counter.oddities())
    if found.lost:
        remarks.append(f"{found.lost:,} of {found.rows:,} rows lose the end of their last answer to the cut.")
    return Found(found, remarks)
