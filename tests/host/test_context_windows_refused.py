"""Context windows that the host cannot cut, and their neighbours that it can: a sentence of ours, or a whole clip."""

import json

import pytest
from inside import run_inside

BELOW = "set context_overlap below context_length."
LINEAR = "The fuse_method overlap-linear needs context windows that overlap by 1 to "
RETAIN = "_retain_index_list asks for latent frame "
MANUAL = {"context_length": 4, "context_overlap": 2, "context_schedule": "standard_static", "context_stride": 1,
          "closed_loop": False, "fuse_method": "pyramid", "dim": 2, "freenoise": False}  # fmt: skip
CASES = [  # of a clip of 9 latent frames; None: it is sampled
    ({}, None),
    ({"context_overlap": 3}, None),
    ({"context_overlap": 4}, "The context windows overlap by 4 latent frames but are only 4 long; " + BELOW),
    ({"context_overlap": 7}, "The context windows overlap by 7 latent frames but are only 4 long; " + BELOW),
    ({"context_overlap": 4, "context_schedule": "standard_uniform"}, BELOW),
    ({"context_overlap": 7, "context_schedule": "looped_uniform"}, BELOW),
    ({"context_overlap": 7, "context_schedule": "batched"}, None),
    ({"context_overlap": 4, "context_schedule": "batched", "freenoise": True}, BELOW),
    ({"context_overlap": 7, "context_schedule": "batched", "freenoise": True}, None),
    ({"context_length": 9, "context_overlap": 9}, None),
    ({"context_length": 9, "context_overlap": 9, "freenoise": True}, BELOW),
    ({"context_length": 9, "context_overlap": 12, "freenoise": True}, None),
    *(({"dim": dim, "context_length": 9}, f"The context windows are along dimension {dim}, ") for dim in (0, 1, 3)),
    ({"fuse_method": "overlap-linear", "context_overlap": 0}, LINEAR + "4 latent frames, not by 0; "),
    ({"fuse_method": "overlap-linear", "context_overlap": 1}, None),
    ({"fuse_method": "overlap-linear", "context_overlap": 3}, None),
    ({"fuse_method": "overlap-linear", "context_schedule": "batched"}, LINEAR + "1 latent frames, not by 2; "),
    ({"fuse_method": "overlap-linear", "context_schedule": "batched", "context_length": 5}, None),
    ({"cond_retain_index_list": "0, 3"}, None),
    ({"cond_retain_index_list": "-4", "latent_retain_index_list": "3"}, None),
    ({"cond_retain_index_list": "0, 4"}, "cond" + RETAIN + "4 in each context window, but the shortest has 4; "),
    ({"cond_retain_index_list": "-5"}, "cond" + RETAIN + "-5 "),
    ({"latent_retain_index_list": "7"}, "latent" + RETAIN + "7 "),
    ({"cond_retain_index_list": "1", "context_schedule": "batched"}, "cond" + RETAIN + "1 "),
    ({"cond_retain_index_list": "7", "context_length": 9}, None),
    ({"cache": "EasyCache"}, "EasyCache does not go with context windows, whose sounds are of different lengths; "),
    ({"cache": "EasyCache", "context_length": 9}, None),
    ({"cache": "LazyCache"}, None),
]

SAMPLED = """
import json
import comfy.samplers
from comfy_extras import nodes_context_windows, nodes_easycache
from pack.mova import JointModel, MovaError
from pack.mova.tools import tiny
from pack.mova.sampling.conditioning import audio_latents
from pack.nodes.host.family import register
from pack.nodes.host.nested import AudioVideoLatent
from pack.nodes.loaders import Expert, build_expert
from dataclasses import asdict

register()
T, fps = 9, 24.0
state = tiny.random_state(JointModel(tiny.CONFIG, device="meta"), torch.Generator().manual_seed(0))
plain = build_expert(Expert("tiny", state, asdict(tiny.CONFIG), {}), "default")
latent = AudioVideoLatent([torch.randn(1, 16, T, 4, 4), torch.randn(1, 128, audio_latents(4 * T - 3, fps))])
entries = {"concat_mask": torch.ones(1, 4, T, 4, 4), "concat_latent_image": latent.tensors[0], "frame_rate": fps}
cond = [[torch.zeros(1, 7, tiny.CONFIG.video_dit.text_dim), entries]]
found = []
for settings in json.loads(arguments[0]):
    cache = settings.pop("cache", None)
    model = nodes_context_windows.ContextWindowsManualNode.execute(plain, **settings)[0]
    if cache:
        model = getattr(nodes_easycache, cache + "Node").execute(model, 0.2, 0.0, 1.0, False)[0]
    guider = comfy.samplers.CFGGuider(model)
    guider.set_conds(cond, cond)
    guider.set_cfg(1.0)
    sampler, sigmas = comfy.samplers.sampler_object("euler"), torch.tensor([0.9, 0.7, 0.5, 0.3, 0.0])
    try:
        with torch.inference_mode():
            made = guider.sample(latent, latent * 0, sampler, sigmas, seed=0)
        assert [part.shape for part in made.tensors] == [part.shape for part in latent.tensors]
        assert all(part.isfinite().all() and part.std() > 0.05 for part in made.tensors)
        found.append(None)
    except Exception as error:
        found.append(f"{'' if isinstance(error, MovaError) else type(error)}{error}")
print(json.dumps(found))
"""


@pytest.fixture(scope="module")
def told(host_place):
    given = [MANUAL | settings for settings, _ in CASES]
    return json.loads(run_inside(host_place, SAMPLED, json.dumps(given)).splitlines()[-1])


@pytest.mark.parametrize("case", range(len(CASES)), ids=lambda i: "-".join(map(str, CASES[i][0].values())) or "plain")
def test_windows_are_cut_or_refused_in_our_words(told, case):
    wanted, found = CASES[case][1], told[case]
    assert found is None if wanted is None else found is not None and wanted in found and "<class" not in found
