"""ComfyUI's own nodes on a MOVA file."""

import pytest
from bench import differ
from client import made, ran, refusal
from golden import CASES, error, expected
from graphs import CONFIG, EXPERTS, GIVEN, KIND, Graph, golden_model, headless, numbers, ref, to_model_scale
from safetensors.torch import save_file

from mova.sampling.conditioning import audio_latents, latent_frames
from mova.sampling.guidance import Guidance


def about(server, name, weight_dtype="default"):
    graph = Graph()
    model = graph.add("UNETLoader", unet_name=f"{name}.safetensors", weight_dtype=weight_dtype)
    node = graph.add("ProbeAbout", model=ref(model))
    result = ran(server, graph)
    return result.outputs[node]["about"][0]


def test_the_pack_loads_without_a_warning(server):
    log = server.log.read_text().split("To see the GUI go to")[0]  # the start: other tests provoke errors
    lines = [line for line in log.splitlines() if "mova" in line.lower()]
    assert any("seconds" in line and "comfyui-mova" in line for line in lines)
    assert not any(word in line for line in lines for word in ("WARN", "ERROR", "FAILED", "Traceback")), lines


@pytest.mark.parametrize(
    ("name", "expert"), [("mova_high", "high_noise"), ("mova_low", "low_noise"), ("bare_high", None)]
)
def test_the_core_loader_knows_a_mova_file(server, files, name, expert):
    found = about(server, name)
    assert found["family"] == "MOVA"
    assert found["expert"] == expert
    assert found["shift"] == 5.0


def test_the_rotary_tables_end_with_the_run(server, files):
    """The host can neither count nor unload them."""
    forward(server, "mova_high", CASES[f"joint_{KIND}"]["cases"][0])  # no sampler, so that nothing ends
    assert about(server, "mova_high")["tables"]
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    graph.save(ref(graph.joint(graph.model("mova_high"), given)))
    assert server.run(graph.nodes).error is None
    assert not about(server, "mova_high")["tables"]


def test_a_plain_wan_file_loads_as_before(server, files):
    assert about(server, "wan")["family"] == "WAN21"


