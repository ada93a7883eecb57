"""Which weights really moved, element by element."""

from __future__ import annotations

from pathlib import Path
from typing import Any


def base_folder(model: dict[str, Any]) -> Path:
    """The base model's files, downloaded already by the training run."""
    from huggingface_hub import snapshot_download

    if Path(model["model_name"]).is_dir():
        return Path(model["model_name"])
    return Path(snapshot_download(model["model_name"], revision=model["revision"], allow_patterns=["*.safetensors"]))


def tensors_of(folder: Path) -> dict[str, Path]:
    from safetensors import safe_open

    found = {}
    for file in sorted(folder.glob("*.safetensors")):
        with safe_open(file, framework="pt") as opened:
            found.update(dict.fromkeys(opened.keys(), file))
    return found


def without_tied_head(tensors: dict[str, Path]) -> dict[str, Path]:
    """The same without a head that only repeats the embedding: several processes store it, one does not."""
    import torch
    from safetensors import safe_open

    head, embedding = "lm_head.weight", "model.embed_tokens.weight"
    if head not in tensors or embedding not in tensors:
        return tensors
    with safe_open(tensors[head], framework="pt") as one, safe_open(tensors[embedding], framework="pt") as two:
        tied = torch.equal(one.get_tensor(head), two.get_tensor(embedding))
    return {name: file for name, file in tensors.items() if not (tied and name == head)}


def compare(name: str, base: Any, trained: Any, master: str) -> dict[str, Any]:
    """How many elements of one tensor moved, as stored and after rounding both sides to bfloat16."""
    import torch

    differs = base.to(trained.dtype) != trained  # against the base as the trained type stores it
    unused = 0
    if differs.dim() == 2 and any(part in name for part in ("embed", "lm_head", "wte")):
        still = ~differs.any(dim=1)
        unused = int(still.sum()) * differs.shape[1] if not bool(still.all()) else 0
    changed, used = int(differs.sum()), differs.numel() - unused
    precise = trained.dtype == torch.bfloat16 and master != "none"
    return {
        "name": name,
        "elements": differs.numel(),
        "changed": changed,
        "changed_in_bfloat16": int((base.to(torch.bfloat16) != trained.to(torch.bfloat16)).sum()),
        "moved": changed > 0 and (precise or changed >= 0.99 * used),
        "finite": bool(torch.isfinite(trained).all()),
    }


def audit(base: Path, trained: Path, master: str) -> dict[str, Any]:
    """Compare two folders of safetensors weights element by element; `master` says where the precise weight lived."""
    from safetensors import safe_open

    before, after = tensors_of(base), tensors_of(trained)
    if "lm_head.weight" not in before:
        after = without_tied_head(after)
    shared = sorted(set(before) & set(after))
    rows = []
    for name in shared:
        with safe_open(before[name], framework="pt") as one, safe_open(after[name], framework="pt") as two:
            old, new = one.get_tensor(name), two.get_tensor(name)
        if new.is_floating_point():
            if old.shape[1:] == new.shape[1:] and old.dim() > 0:
                height = min(len(old), len(new))  # a padded vocabulary keeps its first rows
                old, new = old[:height], new[:height]
            rows.append(compare(name, old, new, master))
    elements, changed = sum(row["elements"] for row in rows), sum(row["changed"] for row in rows)
    still = [row["name"] for row in rows if not row["moved"]]
    if not rows or set(after) - set(before):
        verdict = "incomparable"
    elif changed == 0:
        verdict = "frozen"
    else:
        verdict = "partial" if still or not all(row["finite"] for row in rows) else "full"
    return {
        "verdict": verdict,
        "elements": elements,
        "changed": changed,
        "changed_fraction": changed / elements if elements else 0.0,
        "changed_in_bfloat16": sum(row["changed_in_bfloat16"] for row in rows),
        "tensors": rows,
        "unchanged_tensors": still,
    }
