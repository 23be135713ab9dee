"""KJNodes' nodes for Wan on MOVA: what comes out is what their formulas make of our own model outside ComfyUI."""

from contextlib import contextmanager
from types import MethodType

import pytest
import torch
from bench import Bench, differ
from golden import CASES, error
from graphs import GIVEN, KIND, golden_model, headless, numbers, ref, to_model_scale
from packs import pack_server
from safetensors.torch import save_file

from mova.model.attention import sdpa, split_heads
from mova.model.layers import modulated_norm
from mova.sampling.guidance import Guidance

FRAMES = 3  # of the golden inputs


@pytest.fixture(scope="module")
def kjnodes(host_place, tmp_path_factory):
    with pack_server(host_place, tmp_path_factory.mktemp("kjnodes"), "ComfyUI-KJNodes") as server:
        yield server


def sample(bench, model, steps=3):
    """As `headless` does it outside ComfyUI, without guidance."""
    guider = bench.add("BasicGuider", model=model, conditioning=ref(bench.given))
    sigmas = ref(bench.add("MOVAScheduler", steps=steps, shift=5.0, denoise=1.0))
    return ref(bench.custom(ref(guider), sigmas, ref(bench.given, 3), ref(bench.given, 2)))


def sampled(kjnodes, *patches, given=GIVEN["file"], steps=3):
    """Latents without a patch and with each of them: (node, its inputs)."""
    bench = Bench(kjnodes)
    bench.given = bench.add("ProbeGiven", file=given)
    models = [bench.plain_model]
    for node, inputs in patches:
        named = inputs(bench) if callable(inputs) else inputs
        models.append(ref(bench.add(node, model=bench.plain_model, **named)))
    return bench.results(*(sample(bench, model, steps) for model in models))


@contextmanager
def forward_of(part, method):
    """Our own model with another forward in that part of each video block."""
    modules = [getattr(block, part) for block in golden_model("high").blocks]
    for module in modules:
        module.forward = MethodType(method, module)
    try:
        yield
    finally:
        for module in modules:
            del module.forward


def assert_is(found, wanted):
    assert error(to_model_scale(found["video"]), wanted[0]) < 1e-5
    assert error(found["audio"], wanted[1]) < 1e-5


def nag(scale, alpha=0.25, tau=2.5):
    return "WanVideoNAG", lambda bench: {
        "conditioning": ref(bench.given, 1), "nag_scale": scale, "nag_alpha": alpha, "nag_tau": tau,
    }  # fmt: skip


def test_nag_gives_a_negative_prompt_without_guidance_by_its_formula(kjnodes):
    """Normalized Attention Guidance, Chen et al., arXiv 2505.21179, eqs. 7-10, in the video's attention to the text."""
    from golden import joint_inputs

    scale, alpha, tau = 11.0, 0.25, 2.5
    negative = golden_model("high").text_embedding(joint_inputs(KIND)["negative_text"])

    def guided(self, x, context, **_):
        q = self.norm_q(self.q(x))
        good, bad = (
            sdpa(q, self.norm_k(self.k(c)), self.v(c), self.num_heads) for c in (context, negative.expand_as(context))
        )
        away = good * scale - bad * (scale - 1)
        norms = [one.abs().sum(-1, keepdim=True) for one in (good, away)]
        away = away * torch.where(norms[1] > tau * norms[0], tau * norms[0] / norms[1], 1.0)
        return self.o(away * alpha + good * (1 - alpha))

    plain, found, trivial = sampled(kjnodes, nag(scale, alpha, tau), nag(1.0, alpha, tau))
    with torch.no_grad(), forward_of("cross_attn", guided):
        assert_is(found, headless(3, 3, Guidance(1.0)))
    assert differ(trivial, plain) < 1e-5 and differ(found, plain) > 1e-3


