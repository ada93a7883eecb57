"""The trained model, written whole or not at all."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

from ..core import files
from ..data import stopping_tokens
from ..weights import multimodal
from . import checkpoints, processes
from .session import Folder


def save_model(folder: Folder, runner: Any, tokenizer: Any, multimodal_base: Path | None) -> None:
    """Write model/ whole or not at all; every process takes part, because the weights may be sharded.

    What was trained out of a multimodal checkpoint goes back into that checkpoint's layout, beside its towers.
    """
    staging, text = folder.root / ".model.tmp", folder.root / ".data-trained-text"
    if processes.is_first():
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(text, ignore_errors=True)
    processes.wait_for_all()
    try:
        runner.save_model(str(text if multimodal_base else staging))
        if processes.is_first():
            if multimodal_base:
                multimodal.write_back(multimodal_base, text, staging)
                shutil.rmtree(text)
            tokenizer.save_pretrained(str(staging))
            stopping_tokens.complete(staging, tokenizer)
            (staging / "training_args.bin").unlink(missing_ok=True)  # a pickle nobody needs
            files.give_usual_mode(staging)
            checkpoints.flush(staging)
            shutil.rmtree(folder.model, ignore_errors=True)
            staging.rename(folder.model)
    except Exception as error:
        shutil.rmtree(staging, ignore_errors=True)
        shutil.rmtree(text, ignore_errors=True)
        refusal = checkpoints.disk_refusal(error, folder.checkpoints, "the trained model")
        if refusal is None:
            raise
        raise refusal from error
    processes.wait_for_all()
