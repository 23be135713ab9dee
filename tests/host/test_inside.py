"""What the host's own parts do with ours where no workflow on a processor gets: fast fp8, torch.compile, samplers."""

import json

from inside import COMPILED, run_inside
from slow import slow

FAST_FP8 = """
from dataclasses import asdict
import comfy.ops
from pack.mova import JointModel
from pack.mova.tools import tiny
from pack.mova.model.bridge import BridgeInput
from pack.mova.model.kernels import Kernels
from pack.nodes.host.family import register
from pack.nodes.loaders import FAST, Expert, build_expert

register()
comfy.model_management.supports_fp8_compute = lambda *_: True
state = tiny.random_state(JointModel(tiny.CONFIG, device="meta"), torch.Generator().manual_seed(0))
state |= {name: tensor * 0 for name, tensor in state.items() if name.endswith(".inner.o.bias")}
model = build_expert(Expert("tiny", state, asdict(tiny.CONFIG), {}), FAST).model.diffusion_model
assert isinstance(model.blocks[0].ffn[0], comfy.ops.fp8_ops.Linear), "the towers are fast"
dims = tiny.CONFIG.video_dit.dim, tiny.CONFIG.audio_dit.dim
video, audio = (torch.randn(1, 8, dim).mul(2000).bfloat16() for dim in dims)
before = video.clone(), audio.clone()
with torch.inference_mode():
    model.blocks[0].ffn[0](clamped := video.clone())
    assert clamped.abs().max() == 448, "this host does not clamp: the bridge can be fast, too"
    for layer in range(len(model.audio_dit.blocks)):
        # Attention that adds nothing: the tokens change only by what is done to them in place.
        model.dual_tower_bridge(layer, video, audio, BridgeInput(Kernels(lambda q, *_: torch.zeros_like(q))))
assert torch.equal(video, before[0]) and torch.equal(audio, before[1]), "the tokens are clamped"
"""


def test_fast_fp8_leaves_the_tokens_alone(host_place):
    """Its Linear clamps what it is given to 448 in place, which the bridge gives it without a norm in between."""
    run_inside(host_place, FAST_FP8)


QUANTISED = """
import json
import comfy.ops
from comfy.quant_ops import QUANT_ALGOS, QuantizedTensor

x = torch.randn(64, 256).mul(2000).bfloat16()
tried = []
for name, algorithm in QUANT_ALGOS.items():
    given = x.clone()
    try:
        QuantizedTensor.from_float(given, algorithm["comfy_tensor_layout"], scale=None)
    except Exception as error:
        print(name, error, file=sys.stderr)
    else:
        tried.append(name)
    assert torch.equal(given, x), name
print(json.dumps(tried))
"""


def test_the_host_s_quantised_layers_leave_their_inputs_alone(host_place):
    tried = json.loads(run_inside(host_place, QUANTISED).splitlines()[-1])
    assert "float8_e4m3fn" in tried and len(tried) >= 3


SETTINGS = """
names = "audio_shift_ratio", "a2v_scale", "v2a_scale"
values = (1.0, 1.0, 1.0), (1.0, 1.0, 1.0), (0.2, 0.5, 0.0), (0.2, 0.5, 0.0)
print(json.dumps(compile_counts({"frame_rate": 24.0, **dict(zip(names, these))} for these in values)))
"""


@slow("test_hooks_compile does it block by block")
def test_a_compiled_model_compiles_once_and_takes_new_settings(host_place):
    """The host drops the guards of all that is in transformer_options."""
    first, second, third, fourth = json.loads(run_inside(host_place, COMPILED + SETTINGS).splitlines()[-1])
    assert 0 < first == second, "the second step compiles again"
    assert third == fourth


