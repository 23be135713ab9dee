"""Which weights of a joint model a LoRA file changes, checked against their shapes."""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

from torch import Tensor

from ..checkpoint.release import JOINT
from ..errors import MovaError
from ..model.joint import JointModel
from ..model.presets import PRESETS
from ..model.shapes import expected_shapes
from ..shorten import first_names, short
from .names import BIAS, DIFF, DORA, DOWN, LOHA, READ, UNNAMED, UP, split_name
from .reading import Lora, LoraFile

Shapes = Mapping[str, tuple[int, ...]]
# Layers, and parts of them, by which Wan 2.1's image-to-video model sees a picture through CLIP.
PICTURE_TOKENS = ("img_emb", "k_img", "v_img", "norm_k_img")


class LeftOut(NamedTuple):
    """What of a LoRA file has no place in a model."""

    absent: list[str]  # a key of each layer that the model does not have
    misfits: list[str]  # each layer that the model has in another shape: its key, and what does not fit


def fit(file: LoraFile, shapes: Shapes) -> tuple[dict[str, dict[str, Lora]], LeftOut]:
    """The file's changes by module, each under its layer's name in a joint model, and what has no place there.

    shapes: of the joint model's state dict. Layers without a module's name stay under UNNAMED: they are for the video
    tower of any expert. A layer that does not fit is left out: LoRAs for Wan's text-to-video models have a patch
    embedding of fewer channels. Raises MovaError if nothing fits.
    """
    fitted: dict[str, dict[str, Lora]] = {}
    absent: list[str] = []
    misfits: list[str] = []
    modules = dict(file.modules)
    if UNNAMED in modules and is_for_audio(file, shapes):
        modules[JOINT[0]] = {**modules.get(JOINT[0], {}), **modules.pop(UNNAMED)}
    for module, layers in modules.items():
        prefix = f"{module}." if module in JOINT else ""
        for layer, lora in layers.items():
            name = prefix + layer
            if not has_place(name, lora, shapes):
                absent.append(lora.key)
            elif fault := misfit(lora, name, shapes):
                misfits.append(f"{short(lora.key)} {fault}")
            else:
                fitted.setdefault(module, {})[name] = lora
    if not fitted and misfits:
        more = f" (and {len(misfits) - 1} more)" if len(misfits) > 1 else ""
        raise MovaError(f"{file.path} is a LoRA for another model: {misfits[0]}{more}; choose one for MOVA.")
    if not fitted:
        raise MovaError(f"{file.path} is a LoRA for another model: MOVA has no layers as in {first_names(absent)}.")
    return fitted, LeftOut(absent, misfits)


def left_out(file: LoraFile, absent: Sequence[str], misfits: Sequence[str]) -> list[str]:
    """What of a file changes nothing: a line for each reason, with how many layers and the first of them."""
    lines = []
    if misfits:
        lines.append(f"{len(misfits)} layers are left out, as they do not fit MOVA: {first_names(misfits, str)}")
    of_wan_2_1 = [key for key in absent if set(PICTURE_TOKENS) & set(split_name(key)[1].split("."))]
    others = [key for key in absent if key not in set(of_wan_2_1)]
    if of_wan_2_1:
        lines.append(
            f"{len(of_wan_2_1)} layers are left out, as they are for the picture tokens of Wan 2.1 "
            f"({', '.join(PICTURE_TOKENS)}), which Wan 2.2 and MOVA do not have: {first_names(of_wan_2_1)}"
        )
    if others:
        lines.append(f"{len(others)} layers are left out, as MOVA has none such: {first_names(others)}")
    if file.unknown:
        lines.append(f"{len(file.unknown)} keys of unknown spelling are left out: {first_names(file.unknown)}")
    lines += [
        f"{len(keys)} keys are left out, as they are {kind}'s, and what can be read is {READ}: {first_names(keys)}"
        for kind, keys in file.others.items()
    ]
    if file.incomplete:
        lines.append(
            f"{len(file.incomplete)} keys are left out, a half of which is missing: {first_names(file.incomplete)}"
        )
    return lines