@pytest.mark.parametrize(
    ("width", "height", "frames", "measured"),  # GiB, with the released model in bf16 and all heads at once
    [(640, 352, 193, 2.10), (1280, 720, 193, 8.53), (1920, 1072, 205, 20.01), (2560, 1440, 205, 35.83)],
)
def test_the_host_reserves_what_a_forward_needs_and_little_more(server, files, width, height, frames, measured):
    factor = about(server, "mova_high")["memory_factor"] * 5120 / CONFIG["video_dit"]["dim"]
    numbers = 16 * latent_frames(frames) * (height // 8) * (width // 8) + 128 * audio_latents(frames, 24.0)
    reserved = numbers * 2 * 0.01 * factor / 1024  # the host's formula for fused attention, of bf16
    assert measured <= reserved < 1.1 * measured


def forward(server, model, case, weight_dtype="default"):
    graph = Graph()
    loader = graph.add("UNETLoader", unet_name=f"{model}.safetensors", weight_dtype=weight_dtype)
    scales = {name: case.get(f"{name[:3]}_condition_scale", 1.0) for name in ("a2v_scale", "v2a_scale")}
    out = graph.add("ProbeForward", model=ref(loader), file=GIVEN["file"], timestep=case["video_timestep"], **scales)
    saved = graph.save(ref(out))
    result = ran(server, graph)
    return server.tensors(result, saved)


@pytest.mark.parametrize("prefix", ["mova", "bare"])
@pytest.mark.parametrize("index", [0, 1, 4, 5])  # those with one timestep for both modalities at 24 frames a second
def test_one_forward_equals_the_published_code(server, files, index, prefix):
    case = CASES[f"joint_{KIND}"]["cases"][index]
    name = next(name for name, part in EXPERTS.items() if part == case["expert"])
    found, wanted = forward(server, f"{prefix}_{name}", case), expected(f"joint_{KIND}")
    for modality in ("video", "audio"):
        assert error(found[modality], wanted[f"case{index}.{modality}_velocity"]) < 1e-5


@pytest.mark.parametrize(
    ("name", "weight_dtype", "tolerance"), [("half_high", "default", 0.05), ("mova_high", "fp8_e4m3fn", 0.3)]
)
def test_weights_in_fewer_bits_give_about_the_same(server, files, name, weight_dtype, tolerance):
    case, wanted = CASES[f"joint_{KIND}"]["cases"][0], expected(f"joint_{KIND}")
    found = forward(server, name, case, weight_dtype)
    for modality in ("video", "audio"):
        assert 1e-6 < error(found[modality], wanted[f"case0.{modality}_velocity"]) < tolerance


@pytest.mark.parametrize("cfg", [1.0, 5.0])
def test_the_core_samplers_run_the_same_loop_as_we_do(server, files, cfg):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    model = graph.model("mova_high")
    guider = graph.add("CFGGuider", model=model, positive=ref(given, 0), negative=ref(given, 1), cfg=cfg)
    schedule = graph.add("BasicScheduler", model=model, scheduler="simple", steps=4, denoise=1.0)
    out = graph.custom(ref(guider), ref(schedule), ref(given, 3), ref(given, 2))
    saved, x0 = graph.save(ref(out)), graph.save(ref(out, 1), "x0.safetensors")
    apart = graph.add("LTXVSeparateAVLatent", av_latent=ref(out))
    parts = [graph.save(ref(apart, i), f"part{i}.safetensors") for i in range(2)]
    result = ran(server, graph)
    video, audio = headless(4, 4, Guidance(cfg))
    for node in (saved, x0):
        found = server.tensors(result, node)
        assert error(to_model_scale(found["video"]), video) < 1e-5
        assert error(found["audio"], audio) < 1e-5
    found = [server.tensors(result, part)["samples"] for part in parts]
    assert error(to_model_scale(found[0]), video) < 1e-5 and error(found[1], audio) < 1e-5
    assert [value for _, value, _ in result.progress if value] == [1, 2, 3, 4]
    assert len(result.previews) >= 4, "the core previewer shows the video"


@pytest.mark.parametrize("sampler_name", ["euler", "euler_ancestral", "uni_pc", "dpmpp_2m", "res_multistep", "heun"])
def test_ksampler_runs(server, files, sampler_name):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    saved = graph.save(ref(graph.ksampler(graph.model("mova_high"), given, sampler_name=sampler_name)))
    result = ran(server, graph)
    found = server.tensors(result, saved)
    assert all(part.isfinite().all() for part in found.values())


def test_a_latent_survives_a_denoising_that_does_nothing(server, files):
    """Out of the model's scale and back into it, at a denoise that leaves nearly all: colours stay."""
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    first = graph.ksampler(model, given)
    again = graph.ksampler(model, given, ref(first), steps=1, denoise=0.001)
    nodes = [graph.save(ref(node), f"{node}.safetensors") for node in (first, again)]
    result = ran(server, graph)
    before, after = (server.tensors(result, node) for node in nodes)
    for modality in ("video", "audio"):
        assert error(after[modality], before[modality]) < 0.05


def test_an_image_latent_is_refused_in_one_sentence(server, files):
    graph = Graph()
    given = graph.add("ProbeGiven", **GIVEN)
    image = graph.add("EmptyLatentImage", width=96, height=64, batch_size=1)
    graph.save(ref(graph.ksampler(graph.model("mova_high"), given, ref(image))))
    assert "MOVA samples a video latent" in refusal(server, graph)


def test_a_file_with_missing_tensors_is_refused_in_one_sentence(server, files):
    from safetensors.torch import load_file, save_file

    folder = files / "models/diffusion_models"
    state = load_file(folder / "bare_high.safetensors")
    del state["blocks.1.ffn.2.weight"]
    save_file(state, folder / "broken.safetensors")
    graph = Graph()
    graph.add("ProbeAbout", model=graph.model("broken"))
    assert "lacks blocks.1.ffn.2.weight" in refusal(server, graph)


def test_easycache_skips_steps_of_both_modalities(server, files):
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    cached = graph.add("EasyCache", model=model, reuse_threshold=3.0, start_percent=0.0, end_percent=1.0, verbose=False)
    nodes = [graph.save(ref(graph.ksampler(m, given, steps=8)), f"{m[0]}.safetensors") for m in (model, ref(cached))]
    result = ran(server, graph)
    plain, skipped = (server.tensors(result, node) for node in nodes)
    for modality in ("video", "audio"):
        assert skipped[modality].shape == plain[modality].shape
        assert error(skipped[modality], plain[modality]) > 1e-6
    assert "EasyCache - skipped 0/8" not in server.log.read_text()


@pytest.mark.parametrize(
    ("what", "same"), [("call", True), ("skip", False), ("attention", True), ("half attention", False)]
)
def test_patches_of_blocks_and_attention_take_effect(server, files, what, same):
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    patched = ref(graph.add("ProbePatch", model=model, what=what))
    plain, found = made(server, graph, graph.ksampler(model, given), graph.ksampler(patched, given))
    assert (differ(plain, found) < 1e-6) == same


def test_a_wan_lora_changes_the_model_as_merging_it_would(server, files):
    folder = files / "models/loras"
    folder.mkdir(exist_ok=True)
    down, up = numbers("down", 4, 256) / 16, numbers("up", 256, 4) / 2
    name = "blocks.1.self_attn.q"
    lora = {f"diffusion_model.{name}.lora_A.weight": down, f"diffusion_model.{name}.lora_B.weight": up}
    save_file(lora, folder / "wan.safetensors")
    state = golden_model("high").state_dict()
    merged = {**state, f"{name}.weight": state[f"{name}.weight"] + up @ down}
    save_file(merged, files / "models/diffusion_models/merged.safetensors")
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    with_lora = graph.add("LoraLoaderModelOnly", model=model, lora_name="wan.safetensors", strength_model=1.0)
    models = model, ref(with_lora), graph.model("merged")
    plain, found, wanted = made(server, graph, *(graph.ksampler(m, given) for m in models))
    assert differ(found, wanted) < 1e-5 < 1e-3 < differ(found, plain)


def test_model_sampling_sd3_sets_the_shift(server, files):
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    shifted = ref(graph.add("ModelSamplingSD3", model=model, shift=3.0))
    joint = graph.joint(model, given, steps=5, video_shift=3.0, audio_shift=3.0)
    found, wanted = made(server, graph, graph.ksampler(shifted, given, steps=5), joint)
    assert differ(found, wanted) < 1e-5


def test_ksampler_advanced_runs_as_ksampler(server, files):
    """Without noise of its own, to go on where another ended: test_wan22_graph.py."""
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    settings = {"noise_seed": 7, "steps": 4, "cfg": 2.0, "sampler_name": "euler", "scheduler": "simple"}
    conds, stretch = {"positive": ref(given), "negative": ref(given, 1)}, {"start_at_step": 0, "end_at_step": 10000}
    node = graph.add(
        "KSamplerAdvanced", model=model, latent_image=ref(given, 2), add_noise="enable",
        return_with_leftover_noise="disable", **conds, **settings, **stretch,
    )  # fmt: skip
    found, wanted = made(server, graph, node, graph.ksampler(model, given, steps=4))
    assert differ(found, wanted) < 1e-6
