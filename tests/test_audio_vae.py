import json

import pytest
import torch
from golden import CASES, FIXTURES, audio_vae, drawn, error, expected
from safetensors.torch import load_file

from mova import PRESETS, AudioVAE, AudioVAEConfig, MovaError
from mova.model.audio_vae import plain_weights

# These random nets amplify rounding: values reach 500 before the decoder's tanh, and float32 results differ between
# machines by 1e-2 of the waveform and 7e-5 of the latents, the published code's own included. So its exact outputs are
# compared with what float64 computes here, and float32 must come as close to that as the published float32 does.
ENCODE_NOISE, DECODE_NOISE = 1e-4, 2e-2


@torch.no_grad()
def outputs(vae):
    # 6620 samples are no multiple of the hop: the padding is part of what is compared.
    wave = 0.3 * torch.tanh(torch.from_numpy(drawn("input.dac.wave", (1, 1, 6620))).float())
    latent = torch.from_numpy(drawn("input.dac.latent", (1, 16, 7))).float()
    dtype = vae.post_quant_conv.weight.dtype
    mean, logvar = vae.encode(wave.to(dtype))
    return mean.float(), logvar.float(), vae.decode(latent.to(dtype)).float()


@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_encoding_and_decoding_equal_the_published_code(dtype):
    wanted = expected("dac")
    mean, logvar, waveform = outputs(audio_vae().to(dtype))
    assert waveform.shape == (1, 1, 7 * 960)
    assert error(mean, wanted["encode.mean"]) < ENCODE_NOISE
    assert error(logvar, wanted["encode.logvar"]) < ENCODE_NOISE
    assert error(waveform, wanted["decode.waveform"]) < DECODE_NOISE


def test_a_quieter_net_equals_the_published_code_to_rounding():
    """dac_quiet: the published code's float32 outputs for the same inputs, and convolution weights times 0.7.

    Rounding is not amplified there (float64 differs by 2e-6), so that the comparison can be as strict as the others.
    """
    vae = audio_vae()
    with torch.no_grad():
        for name, parameter in vae.named_parameters():
            if name.endswith("weight"):
                parameter *= 0.7
    found, wanted = outputs(vae), load_file(FIXTURES / "dac_quiet.safetensors")
    for value, name in zip(found, ("encode.mean", "encode.logvar", "decode.waveform"), strict=True):
        assert error(value, wanted[name]) < 1e-5


def test_float32_is_as_close_to_the_exact_value_as_the_published_code():
    wanted, exact, found = expected("dac"), outputs(audio_vae().double()), outputs(audio_vae())
    names = ("encode.mean", "encode.logvar", "decode.waveform")
    for name, ours, true in zip(names, found, exact, strict=True):
        assert error(ours, true) < 2 * error(wanted[name], true)


def tf32():
    cudnn = torch.backends.cudnn
    return cudnn.conv.fp32_precision if hasattr(cudnn, "conv") else cudnn.allow_tf32


def test_float32_is_not_rounded_to_tf32_and_the_setting_stays_the_user_s():
    vae, before, seen = audio_vae(), tf32(), []

    def look(*_):
        seen.append(tf32())
        if len(seen) == 3:
            raise KeyboardInterrupt  # the user stops it in the middle

    vae.quant_conv.register_forward_pre_hook(look)
    vae.post_quant_conv.register_forward_pre_hook(look)
    outputs(vae)
    assert tf32() == before
    with pytest.raises(KeyboardInterrupt):
        outputs(vae)
    assert tf32() == before and seen == ([False] * 3 if isinstance(before, bool) else ["ieee"] * 3)


def test_a_batch_decodes_as_its_parts():
    vae = audio_vae().double()
    latent = torch.from_numpy(drawn("input.dac.latent", (2, 16, 7)))
    together = vae.decode(latent)
    for i in range(2):
        torch.testing.assert_close(together[i : i + 1], vae.decode(latent[i : i + 1]))


@pytest.mark.parametrize("spelling", ["weight_norm", "parametrizations"])
def test_weight_norm_spellings_give_the_same_weights(spelling):
    module = torch.nn.ConvTranspose1d(6, 4, 5)
    plain = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    if spelling == "weight_norm":
        torch.nn.utils.weight_norm(module)
    else:
        torch.nn.utils.parametrizations.weight_norm(module)
    folded = plain_weights(module.state_dict())
    assert folded.keys() == plain.keys()
    for name in plain:
        torch.testing.assert_close(folded[name], plain[name])


def test_the_released_preset_has_the_released_names_and_shapes():
    manifest = json.loads((FIXTURES / "checkpoint_manifest.json").read_text())
    config = AudioVAEConfig.from_dict(manifest["config"]["audio_vae"])
    assert config == PRESETS["MOVA-720p"].audio_vae and config.hop == 960
    found = {name: list(tensor.shape) for name, tensor in AudioVAE(config, device="meta").state_dict().items()}
    assert found == manifest["tensors"]["audio_vae"]


def test_a_vae_with_codebooks_is_refused():
    with pytest.raises(MovaError, match="continuous"):
        AudioVAEConfig.from_dict({**CASES["dac"]["config"], "continuous": False})
