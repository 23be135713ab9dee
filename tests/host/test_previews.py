"""The pictures that MOVA Joint Sampler shows while it samples: the latent's colours, or the host's tiny VAE."""

from io import BytesIO

import numpy as np
import pytest
import torch
from graphs import GIVEN, Graph, numbers, ref
from PIL import Image
from safetensors.torch import save_file

STEPS = 6
TINY_VAE = "lighttaew2_1.safetensors"  # the name that the host looks for


def tiny_vae(latent_channels=16):
    """The decoder's tensors, with random weights."""
    shapes, width = {"1.weight": (256, latent_channels, 3, 3), "1.bias": (256,)}, 256
    for first, narrower, frames in ((3, 128, 1), (9, 64, 2), (15, 64, 2)):
        for i in range(first, first + 3):
            for layer, channels in ((0, 2 * width), (2, width), (4, width)):
                shapes |= {f"{i}.conv.{layer}.weight": (width, channels, 3, 3), f"{i}.conv.{layer}.bias": (width,)}
        shapes |= {f"{first + 4}.conv.weight": (width * frames, width, 1, 1)}
        shapes |= {f"{first + 5}.weight": (narrower, width, 3, 3)}
        width = narrower
    shapes |= {"22.weight": (3, width, 3, 3), "22.bias": (3,)}
    state = {name: numbers(name, *shape) * (2 / np.prod(shape[1:])) ** 0.5 for name, shape in shapes.items()}
    state["22.bias"] = torch.full((3,), 0.5)  # grey
    return {f"decoder.{name}": tensor.float() for name, tensor in state.items()}


@pytest.fixture
def place(files):
    path = files / "models/vae_approx" / TINY_VAE
    path.parent.mkdir(exist_ok=True)
    yield path
    path.unlink(missing_ok=True)


def previews(server, method, seed):
    """The previews of a run with both experts, as pictures [H, W, 3], and what the log says of them."""
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    node = graph.joint(
        graph.model("mova_high"), given, model_low=graph.model("mova_low"), seed=1, steps=STEPS, cfg=2 + seed / 1e6
    )
    graph.save(ref(node))
    before = len(server.log.read_text())
    result = server.run(graph.nodes, preview_method=method)
    assert result.error is None, result.error
    assert [values for at, *values in result.progress if at == node][-1] == [STEPS, STEPS]
    pictures = [np.array(Image.open(BytesIO(preview))).astype(float) for preview in result.previews]
    lines = [line for line in server.log.read_text()[before:].splitlines() if "vae_approx" in line]
    return pictures, lines


def apart(one, other):
    """The mean difference of two lists of pictures, in 0..255."""
    assert len(one) == len(other)
    return float(np.mean([np.abs(a - b).mean() for a, b in zip(one, other, strict=True)]))


def test_the_tiny_vae_shows_each_step_of_both_experts(server, files, place):
    colours, _ = previews(server, "latent2rgb", 1)
    save_file(tiny_vae(), place)
    found, lines = previews(server, "taesd", 2)
    assert lines == []
    assert len(found) == STEPS and {picture.shape for picture in found} == {colours[0].shape}
    assert colours[0].shape == (341, 512, 3)  # 96 x 64, as large as the host shows previews
    assert apart(found, colours) > 10 and min(picture.std() for picture in found) > 3
    assert apart(found[:-1], found[1:]) > 1, "a later frame at each step"


def test_without_its_file_the_colours_are_shown(server, files, place):
    colours, _ = previews(server, "latent2rgb", 3)
    found, lines = previews(server, "taesd", 4)
    assert apart(found, colours) < 1
    assert len(lines) == 1 and "could not find models/vae_approx/lighttaew2_1" in lines[0]


@pytest.mark.parametrize("fault", ["cut off", "empty", "other tensors", "of another model"])
def test_a_damaged_tiny_vae_is_told_once_and_the_run_goes_on(server, files, place, fault):
    save_file(tiny_vae(48 if fault == "of another model" else 16), place)
    if fault == "other tensors":
        save_file({"a": numbers("a", 3)}, place)
    if fault in ("cut off", "empty"):
        place.write_bytes(place.read_bytes()[: 1000 if fault == "cut off" else 0])
    seed = 10 + len(fault)
    colours, _ = previews(server, "latent2rgb", seed)
    found, lines = previews(server, "taesd", seed + 100)
    assert apart(found, colours) < 1
    assert len(lines) == 1 and "[MOVA] The tiny VAE for previews (vae_approx/lighttaew2_1) does not work" in lines[0]


def test_auto_shows_the_colours_and_none_nothing(server, files, place):
    save_file(tiny_vae(), place)
    colours, _ = previews(server, "latent2rgb", 5)
    assert apart(previews(server, "auto", 6)[0], colours) < 1  # what the host means by auto
    assert previews(server, "none", 7) == ([], [])
