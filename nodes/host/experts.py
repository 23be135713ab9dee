"""Whether a MODEL is the expert that a slot is for."""

from typing import Any

import torch

from ...mova import MovaConfig, MovaError
from ...mova.model.stored_config import EXPERT_NAMES
from .base import MOVA

SLOTS = {"high_noise": "model_high", "low_noise": "model_low"}
TWO_MODELS = "load its file with MOVA Model Loader, which makes a MODEL of each"


def connected_experts(model_high: Any, model_low: Any, purpose: str) -> dict[str, Any]:
    """What is connected to a node that takes one expert or both, by the expert. Raises MovaError for anything else.

    Also for one MODEL that holds both experts: what such nodes do is done to each.
    """
    given = {"high_noise": model_high, "low_noise": model_low}
    connected = {expert: model for expert, model in given.items() if model is not None}
    if not connected:
        raise MovaError(f"Nothing is connected to model_high or model_low; connect the experts that {purpose} is for.")
    for expert, model in connected.items():
        check_one(model, SLOTS[expert], expert)
    return connected


def check_one(model: Any, slot: str, wanted: str) -> None:
    """check_expert, and that it is not a MODEL of both."""
    check_expert(model, slot, wanted)
    if model.model.has_both:
        raise MovaError(f"The model in {slot} holds both experts; {TWO_MODELS}, for this node.")


def check_expert(model: Any, slot: str, wanted: str | None = None) -> None:
    """Raise MovaError unless the MODEL is a MOVA model, and not one whose file says that it is the other expert."""
    if model is None:  # what MOVA Model Loader gives for "none"
        raise MovaError(f"There is no model in {slot}; choose a file for it in MOVA Model Loader.")
    inner = model.model
    if not isinstance(inner, MOVA):
        raise MovaError(f"The model in {slot} is {type(inner).__name__}, not MOVA; load a MOVA file there.")
    if wanted and inner.expert in EXPERT_NAMES and inner.expert != wanted:
        raise MovaError(
            f"The model in {slot} is the {EXPERT_NAMES[inner.expert]} expert, as its file says; connect the "
            f"{EXPERT_NAMES[wanted]} one there (are the two swapped?)."
        )


def check_experts(high: Any, low: Any | None) -> None:
    """check_expert for both, and that they are not the same one twice."""
    check_expert(high, "model_high", "high_noise")
    if low is None:
        return
    check_expert(low, "model_low", "low_noise")
    if high.model.has_both or low.model.has_both:
        raise MovaError(f"One of the models holds both experts; connect it as model_high alone, or {TWO_MODELS}.")
    if sizes(low.model.mova_config) != sizes(high.model.mova_config):
        raise MovaError(
            "model_high and model_low are of different MOVA models; load both experts from the same release."
        )
    # One small tensor tells the experts apart, also if the same file was loaded twice.
    modulations = [model.model.diffusion_model.head.modulation.float().cpu() for model in (high, low)]
    if low.model is high.model or torch.equal(*modulations):
        raise MovaError(
            "model_high and model_low are the same expert; load the low-noise file for model_low, or leave it out."
        )


def sizes(config: MovaConfig) -> list[tuple[int, ...]]:
    """What the tensors' shapes say of a model: a file without a configuration may leave the rest open."""
    towers = config.video_dit, config.audio_dit
    return [(tower.dim, tower.ffn_dim, tower.num_layers, tower.text_dim) for tower in towers]
