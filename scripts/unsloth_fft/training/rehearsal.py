"""What only shows when a run is over, tried before it: that everything but the weights can be saved, and that the model
has an embedding for every token of the rows."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, FFTError
from ..weights import vocabulary


def before_training(name: str, model: Any, tokenizer: Any, prepared: Any, scratch: Path) -> None:
    """Raise BadInput for what would end the run of model `name` later. Writes to `scratch` and leaves nothing there."""
    _require_embedded(model, tokenizer, prepared)
    with tempfile.TemporaryDirectory(dir=scratch) as folder:
        for part in (model.config, getattr(model, "generation_config", None), tokenizer):
            if part is None:
                continue
            try:
                part.save_pretrained(folder)
            except (FFTError, OSError):
                raise
            except Exception as error:  # transformers and tokenizers raise what their own checks raise
                lines = str(error).strip().splitlines() or [type(error).__name__]
                raise BadInput(
                    f"the {type(part).__name__} of {name} cannot be saved, so the trained model could not be:"
                    f" {lines[0][:200]}",
                    hint="correct the model's own files; nothing was trained",
                ) from None


def _require_embedded(model: Any, tokenizer: Any, prepared: Any) -> None:
    rows = int(model.get_input_embeddings().weight.shape[0])
    padding = tokenizer.pad_token_id
    largest = max([_largest(part) for part in (prepared.train, prepared.held_out) if part is not None] + [padding or 0])
    if largest >= rows:
        raise vocabulary.refusal({largest: str(tokenizer.decode([largest]))}, rows, "the prepared rows hold")


def _largest(rows: Any) -> int:
    """The largest token id of a datasets.Dataset, in all its columns of ids, read in Arrow's own memory."""
    import pyarrow.compute

    columns = [name for name in rows.column_names if name.endswith(("input_ids", "_ids")) and name != "position_ids"]
    found = [
        pyarrow.compute.max(pyarrow.compute.list_flatten(batch[name])).as_py()
        for batch in rows.with_format("arrow").iter(batch_size=10_000)
        for name in columns
    ]
    return max((number for number in found if number is not None), default=0)
