"""ComfyUI's loaders and model patches."""

from bench import Bench, differ
from graphs import golden_model, numbers, ref, to_model_scale
from safetensors.torch import save_file

from . import assert_golden, changes, tried


@tried("Models", "UNETLoader", "a file of one expert")
def _(bench):
    """As our own loop outside ComfyUI does it."""
    guider = bench.add("BasicGuider", model=bench.plain_model, conditioning=ref(bench.given))
    sigmas = ref(bench.add("MOVAScheduler", steps=3, shift=5.0, denoise=1.0))
    (found,) = bench.results(ref(bench.custom(ref(guider), sigmas, ref(bench.given, 3), ref(bench.given, 2))))
    assert_golden(found, 1.0)


@tried("Models", "UNETLoader", "weight_dtype fp8_e4m3fn", note="weights are rounded")
def _(bench):
    model = ref(bench.add("UNETLoader", unet_name="mova_high.safetensors", weight_dtype="fp8_e4m3fn"))
    found, plain = bench.results(bench.sample(model), bench.sample(bench.plain_model))
    assert 1e-6 < differ(found, plain) < 0.5


@tried(
    "Models",
    "LoraLoaderModelOnly",
    "a LoRA for Wan 2.1 14B or for MOVA, by tensor names",
    note="names that begin with diffusion_model. or lora_unet_; others are skipped with a line in the log, and "
    "modulation is not changed: MOVA LoRA Loader takes both",
)
def _(bench):
    folder = bench.server.base / "models/loras"
    folder.mkdir(exist_ok=True)
    names = "diffusion_model.blocks.0.cross_attn.v", "diffusion_model.audio_dit.blocks.0.self_attn.q"
    state = golden_model("high").state_dict()
    lora = {}
    for name in names:
        wide, high = state[f"{name.removeprefix('diffusion_model.')}.weight"].shape[::-1]
        lora |= {f"{name}.lora_A.weight": numbers(f"{name}a", 4, wide) / 16}
        lora |= {f"{name}.lora_B.weight": numbers(f"{name}b", high, 4)}
    save_file(lora, folder / "compatibility.safetensors")
    models = [bench.plain_model]
    for strength in (0.5, 1.0):
        inputs = {"lora_name": "compatibility.safetensors", "strength_model": strength}
        models.append(ref(bench.add("LoraLoaderModelOnly", model=bench.plain_model, **inputs)))
    plain, half, whole = bench.results(*map(bench.sample, models))
    assert min(differ(half, plain), differ(whole, plain), differ(whole, half)) > 1e-6


@tried("Models", "ModelSamplingSD3", "shift of both modalities")
def _(bench):
    shifted = ref(bench.add("ModelSamplingSD3", model=bench.plain_model, shift=3.0))
    joint = bench.joint(bench.plain_model, bench.given, steps=5, video_shift=3.0, audio_shift=3.0)
    models = shifted, bench.plain_model
    found, plain, wanted = bench.results(*(bench.sample(model, steps=5) for model in models), ref(joint))
    assert differ(found, wanted) < 1e-5 < differ(found, plain)


CACHE = {"reuse_threshold": 3.0, "start_percent": 0.0, "end_percent": 1.0, "verbose": False}
changes("EasyCache", "skips steps of both modalities", settings={"steps": 8}, **CACHE)
changes("LazyCache", "skips steps of both modalities", settings={"steps": 8}, **CACHE)


@tried("Models", "TorchCompileModel", "backend inductor", slow=True)
def _(bench):
    compiled = ref(bench.add("TorchCompileModel", model=bench.plain_model, backend="inductor"))
    found, plain = bench.results(bench.sample(compiled, steps=2), bench.sample(bench.plain_model, steps=2))
    assert differ(found, plain) < 1e-4


@tried(
    "Models",
    "ModelMergeSimple",
    "two experts",
    note="the blocks' modulation vectors stay those of model1, as ComfyUI's patches leave out Wan's, too",
)
def _(bench):
    high, low = (golden_model(name).state_dict() for name in ("high", "low"))
    mixed = {name: 0.25 * value + 0.75 * low[name] for name, value in high.items()}
    mixed |= {name: value for name, value in high.items() if name.endswith(".modulation")}
    save_file(mixed, bench.server.base / "models/diffusion_models/compatibility_mixed.safetensors")
    other = bench.model("mova_low")
    merged = ref(bench.add("ModelMergeSimple", model1=bench.plain_model, model2=other, ratio=0.25))
    models = merged, bench.model("compatibility_mixed"), bench.plain_model
    found, wanted, plain = bench.results(*map(bench.sample, models))
    assert differ(found, wanted) < 1e-4 < differ(found, plain)


@tried("Models", "ModelSave", "one expert", note="the file no longer says which of the two experts it is")
def _(bench):
    bench.add("ModelSave", model=bench.plain_model, filename_prefix="diffusion_models/compatibility")
    bench.run()
    again = Bench(bench.server)
    saved = again.model("compatibility_00001_")
    found, plain = again.results(again.sample(saved), again.sample(again.plain_model))
    assert differ(found, plain) == 0


changes("SkipLayerGuidanceDiT", "double_layers; a skipped layer is skipped in both towers", double_layers="1",
        single_layers="", scale=3.0, start_percent=0.0, end_percent=1.0, rescaling_scale=0.0)  # fmt: skip
changes("SkipLayerGuidanceDiTSimple", "double_layers; a skipped layer is skipped in both towers", double_layers="1",
        single_layers="", start_percent=0.0, end_percent=1.0)  # fmt: skip
changes("CFGZeroStar", "one factor for video and audio together")
changes("CFGZeroStar", "MOVA Joint Sampler with bridge_cfg or audio_cfg", joint={"bridge_cfg": 2.0})
changes("Epsilon Scaling", "scaling_factor 1.02", scaling_factor=1.02)
changes(
    "RescaleCFG",
    "multiplier 0.7",
    multiplier=0.7,
    does_not="it measures over the dimensions of a picture, and video and audio reach it packed in one row of numbers",
)
changes(
    "RescaleCFG",
    "MOVA Joint Sampler with bridge_cfg or audio_cfg",
    joint={"bridge_cfg": 2.0},
    multiplier=0.7,
    does_not="it mixes the outputs of guidance itself, and knows of two; it is left out, and a notice says so",
)
changes(
    "NAGuidance",
    "its defaults",
    nag_scale=5.0,
    nag_alpha=0.5,
    nag_tau=1.5,
    does_not="it runs without effect: MOVA, like ComfyUI's Wan, does not call what it plugs in (attn1_output_patch)",
)
changes(
    "ScaleROPE",
    "scale_t 2",
    note="positions of the video; the sound keeps its own, and the bridge the real times",
    **{"scale_x": 1.0, "shift_x": 0.0, "scale_y": 1.0, "shift_y": 0.0, "scale_t": 2.0, "shift_t": 0.0},
)


@tried(
    "Models",
    "CFGNorm",
    "strength 1",
    does_not="it runs, but scales each number by itself, not all channels of a place alike: video and audio reach it "
    "packed in one row of numbers",
)
def _(bench):
    """With one step the result is what guidance gave."""
    patched = ref(bench.add("CFGNorm", model=bench.plain_model, strength=1.0))
    found, plain = bench.results(*(bench.sample(model, steps=1) for model in (patched, bench.plain_model)))
    factors = to_model_scale(found["video"]) / to_model_scale(plain["video"])
    assert float(factors.std(dim=1).max()) < 1e-2
