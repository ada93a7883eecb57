"""The one place that loads a model or a tokenizer: no code of the model's own, no pickle, nothing missing unnoticed.

Only training may be told to trust a model's code (model.trust_remote_code in the parameters file); everything else
works on files that may come from elsewhere, and never asks. A test holds that no other module loads.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ..core.errors import BadInput, FFTError, MissingHere
from ..core.shell_words import word
from . import model_folder
from .checkpoint import open_checkpoint

SAFELY = {"trust_remote_code": False}
WEIGHTS_SAFELY = {**SAFELY, "use_safetensors": True}
OWN_CODE_HINT = (
    "its own code is not run; where you have read and trust it, only training takes it, with model.trust_remote_code"
    " true in a new session"
)
_SHOWN = 3  # names of tensors in a message


def tokenizer(name: str | Path, revision: str | None = None) -> Any:
    """The tokenizer of a folder or a Hub name. Raises BadInput where it is damaged, MissingHere without the Hub."""
    from transformers import AutoTokenizer

    model_folder.check_tokenizer(str(name))
    with explained(f"the tokenizer of {name}", str(name)):
        return AutoTokenizer.from_pretrained(name, revision=revision, **SAFELY)


def model(name: str | Path, *, dtype: Any = "auto", revision: str | None = None, **settings: Any) -> Any:
    """The causal language model of a folder or a Hub name, ready to answer; `settings` go to Transformers.

    Raises BadInput where files are damaged, lack a tensor or do not fit the configuration, and MissingHere where the
    Hub or the memory is not there. Transformers alone would fill in what is missing with random numbers.
    """
    from transformers import AutoModelForCausalLM

    model_folder.check_local(str(name))
    with explained(f"model {name}", str(name)):
        _refuse_larger_than_its_files(str(name))
        loaded, told = AutoModelForCausalLM.from_pretrained(
            name, dtype=dtype, revision=revision, output_loading_info=True, **settings, **WEIGHTS_SAFELY
        )
        _refuse_incomplete(str(name), told)
        return loaded.eval()


def with_unsloth(arguments: dict[str, Any]) -> tuple[Any, Any]:
    """(model, tokenizer) by Unsloth's own loader, for training. Raises as `model` does, or OutOfMemoryError."""
    from unsloth import FastLanguageModel

    name = str(arguments["model_name"])
    with explained(f"model {name}", name, keep_out_of_memory=True):
        loaded: tuple[Any, Any] = FastLanguageModel.from_pretrained(**arguments)
        return loaded


def _refuse_larger_than_its_files(name: str) -> None:
    """Raise BadInput where config.json describes a model far larger than a local folder's weights.

    Transformers builds such a model whole before it compares: a config.json with a model_type alone takes the memory of
    that type's published default (27 GB for Llama).
    """
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    folder = model_folder.local_folder(name)
    if folder is None:
        return
    stored = sum(tensor.elements for tensor in open_checkpoint(folder).tensors.values())
    with torch.device("meta"):
        shaped = AutoModelForCausalLM.from_config(AutoConfig.from_pretrained(folder, **SAFELY))
    described = sum(weight.numel() for weight in shaped.parameters())
    if described > 2 * stored:
        raise BadInput(
            f"model {name}: config.json describes {described:,} parameters, and its files hold {stored:,}",
            hint="download or copy the model's files again, config.json and weights of one model",
        )


def _refuse_incomplete(name: str, told: dict[str, Any]) -> None:
    """`told` is what Transformers found while loading."""
    for kind, words in (
        ("missing_keys", "lacks"),
        ("mismatched_keys", "has in another shape than its config.json says"),
    ):
        names = sorted(str(key[0] if isinstance(key, tuple) else key) for key in told.get(kind) or ())
        if names:
            more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
            raise BadInput(
                f"model {name} {words}: {', '.join(names[:_SHOWN])}{more}",
                hint="download or copy the model's files again, config.json and weights of one model",
            )


def first_not_finite(model: Any) -> str | None:
    """The name of the first weight of `model` (a torch module) that holds a NaN or an infinite value; None without."""
    return next((str(name) for name, weight in model.named_parameters() if not is_finite(weight)), None)


def is_finite(weight: Any) -> bool:
    """Whether a tensor holds neither NaN nor infinite values.

    A sum carries both through and borrows no memory; only where it is not finite the elements themselves are looked at.
    """
    import torch

    values = weight.detach()
    return bool(torch.isfinite(values.sum(dtype=torch.float32))) or bool(torch.isfinite(values).all())


@contextlib.contextmanager
def explained(what: str, name: str, *, doing: str = "loaded", keep_out_of_memory: bool = False) -> Iterator[None]:
    """Turn whatever loading or using a model's files raises into an error that says what to do.

    Transformers, tokenizers, safetensors and Jinja each raise kinds of their own, and damage can surface as any.
    """
    import torch

    try:
        yield
    except FFTError:
        raise
    except torch.OutOfMemoryError as error:
        if keep_out_of_memory:
            raise
        raise MissingHere(
            f"{what} does not fit the GPU's free memory: {reason_of(error)}", hint="end what else is on the GPU"
        ) from None
    except ImportError as error:
        raise MissingHere(
            f"{what} needs a package that is not here: {reason_of(error)}", hint="uv sync --extra train"
        ) from None
    except Exception as error:
        if _is_unreached(name, error):
            raise unreached(name) from None
        reason = reason_of(error)
        own_code = "custom code" in reason or "trust_remote_code" in reason
        raise BadInput(
            f"{what} cannot be {doing}: {reason}",
            hint=OWN_CODE_HINT
            if own_code
            else "check the name or folder; damaged files must be saved or downloaded again",
        ) from None


def reason_of(error: BaseException) -> str:
    """The first line of what `error` says, or its kind."""
    return (str(error).strip() or type(error).__name__).splitlines()[0][:300]


def _is_unreached(name: str, error: BaseException) -> bool:
    """Whether `name` is a Hub name that is not on this machine and could not be asked for: offline, or no network."""
    import httpx
    from huggingface_hub.errors import LocalEntryNotFoundError, OfflineModeIsEnabled

    if model_folder.local_folder(name) is not None or not model_folder.is_hub_name(name):
        return False
    cause: BaseException | None = error
    while cause is not None:
        if isinstance(cause, (LocalEntryNotFoundError, OfflineModeIsEnabled, httpx.TransportError)):
            return True
        cause = cause.__cause__ or cause.__context__
    return False


def unreached(name: str) -> MissingHere:
    """The error for a model that is on the Hub, where nobody can be asked for it."""
    offline = " (HF_HUB_OFFLINE is set)" if os.environ.get("HF_HUB_OFFLINE") else ""
    return MissingHere(
        f"model {name} is not on this machine, and the Hub cannot be reached{offline}",
        hint=f"connect, or download it first where there is a network: hf download {word(name)}",
    )
