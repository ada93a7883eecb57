"""The data doctor's findings on what a session learned from, for its page.

They come after the training and must not spoil it: where they would take long, or the data cannot be read any more, a
sentence stands in their place.
"""

from __future__ import annotations

from ..core.shell_words import word
from ..data import sources
from ..data_doctor import every_row, examination, tokenizer
from ..data_doctor.report import Report
from ..settings.parameters import Parameters
from ..training.session import Folder, Session

MOST_ROWS = 50_000
MOST_SECONDS = 60.0


def examine(folder: Folder, state: Session, parameters: Parameters) -> Report | str:
    """The report on the session's data under the tokenizer it trained with, or why there is none. Raises nothing."""
    try:
        return _reason(state, parameters) or _report(folder, parameters)
    except every_row.OutOfTime:
        return f"Reading the data again took longer than {MOST_SECONDS:.0f} seconds and was given up."
    except Exception as error:  # whatever it is: a finished run is worth more than this section
        words = (str(error).strip() or type(error).__name__).splitlines()[0]
        return f"The data could not be examined after training: {words}"


def command(folder: Folder) -> str:
    """How to have the whole report later."""
    params, model = word(folder.parameters), word(folder.model)
    return f"unsloth_fft_tool.py data --params {params} --model {model} --report data.html"


def _reason(state: Session, parameters: Parameters) -> str | None:
    """Why the data are not examined, None when they are."""
    mix = sources.sources_of(parameters.data)
    if any(source.files() is None for source in mix):
        return "The data come from the Hub and are not fetched a second time."
    rows = state.data.rows
    if rows is not None and rows > MOST_ROWS:
        return f"The data have {rows:,} rows; up to {MOST_ROWS:,} are examined after training."
    if sources.fingerprint(mix) != state.data.sha256:
        return "The data files have changed since they were trained on."
    return None


def _report(folder: Folder, parameters: Parameters) -> Report:
    plan = examination.Intended(
        max_seq_length=parameters.model.max_seq_length,
        micro_batch=parameters.batch.per_device_train_batch_size,
        effective_batch=parameters.batch.effective_batch_size,
        seconds=MOST_SECONDS,
    )
    # The tokenizer as it was saved has the chat template that was trained with, a named one too.
    found = examination.examine(parameters.data, tokenizer.load(folder.model), plan)
    found.to_json()  # what its schema refuses is refused here, where it spoils nothing
    return found
