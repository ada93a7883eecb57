"""What a compiled decoder layer saves between forward and backward, read from torch itself on the CPU.

    python -m tools.measurements.saved_activations llama qwen3 gemma2

Unsloth compiles each decoder layer as one region (unsloth/models/_block_compile.py), so Inductor's partitioner decides
what is kept. The same partitioner runs here on a small layer, and every tensor it saves is counted.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass
from typing import Any

TOKENS = 1000
SMALL = {"hidden_size": 256, "intermediate_size": 896, "num_hidden_layers": 2, "num_attention_heads": 8,
             "num_key_value_heads": 2, "vocab_size": 512, "pad_token_id": 0}  # fmt: skip


@dataclass(frozen=True)
class Saved:
    """`cast_bytes_per_parameter`: half-precision copies of the layer's own weights. `config` is the full one."""

    bytes_per_token: float
    cast_bytes_per_parameter: float
    config: dict[str, Any]


def saved_by_layer(model_type: str, config: dict[str, Any], *, mixed: bool) -> Saved:
    """Compile layer 0 and count what it saves; `mixed`: float32 weights under bf16 autocast, else bf16 weights."""
    import torch
    from transformers import AutoConfig, AutoModelForCausalLM

    torch._dynamo.reset()
    full = AutoConfig.for_model(model_type, **config)
    full._attn_implementation = "sdpa"
    dtype = torch.float32 if mixed else torch.bfloat16
    model = AutoModelForCausalLM.from_config(full, dtype=dtype).train()
    layer = model.model.layers[0]
    hidden = torch.randn(1, TOKENS, full.hidden_size, dtype=dtype, requires_grad=True)
    positions = torch.arange(TOKENS)[None]
    rope = model.model.rotary_emb(hidden, positions)
    # Rotary tables are one pair for the whole model, and parameters are counted as weights.
    elsewhere = {tensor.untyped_storage().data_ptr() for tensor in (*rope, *model.parameters())}
    saved: dict[int, Any] = {}

    def keep(tensor: Any) -> Any:
        if tensor.untyped_storage().data_ptr() not in elsewhere:
            saved[tensor.untyped_storage().data_ptr()] = tensor
        return tensor

    run = torch.compile(layer.forward, backend="aot_eager_decomp_partition")
    with (
        torch.autograd.graph.saved_tensors_hooks(keep, lambda tensor: tensor),
        torch.autocast("cpu", dtype=torch.bfloat16, enabled=mixed),
    ):
        run(hidden, attention_mask=None, position_embeddings=rope, position_ids=positions)
    ours = [tensor for tensor in saved.values() if tensor.shape != rope[0].shape]
    casts = sum(tensor.untyped_storage().nbytes() for tensor in ours if TOKENS not in tensor.shape)
    activations = sum(tensor.untyped_storage().nbytes() for tensor in ours if TOKENS in tensor.shape)
    parameters = sum(parameter.numel() for parameter in layer.parameters())
    return Saved(activations / TOKENS, casts / parameters, full.to_dict())


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model_types", nargs="+")
    for model_type in parser.parse_args().model_types:
        for mixed in (False, True):
            found = saved_by_layer(model_type, SMALL, mixed=mixed)
            states = found.bytes_per_token / (2 * SMALL["hidden_size"])  # type: ignore[operator]
            print(f"{model_type} {'float32' if mixed else 'bfloat16'}: {states:.2f} hidden states a layer")


if __name__ == "__main__":
    main()