SAMPLERS = """
import json, types
import comfy.model_sampling, comfy.samplers
from pack.mova.sampling.audio_shift import shift_audio

SPREAD = 0.5  # of the data, which are normal, so that the best velocity is known


class Sampling(comfy.model_sampling.ModelSamplingDiscreteFlow, comfy.model_sampling.CONST):
    pass


sampling = Sampling()
sampling.set_parameters(shift=5.0, multiplier=1000)
sigmas = comfy.samplers.simple_scheduler(sampling, 100)


def velocity(x, timestep):
    sigma = timestep.view(-1, 1, 1) / 1000
    return x * (sigma - (1 - sigma) * SPREAD**2) / ((1 - sigma) ** 2 * SPREAD**2 + sigma**2)


class Guider:
    cfg = 1.0  # the host's log says it, and the model's class

    def __init__(self, ratio):
        self.ratio = ratio
        patcher = types.SimpleNamespace(get_model_object=lambda name: sampling, model=None)
        self.inner_model = types.SimpleNamespace(
            model_sampling=sampling, model_patcher=patcher, scale_latent_inpaint=self.inpaint
        )
        self.model_patcher = patcher

    def inpaint(self, sigma, noise, latent_image, **_):
        sigma = sigma.reshape(-1, 1, 1)
        return sampling.noise_scaling(sigma, noise, latent_image)

    def __call__(self, x, sigma, model_options=None, seed=None):
        seen, timestep, finish = shift_audio(x, sigma * 1000, self.ratio)
        denoised = x - sigma.view(-1, 1, 1) * finish(velocity(seen, timestep))
        for function in (model_options or {}).get("sampler_post_cfg_function", []):
            function({"denoised": denoised, "uncond_denoised": denoised, "cond_denoised": denoised})
        return denoised


def spread(name, ratio):
    torch.manual_seed(0)
    # As MovaGuider.sample: noise as it comes, given sound and result in the sampler's scale.
    noise, given = torch.randn(1, 128, 100), torch.randn(1, 128, 100) * SPREAD / ratio
    mask = torch.ones_like(noise)
    mask[:, :64] = 0  # the half of the sound is kept
    made = comfy.samplers.sampler_object(name).sample(
        Guider(ratio), sigmas, {"seed": 1, "model_options": {}}, None, noise, given, mask, True
    ) * ratio
    return float(made[:, :64].std()), float(made[:, 64:].std())


names = [name for name in comfy.samplers.SAMPLER_NAMES if not name.endswith("_gpu")]  # those draw noise on a card
print(json.dumps({name: [spread(name, ratio) for ratio in (1.0, 0.5, 2.0)] for name in names}))
"""


# The host's own code for these takes models of another kind for granted: they are wrong with any shifts.
NOT_FOR_FLOW = "ddpm", "res_multistep_ancestral", "res_multistep_ancestral_cfg_pp"


def test_sound_on_a_schedule_of_its_own_is_as_loud_with_every_sampler(host_place):
    """Also with those that add noise themselves."""
    found = json.loads(run_inside(host_place, SAMPLERS).splitlines()[-1])
    assert len(found) > 30
    for name, (equal, *others) in found.items():
        if name in NOT_FOR_FLOW:
            assert abs(equal[1] - 0.5) > 0.05, "right by itself, so it should be right here"
            continue
        for one in others:
            for spread, wanted in zip(one, equal, strict=True):
                assert abs(spread - wanted) < 0.1 * wanted, (name, found[name])


HANDOVER = """
import comfy.samplers
from comfy.k_diffusion.sampling import default_noise_sampler
from pack.nodes.host.two_experts import Handover

for seed in 7, 2**64 - 2:
    drawn = []

    def sampler(model, x, sigmas, extra_args, **_):
        drawn.append(default_noise_sampler(x, seed=extra_args["seed"])(1.0, 0.9))
        return x

    handover = Handover(comfy.samplers.KSAMPLER(sampler))
    for _ in range(2):
        handover.run(None, torch.zeros(1, 1, 4), torch.ones(2), extra_args={"seed": seed})
    assert torch.equal(drawn[0], default_noise_sampler(torch.zeros(1, 1, 4), seed=seed)(1.0, 0.9))
    assert not torch.equal(*drawn)
"""


def test_the_second_expert_s_steps_draw_other_noise_than_the_first_s(host_place):
    run_inside(host_place, HANDOVER)