def test_enhance_a_video_by_its_formula(kjnodes):
    """Enhance-A-Video, Luo et al., arXiv 2502.07508: attention weighed by how much frames look at each other."""
    weight = 6.0
    node = "WanVideoEnhanceAVideoKJ", lambda bench: {"latent": bench.video(ref(bench.given, 2)), "weight": weight}

    def enhanced(self, x, freqs, modulation, kernels):
        x, rotation = modulated_norm(x, *modulation, self.eps), freqs.whole()
        rows, heads = slice(0, x.shape[1]), self.num_heads
        q, k = (
            rotation(split_heads(norm(layer(x)), heads), rows).flatten(2)
            for layer, norm in ((self.q, self.norm_q), (self.k, self.norm_k))
        )
        out = self.o(sdpa(q, k, self.v(x), heads))
        by_place = [split_heads(one, heads).unflatten(1, (FRAMES, -1)).permute(0, 2, 3, 1, 4) for one in (q, k)]
        between = (by_place[0] @ by_place[1].mT / self.head_dim**0.5).softmax(-1)
        mean = (between.sum((-1, -2)) - between.diagonal(dim1=-2, dim2=-1).sum(-1)) / (FRAMES * (FRAMES - 1))
        return out * (mean.mean() * (FRAMES + weight)).clamp(min=1)

    plain, found = sampled(kjnodes, node)
    with forward_of("self_attn", enhanced):
        assert_is(found, headless(3, 3, Guidance(1.0)))
    assert differ(found, plain) > 1e-3


def test_a_feed_forward_in_chunks_gives_the_same(kjnodes):
    shapes = CASES[f"joint_{KIND}"]["inputs"]
    large = {name: numbers(f"large {name}", *shape) for name, shape in shapes.items()}
    large["video"] = numbers("large video", 1, 36, 3, 40, 40)  # 1200 tokens: fewer than 1024 stay whole
    save_file(large, kjnodes.base / "input/large.safetensors")
    before = len(kjnodes.logged())
    chunks = "WanChunkFeedForward", {"chunks": 4, "dim_threshold": 1024}
    plain, found = sampled(kjnodes, chunks, given="large.safetensors", steps=1)
    assert differ(found, plain) < 1e-5
    assert "Traceback" not in kjnodes.logged()[before:]


def test_riflex_moves_the_frames_positions_only(kjnodes):
    """RIFLEx, Zhao et al., arXiv 2502.15894: the k-th frequency of the time axis is 0.9 turns over the whole clip."""
    from mova.model.rope import TurnPairs

    node = "ApplyRifleXRoPE_WanVideo", lambda bench: {"latent": bench.video(ref(bench.given, 2)), "k": 4}
    plain, found = sampled(kjnodes, node)
    model = golden_model("high")
    own = model.rotations

    def slowed(grid, *rest):
        rotations = own(grid, *rest)
        table = rotations.video.table.clone().unflatten(0, grid)
        angle = 0.9 * 2 * torch.pi / FRAMES * torch.arange(grid[0], dtype=torch.float64)
        table[..., 3] = torch.polar(torch.ones_like(angle), angle).to(table.dtype)[:, None, None]
        return rotations._replace(video=TurnPairs(table.flatten(0, 2)))

    model.rotations = slowed
    try:
        assert_is(found, headless(3, 3, Guidance(1.0)))
    finally:
        del model.rotations
    assert differ(found, plain) > 1e-4


def test_all_of_them_together_run_and_leave_the_model_as_it_was(kjnodes):
    bench = Bench(kjnodes)
    model = bench.plain_model
    for node, inputs in (
        nag(11.0),
        ("WanVideoEnhanceAVideoKJ", lambda bench: {"latent": bench.video(ref(bench.given, 2)), "weight": 6.0}),
        ("WanChunkFeedForward", lambda bench: {"chunks": 4, "dim_threshold": 1024}),
    ):
        model = ref(bench.add(node, model=model, **inputs(bench)))
    both = model, bench.plain_model
    found, after = bench.results(*(sample(bench, model) for model in both))
    assert_is(after, headless(3, 3, Guidance(1.0)))
    assert differ(found, after) > 1e-3