def is_for_audio(file: LoraFile, shapes: Shapes) -> bool:
    """Whether a file that names no module is for the audio tower, by its shapes and by its name.

    The shapes alone do not tell: the audio tower has those of Wan 2.1 1.3B, of which there are LoRAs, too. Raises
    MovaError if any of it fits, and the file's name does not tell.
    """

    def fits(prefix: str) -> bool:
        placed = {f"{prefix}{name}": lora for name, lora in file.modules[UNNAMED].items()}
        placed = {name: lora for name, lora in placed.items() if has_place(name, lora, shapes)}
        return bool(placed) and not any(misfit(lora, name, shapes) for name, lora in placed.items())

    if fits("") or not fits(f"{JOINT[0]}."):
        return False
    if "audio" in file.path.stem.lower():
        return True
    raise MovaError(
        f"{file.path} does not fit MOVA's video towers, but its audio tower, as a LoRA for Wan 2.1 1.3B does: if it is "
        "made for the audio tower, put 'audio' into the file's name, else choose another."
    )


def has_any_place(layers: Mapping[str, Lora]) -> bool:
    """Whether a released model's video tower has one of these layers, of whatever shape."""
    shapes = expected_shapes(JointModel(PRESETS["MOVA-360p"].model, device="meta"))
    return any(has_place(name, lora, shapes) for name, lora in layers.items())


def has_place(name: str, lora: Lora, shapes: Shapes) -> bool:
    """Whether the model has the layer, or a parameter of that name, and its bias if that is to be changed."""
    is_layer = f"{name}.weight" in shapes and (BIAS not in lora.parts or f"{name}.bias" in shapes)
    return is_layer or (name in shapes and set(lora.parts) in ({DIFF}, {DOWN, UP}))


def misfit(lora: Lora, name: str, shapes: Shapes) -> str | None:
    """What does not fit of a change to a layer of the model, in words."""
    weight = shapes.get(f"{name}.weight", shapes.get(name, ()))
    flat = [weight[0], math.prod(weight[1:])]
    parts = {part: [*tensor.shape] for part, tensor in lora.parts.items()}
    if UP in parts and parts[UP][1:2] != parts[DOWN][:1]:
        return f"has halves of two ranks, {parts[DOWN]} and {parts[UP]}"
    if BIAS in parts and parts[BIAS] != [*shapes[f"{name}.bias"]]:
        return f"is for a bias of {parts[BIAS]}, but that of {name} is {[*shapes[f'{name}.bias']]}"
    if DORA in parts and math.prod(parts[DORA]) not in flat:
        return f"has DoRA's scale for {math.prod(parts[DORA])} columns or rows, but {name} is {flat}"
    if DIFF in parts:
        found, flat = parts[DIFF], [*weight]
    elif main := set(parts) - {BIAS, DORA}:
        found = product_shape({part: lora.parts[part] for part in main})
    else:
        return None
    return None if found == flat else f"is for a weight of {found}, but that of {name} is {flat}"


def product_shape(parts: Mapping[str, Tensor]) -> list[int]:
    """Rows and columns of what a pair, a LoHa or a LoKr adds, kernels flattened."""

    def product(up: str, down: str) -> list[int]:
        return [parts[up].shape[0], math.prod(parts[down].shape[1:])]

    if UP in parts:
        return product(UP, DOWN)
    if set(parts) >= LOHA:
        return product("hada_w1_a", "hada_w1_b")
    w1, w2 = (
        [parts[w].shape[0], math.prod(parts[w].shape[1:])] if w in parts else product(f"{w}_a", f"{w}_b")
        for w in ("lokr_w1", "lokr_w2")
    )
    return [a * b for a, b in zip(w1, w2, strict=True)]
