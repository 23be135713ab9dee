"""NaN and infinity, through real workflows: told in one sentence, at the step that made them, and nothing runs on."""

import re

import pytest
import torch
from bench import AUDIO, VIDEO, Bench
from client import refusal
from graphs import ref
from loras import VIDEO as LAYER
from loras import halves, loader, write
from refused import says
from safetensors import safe_open
from safetensors.torch import load_file, save_file

NAN = float("nan")
STEPS = 4
HOW = ["joint", "ksampler", "guider"]


@pytest.fixture(scope="module")
def bad(server, files):
    """A file of the high-noise expert with a NaN in its weights, and one whose numbers are too large for fp16."""
    models = files / "models/diffusion_models"
    with safe_open(models / "mova_high.safetensors", "pt") as file:
        metadata = file.metadata()
    for name, change in (("nan", lambda t: t.view(-1)[:1].fill_(NAN)), ("loud", lambda t: t.mul_(1e6))):
        state = load_file(models / "mova_high.safetensors")
        change(state["blocks.0.ffn.2.weight"])
        save_file(state, models / f"{name}_high.safetensors", metadata)
    return files


def sampled(bench, model, how="joint", **inputs):
    """A run of four steps with this model."""
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    if how == "joint":
        made = bench.joint(model, bench.given, steps=STEPS, **inputs)
    elif how == "ksampler":
        made = bench.ksampler(model, bench.given, steps=STEPS, **inputs)
    else:
        guider = ref(bench.add("MOVAGuider", model=model, cfg=2.0, bridge_cfg=1.5, **conds))
        sigmas = ref(bench.add("MOVAScheduler", steps=STEPS, shift=5.0, denoise=1.0))
        made = bench.custom(guider, sigmas, ref(bench.add("RandomNoise", noise_seed=7)), ref(bench.given, 2), **inputs)
    bench.save(ref(made))
    return made


def evaluations(server, how, call):
    """What is told if the outputs are NaN from this evaluation on (0-based), and how many evaluations there were."""
    bench, before = Bench(server), len(server.logged())
    sampled(bench, ref(bench.add("ProbeNanAt", model=bench.plain_model, call=call)), how)
    told = server.run(bench.nodes).error
    return told, len(re.findall(r"evaluation \d+", server.logged()[before:]))


@pytest.mark.parametrize("how", HOW)
def test_nan_in_an_expert_s_weights_is_told_in_the_first_step(server, bad, how):
    bench = Bench(server)
    sampled(bench, bench.model("nan_high"), how)
    message = refusal(server, bench)
    assert f"The high-noise expert made NaN or infinite values in step 1 of its {STEPS} " in message
    assert says(message, "its weights hold them ('blocks.0.ffn.2.weight'); download or convert the file again.")


@pytest.mark.parametrize("weight_dtype", ["fp8_e4m3fn", "fp8_e5m2"])
def test_nan_in_quantised_weights(server, bad, weight_dtype):
    bench = Bench(server)
    sampled(bench, ref(bench.add("UNETLoader", unet_name="nan_high.safetensors", weight_dtype=weight_dtype)))
    assert "step 1 of its 4 (sigma 1): its weights hold them ('blocks.0.ffn.2.weight')" in refusal(server, bench)


def test_numbers_that_are_too_large_for_fp16(server, bad):
    bench = Bench(server)
    model = bench.model("loud_high")
    sampled(bench, ref(bench.add("ModelComputeDtype", model=model, dtype="fp16")))
    message = refusal(server, bench)
    assert says(message, "step 1 of its 4 (sigma 1): numbers grow too large for fp16; put ModelComputeDtype with bf16")
    sampled(fine := Bench(server), ref(fine.add("ModelComputeDtype", model=fine.model("loud_high"), dtype="fp32")))
    assert server.run(fine.nodes).error is None, "the way out is one"


@pytest.mark.parametrize("how", HOW)
def test_the_run_stops_at_the_step_where_nan_arises_and_the_next_run_is_as_ever(server, files, how):
    """As from a broken kernel: the numbers of one evaluation are wrong, and the weights are not."""
    told, calls = evaluations(server, how, 99)
    assert told is None and calls % STEPS == 0
    each = calls // STEPS
    for step in range(STEPS):
        told, calls = evaluations(server, how, step * each)
        assert f"The high-noise expert made NaN or infinite values in step {step + 1} of its {STEPS} " in told
        assert "its weights are finite, so it is what is plugged into it" in told and "\n" not in told
        assert calls == step * each + 1, "not one evaluation more"
    assert evaluations(server, how, 99)[0] is None


