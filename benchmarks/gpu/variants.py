"""The ways to run the model that are compared: a line each. All share one model's weights.

A variant is given the model with the weights, the sizes and an attention, and returns the model that is measured.
"""

from collections.abc import Callable
from dataclasses import replace

from mova import JointModel, MovaConfig
from mova.model.attention import Attention
from mova.model.kernels import LOW_MEMORY, Kernels, choose_norms

from .place import DTYPE

Variant = Callable[[JointModel, MovaConfig, Attention], JointModel]


def sharing(model: JointModel, config: MovaConfig, kernels: Kernels) -> JointModel:
    """Another model with the same weights, in the same memory."""
    twin = JointModel(config, DTYPE, "meta", kernels=kernels).requires_grad_(False)
    twin.load_state_dict(model.state_dict(), assign=True)
    return twin


def eager(model: JointModel, config: MovaConfig, attention: Attention) -> JointModel:
    """As it is by default."""
    return sharing(model, config, Kernels(attention))


def one_pass(model: JointModel, config: MovaConfig, attention: Attention) -> JointModel:
    """Norm and rotary embedding by one Triton kernel."""
    norms = choose_norms("triton", model.head.modulation.device)
    return sharing(model, config, Kernels(attention, norm_and_rotate_=norms))


def low_memory(model: JointModel, config: MovaConfig, attention: Attention) -> JointModel:
    """The option that takes the MLP and the values in blocks of rows."""
    return sharing(model, config, replace(LOW_MEMORY, attention=attention))


def compiled(model: JointModel, config: MovaConfig, attention: Attention) -> JointModel:
    """Each block of both towers by torch.compile, which makes one program of all blocks of a tower."""
    twin = eager(model, config, attention)
    backend = "inductor" if twin.head.modulation.is_cuda else "aot_eager"  # whose C++ takes a minute
    for block in (*twin.blocks, *twin.audio_dit.blocks):
        block.compile(dynamic=False, backend=backend)
    return twin


# In the order of their worth; the compiled one last, since it takes the longest.
EAGER, COMPILED = "eager", "compiled block by block"
VARIANTS: dict[str, Variant] = {
    EAGER: eager,
    "norm and rotation in one pass by Triton": one_pass,
    "low memory": low_memory,
    COMPILED: compiled,
}
SECONDS = {COMPILED: 45.0}  # what a variant takes at first, on a GPU
