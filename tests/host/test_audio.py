"""Sound at any rate becomes a latent without torchaudio, which newer hosts do not bring."""

import json

from inside import run_inside

AS_THE_HOST = """
from pack.mova.clip.resample import resample
try:
    from comfy.audio import resample as the_host_s
except ImportError:
    from torchaudio.functional import resample as the_host_s
for rate in 8000, 11025, 22050, 44100, 96000:
    times = torch.arange(2 * rate, dtype=torch.float64) / rate
    sound = sum(torch.sin(2 * torch.pi * f * times + f) for f in (110, 440, 1000, 3000)).float()[None, None] / 4
    ours, theirs = (way(sound, rate, 48000)[..., 4800:-4800] for way in (resample, the_host_s))
    assert float((ours - theirs).square().mean().sqrt()) < 0.004, rate
"""


def test_sound_at_another_rate_is_what_the_host_s_resampler_makes_of_it(host_place):
    """But for that one's ripple: tests/test_resample.py compares ours with the exact sinc."""
    run_inside(host_place, AS_THE_HOST)


WITHOUT = """
import latent_preview, server  # and with them the host's own modules, of which some need torchaudio up to v0.36
for name in [name for name in sys.modules if name.startswith("torchaudio")]:
    del sys.modules[name]
sys.modules["torchaudio"] = None  # as if it were not installed
from pathlib import Path
from pack import nodes
pages = list(Path(nodes.__file__).parents[1].glob("web/docs/MOVA*.md"))
assert len(nodes.load()) == len(pages) > 0  # one for each node
from pack.nodes.audio import MOVAAudioEncode
from pack.nodes.host.audio_vae import load
vae = load(Path(FILE))
sound = {"waveform": 0.1 * torch.randn(1, 2, 44100), "sample_rate": 44100}
latent = MOVAAudioEncode.execute(sound, vae, 9, 24.0)[0]["samples"]
assert latent.shape[0] == 1 and latent.isfinite().all() and latent.std() > 0
"""


def test_without_torchaudio_all_nodes_load_and_sound_is_encoded(host_place, tmp_path):
    from golden import CASES, audio_vae
    from safetensors.torch import save_file

    file = tmp_path / "audio_vae.safetensors"
    save_file(audio_vae().state_dict(), file, {"config": json.dumps(CASES["dac"]["config"])})
    run_inside(host_place, f"FILE = {str(file)!r}\n" + WITHOUT)


def test_a_comfyui_without_torchaudio_is_found(tmp_path):
    """The tests' own look at an environment: none of what it needs is torchaudio."""
    from client import NEEDED

    assert "torchaudio" not in NEEDED and {"torch", "av", "ftfy"} <= set(NEEDED)


HOSTS_OWN = """
import comfy.sd
from pathlib import Path
from pack.mova import AudioVAE, AudioVAEConfig
from pack.nodes.audio import MOVAAudioDecode, MOVAAudioEncode
from pack.nodes.host.audio_vae import HostAudioVAE, MovaAudioVAE
from pack.nodes.host.checks import is_mova_audio, vae_kind
from comfy.nested_tensor import NestedTensor


class HostsOwn(MovaAudioVAE):
    # The host's methods in place of ours, as a VAE has that the host builds for such a file.
    is_mova_audio = False
    decode, vae_encode_crop_pixels = comfy.sd.VAE.decode, comfy.sd.VAE.vae_encode_crop_pixels


torch.manual_seed(0)
model = HostAudioVAE(AudioVAEConfig(encoder_dim=8, decoder_dim=64))
ours, theirs = MovaAudioVAE(model), HostsOwn(model)
theirs.crop_input = True
assert is_mova_audio(ours) and is_mova_audio(theirs)
others = {"latent_channels": 64, "audio_sample_rate": 44100, "downscale_ratio": 2048, "latent_dim": 2}
for name, value in others.items():
    other = HostsOwn(model)
    setattr(other, name, value)
    assert not is_mova_audio(other), name
assert not is_mova_audio(None) and not is_mova_audio(object())

sound = {"waveform": 0.1 * torch.randn(1, 2, 48000), "sample_rate": 48000}
found, wanted = (MOVAAudioEncode.execute(sound, vae, 9, 24.0)[0]["samples"] for vae in (theirs, ours))
assert found.shape == (1, 128, 19)  # 18000 samples: 18.75 latents
torch.testing.assert_close(found, wanted)
nested = NestedTensor([torch.zeros(1, 16, 3, 4, 4), wanted])
for samples in wanted, nested:
    found, same = (MOVAAudioDecode.execute({"samples": samples}, vae)[0]["waveform"] for vae in (theirs, ours))
    assert found.shape == (1, 1, 19 * 960)
    torch.testing.assert_close(found, same)
for samples in torch.zeros(1, 16, 3, 4, 4), torch.zeros(1, 64, 10):
    try:
        MOVAAudioDecode.execute({"samples": samples}, theirs)
    except Exception as error:
        assert type(error).__name__ == "MovaError" and "MOVA Separate Latent" in str(error), error
    else:
        raise AssertionError("no audio latent")
"""


def test_a_vae_of_the_host_s_own_for_the_same_latents_is_one_of_mova(host_place):
    run_inside(host_place, HOSTS_OWN)