def test_a_sampler_that_loses_the_latent_is_told_of_as_such(server, files):
    bench = Bench(server)
    conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
    guider = ref(bench.add("BasicGuider", model=bench.plain_model, conditioning=conds["positive"]))
    sigmas = ref(bench.add("MOVAScheduler", steps=STEPS, shift=5.0, denoise=1.0))
    sampler, noise = ref(bench.add("ProbeNanSampler")), ref(bench.add("RandomNoise", noise_seed=7))
    latent = ref(bench.given, 2)
    made = bench.add(
        "SamplerCustomAdvanced", noise=noise, guider=guider, sampler=sampler, sigmas=sigmas, latent_image=latent
    )
    bench.save(ref(made))
    message = refusal(server, bench)
    assert "The sampler made NaN or infinite values before step 3 of its 4" in message and "lower cfg" in message


def test_a_lora_of_the_core_loader_with_nan_is_named(server, files):
    tensors = halves(LAYER, f"diffusion_model.{LAYER}")
    tensors[f"diffusion_model.{LAYER}.lora_B.weight"][0, 0] = NAN
    name = write(files, "nan_core.safetensors", tensors)
    bench = Bench(server)
    lora = bench.add("LoraLoaderModelOnly", model=bench.plain_model, lora_name=name, strength_model=1.0)
    sampled(bench, ref(lora), "ksampler")
    message = refusal(server, bench)
    assert f"step 1 of its 4 (sigma 1): a LoRA on it holds them (for 'diffusion_model.{LAYER}.weight')" in message


def test_loras_that_drive_the_weights_to_infinity(server, files):
    parts = {f"diffusion_model.{LAYER}.diff": torch.full((256, 256), 3e38)}
    name = write(files, "strong.safetensors", parts)
    bench = Bench(server)
    sampled(bench, ref(loader(bench, name, bench.plain_model, video=100.0)))
    message = refusal(server, bench)
    assert "step 1 of its 4 (sigma 1): LoRAs drive its weights there" in message and "Lower their strength" in message


# ---- what is given, before any weight is loaded


def before_weights(server, bench):
    before = len(server.logged())
    message = refusal(server, bench)
    assert "weights are asked for" not in server.logged()[before:]
    return message


@pytest.mark.parametrize("part", ["video", "audio"])
@pytest.mark.parametrize("value", [NAN, float("inf")])
@pytest.mark.parametrize("how", ["joint", "guider", "separate", "combine"])
def test_nan_in_a_latent_is_told_by_our_nodes(server, files, part, value, how):
    bench = Bench(server)
    parts = {"video": torch.ones(VIDEO), "audio": torch.ones(AUDIO)}
    parts[part].view(-1)[7] = value
    latent = bench.latent(**parts)
    if how == "separate":
        bench.save(ref(bench.add("MOVASeparateLatent", latent=latent)))
    elif how == "combine":
        bench.save(ref(bench.add("MOVACombineLatent", video=latent, audio=latent)))
    elif how == "joint":
        bench.save(ref(bench.joint(bench.plain_model, bench.given, latent)))
    else:
        conds = {"positive": ref(bench.given), "negative": ref(bench.given, 1)}
        guider = ref(bench.add("MOVAGuider", model=bench.plain_model, cfg=2.0, **conds))
        sigmas = ref(bench.add("MOVAScheduler", steps=STEPS, shift=5.0, denoise=1.0))
        bench.save(ref(bench.custom(guider, sigmas, ref(bench.add("RandomNoise", noise_seed=7)), latent)))
    assert f"The {part} latent" in (message := before_weights(server, bench)) and "holds NaN or infinite" in message


def test_nan_in_the_latent_of_a_core_sampler(server, files):
    bench = Bench(server)
    latent = bench.latent(video=torch.full(VIDEO, NAN), audio=torch.ones(AUDIO))
    bench.save(ref(bench.ksampler(bench.plain_model, bench.given, latent, denoise=0.5)))
    assert "The latent that is given to the sampler holds NaN or infinite values" in refusal(server, bench)


@pytest.mark.parametrize("node", ["MOVAAudioDecode", "VAEDecodeAudio"])
def test_nan_in_an_audio_latent_to_be_decoded(server, files, node):
    bench = Bench(server)
    latent = bench.latent(video=torch.ones(VIDEO), audio=torch.full(AUDIO, NAN))
    vae = {"audio_vae" if node == "MOVAAudioDecode" else "vae": bench.audio_vae()}
    decoded = bench.add(node, samples=latent, **vae)
    bench.add("ProbeSaveAudio", audio=ref(decoded), name="nan.st")
    assert "The audio latent to be decoded holds NaN or infinite values" in refusal(server, bench)


