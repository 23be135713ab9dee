"""Sound at any rate becomes a latent with any resampler: newer hosts bring no torchaudio."""

import json

import pytest
from inside import run_inside

SINES = """
import importlib, json, math, resource, types
from pack.nodes.host import resample

FREQUENCIES = 110, 440, 1000, 3000


def sines(rate, seconds=2):
    times = torch.arange(rate * seconds, dtype=torch.float64) / rate
    return sum(torch.sin(2 * math.pi * f * times + f) for f in FREQUENCIES).float()[None, None] / len(FREQUENCIES)
"""

WAYS = """
ways = {"torchaudio": resample.torchaudios(), "comfy.audio": resample.the_host_s(), "ffmpeg": resample.ffmpeg}
ways = {name: way for name, way in ways.items() if way is not None}
found = {}
for rate in 8000, 11025, 22050, 44100, 96000:
    wanted = sines(48000)
    made = {name: way(sines(rate), rate, 48000) for name, way in ways.items()}
    assert all(one.shape == wanted.shape and one.dtype == torch.float32 for one in made.values())
    inner = slice(4800, -4800)  # the sines begin and end at once, which no resampler can
    first = next(iter(made.values()))  # torchaudio's where it is, else the host's, which is the same
    found[rate] = {
        name: [float((one - wanted)[..., inner].abs().max()), float((one - first).square().mean().sqrt())]
        for name, one in made.items()
    }
print(json.dumps(found))
"""


def test_each_resampler_gives_the_same_sound(host_place):
    """Measured at 44.1 kHz: ffmpeg is 0.0002 from torchaudio (root mean square; the sines: 0.35), nearer to these."""
    found = json.loads(run_inside(host_place, SINES + WAYS).splitlines()[-1])
    assert len(found) == 5
    for rate, ways in found.items():
        for name, (from_the_sines, from_each_other) in ways.items():
            assert from_the_sines < 0.01, (rate, name, found)
            assert from_each_other < 0.004, (rate, name, found)
    assert found["44100"]["ffmpeg"][1] < 0.0005, found


CHOICE = """
sys.modules["comfy.audio"] = None
assert resample.the_host_s() is None
comfy.audio = sys.modules["comfy.audio"] = types.SimpleNamespace(resample=lambda wave, old, new: "the host's")
if resample.torchaudios() is not None:
    wanted = resample.torchaudios()(sines(44100), 44100, 48000)
    assert torch.equal(resample.resample(sines(44100), 44100, 48000), wanted)
for fault in ImportError, OSError, RuntimeError:

    class Broken:
        def find_spec(self, name, *_):
            if name.startswith("torchaudio"):
                raise fault("its compiled parts are for another torch")

    for name in [name for name in sys.modules if name.startswith("torchaudio")]:
        del sys.modules[name]
    sys.meta_path.insert(0, Broken())
    assert resample.resample(sines(44100), 44100, 48000) == "the host's", fault
    sys.meta_path.pop(0)
sys.modules["torchaudio"] = sys.modules["comfy.audio"] = None
made = resample.resample(sines(44100), 44100.0, 48000)
assert torch.equal(made, resample.ffmpeg(sines(44100), 44100, 48000))
assert resample.resample(made, 48000, 48000) is made
assert resample.resample(torch.ones(2, 3, 1), 8000, 48000).shape == (2, 3, 6)
"""


def test_torchaudio_is_used_where_it_works_then_the_host_s_own_then_ffmpeg_s(host_place):
    run_inside(host_place, SINES + CHOICE)


ODD = """
import resource
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for rate in 44056, 44057, 47999:
    made = resample.resample(sines(rate), rate, 48000)
    assert float((made - sines(48000))[..., 4800:-4800].abs().max()) < 0.01, rate
print(json.dumps((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024))
"""


@pytest.mark.skipif("sys.platform == 'win32'", reason="no resource module")
def test_an_odd_rate_takes_no_memory(host_place):
    """Filters for each phase of 47999 to 48000 would be 18 GB in float64."""
    assert json.loads(run_inside(host_place, SINES + ODD).splitlines()[-1]) < 200  # MiB


WITHOUT = """
import latent_preview, server  # and with them the host's own modules, of which some need torchaudio up to v0.36
for name in [name for name in sys.modules if name.startswith("torchaudio")]:
    del sys.modules[name]
sys.modules["torchaudio"] = None  # as if it were not installed
from pathlib import Path
from pack import nodes
assert len(nodes.load()) == 16
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
