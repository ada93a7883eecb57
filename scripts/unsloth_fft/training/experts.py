"""What training with experts needs beside the model itself: names that TRL asks for, and the router's own loss.

TRL adds the router's load-balancing loss for every model whose configuration has `output_router_logits`, with the
configuration's own coefficient (trl 1.15.0, trainer/sft_trainer.py), and leaves its switches in the configuration.
"""

from __future__ import annotations

from typing import Any

# What TRL sets for its own use and would be saved with the model.
SWITCHES = ("output_router_logits", "router_aux_loss_coef")


def name_their_number(config: Any) -> None:
    """Let `config.num_experts` be found where the family spells it `num_local_experts` (Granite, PhiMoE).

    trl 1.15.0 reads that name alone (trainer/utils.py, _fused_forward); other families map it themselves, so this
    adds the same mapping to the class.
    """
    text = config.get_text_config()
    if not hasattr(text, "num_experts") and hasattr(text, "num_local_experts"):
        kind = type(text)
        kind.attribute_map = {**kind.attribute_map, "num_experts": "num_local_experts"}


def router_loss(model: Any) -> float:
    """The coefficient of the router's load-balancing loss in training; 0 where there is none.

    TRL takes the router's outputs from the model behind the head; Granite's do not give any, and have none.
    """
    text = model.config.get_text_config()
    gives = "router_logits" in (getattr(model.base_model, "_can_record_outputs", None) or ())
    if not hasattr(text, "output_router_logits") or not getattr(text, "num_experts", 0) or not gives:
        return 0.0
    return float(getattr(text, "router_aux_loss_coef", None) or 0.0)


def arguments(model: Any) -> dict[str, float]:
    """Training arguments that only a model with a router takes; a dense member of such a family has no loss to add."""
    has_router = hasattr(model.config.get_text_config(), "output_router_logits")
    return {"router_aux_loss_coef": router_loss(model)} if has_router else {}


def switches(config: Any) -> dict[str, Any]:
    """What the configuration says of the router's loss before training sets it for itself."""
    text = config.get_text_config()
    return {name: getattr(text, name) for name in SWITCHES if hasattr(text, name)}


def restore(config: Any, before: dict[str, Any]) -> None:
    """Put back what `switches` found, so that the saved model says what the published one does."""
    for name, value in before.items():
        setattr(config.get_text_config(), name, value)