@pytest.mark.parametrize("entry", ["text", "concat_latent_image", "concat_mask"])
@pytest.mark.parametrize("how", ["joint", "ksampler"])
def test_nan_in_a_conditioning_is_told_before_the_weights_are_asked_for(server, files, entry, how):
    bench = Bench(server)
    positive = ref(bench.add("ProbeNanText", conditioning=ref(bench.given), entry=entry))
    made = sampled(bench, bench.plain_model, how)
    bench.nodes[made]["inputs"]["positive"] = positive
    named = {"text": "text", "concat_latent_image": "picture", "concat_mask": "mask"}[entry]
    assert f"The conditioning's {named} holds NaN or infinite values" in before_weights(server, bench)


def test_nan_is_not_saved_in_a_conditioning_and_not_read_from_one(server, files):
    bench = Bench(server)
    text = ref(bench.add("ProbeNanText", conditioning=ref(bench.given), entry="text"))
    bench.add("MOVASaveConditioning", conditioning=text, filename_prefix="nan")
    assert says(refusal(server, bench), "The conditioning holds NaN or infinite values; encode the text again.")
    tensors = {"0": torch.ones(1, 20, 4096), "0.concat_latent_image": torch.full((1, 16, 3, 8, 12), NAN)}
    save_file(tensors, files / "input/burst.conditioning.safetensors", {"mova_conditioning": "[{}]"})
    loading = Bench(server)
    loaded = loading.add("MOVALoadConditioning", file="burst.conditioning.safetensors")
    loading.add("ProbeSaveConditioning", conditioning=ref(loaded), name="c.st")
    assert "holds no usable text features (none, or NaN or infinite values)" in refusal(server, loading)


def test_a_text_encoder_that_makes_nan(server, files):
    bench = Bench(server)
    clip = ref(bench.add("ProbeNanClip", clip=ref(bench.add("ProbeClip"))))
    texts = bench.add("MOVATextEncode", clip=clip, prompt="a cat sings", negative_prompt="a dog")
    bench.add("ProbeSaveConditioning", conditioning=ref(texts), name="c.st")
    message = refusal(server, bench)
    assert says(message, "What the text encoder made of the prompt holds NaN or infinite values; start ComfyUI with")


@pytest.mark.parametrize("slot", ["start_image", "end_image"])
def test_nan_in_a_given_picture(server, files, slot):
    images = torch.rand(2, 64, 96, 3)
    images[0, 3, 4, 1] = NAN
    save_file({"images": images}, files / "input/nan_picture.safetensors")
    bench = Bench(server)
    picture = ref(bench.add("ProbeImages", file="nan_picture.safetensors", sample_rate=48000))
    made = bench.conditioning(**{slot: picture})
    bench.save(ref(made, 2))
    assert says(refusal(server, bench), f"The picture in {slot} holds NaN or infinite values; look at the node")
    images[0, 3, 4, 1] = 0.5
    images[1, 0] = NAN  # a picture that is not used
    save_file({"images": images}, files / "input/nan_second.safetensors")
    bench = Bench(server)
    picture = ref(bench.add("ProbeImages", file="nan_second.safetensors", sample_rate=48000))
    bench.save(ref(bench.conditioning(**{slot: picture}), 2))
    assert server.run(bench.nodes).error is None


def test_a_vae_that_makes_nan_of_a_picture(server, files):
    bench = Bench(server)
    bench.save(ref(bench.conditioning(ref(bench.add("ProbeNanVAE", vae=bench.wan_vae()))), 2))
    message = refusal(server, bench)
    sentence = "What the VAE in vae made of the pictures holds NaN or infinite values; it may overflow in fp16"
    assert says(message, sentence)


def test_nan_of_the_second_expert_is_told_by_its_name_and_ends_the_run_there(server, files):
    """As in the shipped workflows: the first expert's steps are done, the second one's first is the last."""
    state = load_file(files / "models/diffusion_models/mova_low.safetensors")
    with safe_open(files / "models/diffusion_models/mova_low.safetensors", "pt") as file:
        metadata = file.metadata()
    state["blocks.0.self_attn.q.weight"][0, 0] = NAN
    save_file(state, files / "models/diffusion_models/nan_low.safetensors", metadata)
    bench = Bench(server)
    node = bench.joint(bench.plain_model, bench.given, steps=6, model_low=bench.model("nan_low"))
    bench.save(ref(node))
    result = server.run(bench.nodes)
    assert "The low-noise expert made NaN or infinite values in step 1 of its " in result.error
    assert "'blocks.0.self_attn.q.weight'" in result.error
    done = max(value for where, value, _ in result.progress if where == node)
    assert result.node == node and 1 < done < 6, "a clip that is black and OK, or a run to its end"
