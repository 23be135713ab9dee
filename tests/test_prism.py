"""Prism's layout gives the same files as the same weights in a release's folder."""

import re

import pytest
import torch
from gguf import GGUFReader
from hub import Hub, take_for_the_hub
from prism_files import prism_state, write_prism
from safetensors.torch import load_file
from slow import few

from mova import MovaError
from mova.__main__ import main
from mova.checkpoint import pickled
from mova.checkpoint.formats import FORMATS
from mova.checkpoint.prism import EXPERTS, joint_names, open_prism, over
from mova.checkpoint.release import open_checkpoint
from mova.checkpoint.weights import open_weights
from mova.clip.pipeline import generate
from mova.clip.request import Request
from mova.clip.runtime import Runtime
from mova.convert.run import convert
from mova.download.run import PRISM_REPOSITORY, download
from mova.tools.info import describe


@pytest.fixture(scope="module")
def prism(tiny_checkpoint, tmp_path_factory):
    return write_prism(tiny_checkpoint, tmp_path_factory.mktemp("prism") / "preview_beta")


def contents(path):
    """All that a file holds but for its metadata."""
    if path.suffix == ".gguf":
        return {tensor.name: tensor.data.tobytes() for tensor in GGUFReader(path).tensors}
    return {name: tensor.flatten().view(torch.uint8).numpy().tobytes() for name, tensor in load_file(path).items()}


@pytest.mark.parametrize("dtype", few(FORMATS, "bf16", "fp8_e4m3_scaled", "gguf_q8_0"))
def test_prism_s_file_becomes_what_the_same_weights_become_in_a_release(tiny_checkpoint, prism, tmp_path, dtype):
    of_prism = list(convert(prism, tmp_path / "prism", dtype))
    of_release = list(convert(tiny_checkpoint, tmp_path / "mova", dtype, parts=list(EXPERTS)))
    assert [file.path.name.split("_", 2)[2] for file in of_prism] == [
        file.path.name.replace("tiny_checkpoint", "tiny").split("_", 1)[1] for file in of_release
    ]
    for ours, theirs in zip(of_prism, of_release, strict=True):
        assert contents(ours.path) == contents(theirs.path)


def test_the_folder_of_prism_s_file_names_the_files_made_of_it(prism, tmp_path):
    files = [file.path for file in convert(prism.parent, tmp_path)]
    assert [file.name for file in files] == [f"Prism-preview_beta_{expert}_bf16.safetensors" for expert in EXPERTS]
    assert {open_weights(file).metadata["source"] for file in files} == {"Prism-preview_beta"}
    assert [file.kept for file in convert(prism, tmp_path)] == [True, True]  # by the file or by its folder


def test_what_prism_s_file_lacks_comes_from_its_base(tiny_checkpoint, prism, tmp_path):
    changed = {name: tensor + 1 for name, tensor in prism_state(tiny_checkpoint).items() if "self_attn.q.w" in name}
    trained = write_prism(tiny_checkpoint, tmp_path / "trained", lambda name: name in changed, changed)
    whole = write_prism(tiny_checkpoint, tmp_path / "whole", lambda name: name not in changed, changed)
    with pytest.raises(MovaError, match=r"which are no whole model; name the folder of MOVA-360p.* --base"):
        list(convert(trained, tmp_path / "out"))
    assert not (tmp_path / "out/diffusion_models").exists()
    over = list(convert(trained, tmp_path / "over", base=tiny_checkpoint))
    alone = list(convert(whole, tmp_path / "alone"))
    for ours, theirs in zip(over, alone, strict=True):
        assert contents(ours.path) == contents(theirs.path)


def test_one_lacking_tensor_is_named_with_its_remedy(tiny_checkpoint, tmp_path, capsys):
    path = write_prism(tiny_checkpoint, tmp_path / "cut", lambda name: "fusion_blocks.1.v2a_conditioner" not in name)
    assert main(["convert", str(path), str(tmp_path / "out")]) == 1
    told = capsys.readouterr().err
    assert "video_to_audio_conditioners.1" in told and "video_dit" not in told and "--base" in told


WRONG = {
    "a tensor of another model": {"lm_head.weight": torch.zeros(2)},
    "a part that no layer has": {"fusion_blocks.0.text_block.q.weight": torch.zeros(2)},
    "one tensor under both names": {"audio_dit.blocks.0.norm3.weight": torch.zeros(128)},
    "whole numbers": {"video_dit.patch_embedding.bias": torch.zeros(256, dtype=torch.int32)},
    "another shape": {"fusion_blocks.0.video_block.norm3.weight": torch.zeros(7)},
}


@pytest.mark.parametrize("fault", WRONG)
def test_what_else_lies_in_prism_s_file_is_told_in_a_sentence(tiny_checkpoint, tmp_path, fault):
    path = write_prism(tiny_checkpoint, tmp_path / "preview", more=WRONG[fault])
    for base in (None, tiny_checkpoint):
        with pytest.raises(MovaError, match=str(path.name)) as told:
            list(convert(path, tmp_path / "out", base=base))
        assert "\n" not in str(told.value) and any(name.rsplit(".", 2)[1] in str(told.value) for name in WRONG[fault])
        assert "--base" not in str(told.value), "with which it would be as wrong"


def test_parts_that_prism_has_not_are_refused(prism, tmp_path):
    with pytest.raises(MovaError, match=r"holds no audio_vae: Prism uses MOVA-360p's"):
        list(convert(prism, tmp_path, parts=["high_noise", "audio_vae"]))


def test_a_base_is_for_prism_only(tiny_checkpoint, tmp_path):
    with pytest.raises(MovaError, match="leave --base out"):
        list(convert(tiny_checkpoint, tmp_path, base=tiny_checkpoint))
    with pytest.raises(MovaError, match="is neither a folder nor a file"):
        list(convert(tmp_path / "gone", tmp_path, base=tiny_checkpoint))


def test_info_names_prism_s_file(prism):
    assert next(iter(describe(prism))).startswith("Prism, both experts in one file, 2 layers with sound")
    assert next(iter(describe(prism.parent))).startswith("Prism")


@pytest.mark.parametrize(
    ("keep", "more", "told"),
    [
        (lambda name: not name.startswith("video_dit_2."), {}, r"\(video_dit_2\) lacks .*--base"),
        (lambda name: True, {"ema.x": torch.zeros(1)}, r"has 'ema.x', which is neither"),
        (lambda name: True, {}, None),
    ],
)
def test_info_says_what_keeps_prism_s_file_from_being_a_whole_model(tiny_checkpoint, tmp_path, keep, more, told):
    lines = list(describe(write_prism(tiny_checkpoint, tmp_path / "prism", keep, more)))
    faults = [line for line in lines if line.startswith("no whole model by itself: ")]
    assert [bool(re.search(told, fault)) for fault in faults] == [True] if told else not faults


def test_one_expert_s_names_are_those_of_its_joint_file(tiny_checkpoint, prism, tmp_path):
    for expert, file in zip(EXPERTS, convert(tiny_checkpoint, tmp_path, parts=list(EXPERTS)), strict=True):
        assert set(joint_names(open_weights(prism).tensors, expert).values()) == set(open_weights(file.path).tensors)


def latents(checkpoint, **settings):
    request = Request("a cat sings", width=32, height=32, frames=5, steps=4, seed=3, **settings)
    made = generate(checkpoint, request, Runtime(torch.device("cpu"), torch.bfloat16))
    return made.video_latent, made.audio_latent


def test_over_a_release_prism_s_file_gives_the_latents_of_its_weights(tiny_checkpoint, prism):
    release = open_checkpoint(tiny_checkpoint)
    wanted, found = latents(release), latents(over(open_prism(prism), release))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_the_audio_prompt_is_heard_and_the_same_text_changes_nothing(tiny_checkpoint):
    release = open_checkpoint(tiny_checkpoint)
    plain, same, other = (latents(release, audio_prompt=own) for own in (None, "a cat sings", "the sea"))
    assert torch.equal(plain[0], same[0]) and torch.equal(plain[1], same[1])
    assert not torch.equal(plain[1], other[1])


def test_generate_with_prism_says_so_in_the_clip_and_takes_its_shifts(tiny_checkpoint, prism, tmp_path):
    out = tmp_path / "clip.mp4"
    command = ["generate", "--checkpoint", tiny_checkpoint, "--prism", prism.parent, "--prompt", "a cat", "--out", out]
    command += ["--audio-prompt", "<sfx> the sea", "--width", 32, "--height", 32, "--frames", 5, "--steps", 2]
    assert main(list(map(str, command))) == 0
    told = list(describe(out))
    assert {"checkpoint: Prism-preview_beta", "audio_prompt: <sfx> the sea", "video_shift: 7.0"} <= set(told)


@pytest.fixture
def hub(tiny_checkpoint, tmp_path, monkeypatch):
    """Prism's repository on a stand-in for the hub, with both of its files."""
    for name in ("preview_alpha", "preview_beta"):
        write_prism(tiny_checkpoint, tmp_path / "Prism" / name)
    with Hub(tmp_path / "Prism", PRISM_REPOSITORY).running() as hub:
        take_for_the_hub(hub, monkeypatch)
        yield hub


@pytest.mark.parametrize("dtype", ["bf16", "gguf_q8_0"])
def test_a_download_of_prism_is_what_conversion_gives_and_its_file_arrives_once(hub, prism, tmp_path, dtype):
    found = [file.path for file in download("Prism-preview_beta", tmp_path / "models", dtype)]
    wanted = [file.path for file in convert(prism, tmp_path / "wanted", dtype)]
    assert [file.name for file in found] == [file.name for file in wanted]
    assert [contents(file) for file in found] == [contents(file) for file in wanted]
    name = "preview_beta/diffusion_pytorch_model.safetensors"
    assert sum(sent for _, sent in hub.fetched(name)) < 1.1 * hub.size(name)
    assert not [*(tmp_path / "models").glob(".mova-download/*")]
    again = list(download("Prism-preview_beta", tmp_path / "models", dtype))
    assert [file.kept for file in again] == [True, True]


def test_a_stopped_download_of_prism_goes_on_where_it_was(hub, tmp_path):
    name = "preview_beta/diffusion_pytorch_model.safetensors"

    def stop(what, done, total):
        if what.startswith("writing") and done > total // 2:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        list(download("Prism-preview_beta", tmp_path / "models", progress=stop))
    hub.asked.clear()
    assert len(list(download("Prism-preview_beta", tmp_path / "models"))) == 2
    assert sum(sent for _, sent in hub.fetched(name)) < hub.size(name) / 2  # headers alone


def test_a_download_of_prism_that_lacks_tensors_says_what_to_do(tiny_checkpoint, tmp_path, monkeypatch):
    write_prism(tiny_checkpoint, tmp_path / "Prism/preview_alpha", lambda name: "audio_block" not in name)
    with Hub(tmp_path / "Prism", PRISM_REPOSITORY).running() as hub:
        take_for_the_hub(hub, monkeypatch)
        with pytest.raises(MovaError, match=r"no whole model; fetch preview_alpha of FrancisRing/Prism by hand"):
            list(download("Prism-preview_alpha", tmp_path / "models"))
        with pytest.raises(MovaError, match=r"holds no audio_vae|no whole model"):
            list(download("Prism-preview_alpha", tmp_path / "models", parts=["audio_vae"]))
    assert not [path for path in (tmp_path / "models").rglob("*") if path.is_file()]


def as_pickle(path, state):
    """A file as Prism's own training writes it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"module": state, "step": 7}, path)
    return path


@pytest.mark.parametrize("dtype", few(["bf16", "fp8_e4m3_scaled", "gguf_q8_0"], "bf16"))
def test_a_file_of_prism_s_training_becomes_what_its_tensors_become_in_safetensors(
    tiny_checkpoint, prism, tmp_path, dtype, monkeypatch
):
    monkeypatch.setattr(pickled, "AT_ONCE", 2**18)  # mapped anew several times
    trained = as_pickle(tmp_path / "preview_beta/model.pt", prism_state(tiny_checkpoint))
    found, wanted = (list(convert(file, tmp_path / name, dtype)) for file, name in ((trained, "pt"), (prism, "st")))
    assert [file.path.name for file in found] == [file.path.name for file in wanted]
    for ours, theirs in zip(found, wanted, strict=True):
        assert contents(ours.path) == contents(theirs.path)
    assert [file.kept for file in convert(trained, tmp_path / "pt", dtype)] == [True, True]
    assert next(iter(describe(trained))).startswith("Prism, both experts in one file, 2 layers with sound")


def test_a_file_of_training_goes_over_its_base(tiny_checkpoint, tmp_path):
    changed = {name: tensor + 1 for name, tensor in prism_state(tiny_checkpoint).items() if "self_attn.q.w" in name}
    trained = as_pickle(tmp_path / "trained.pt", changed)
    same = write_prism(tiny_checkpoint, tmp_path / "same", lambda name: name in changed, changed)
    with pytest.raises(MovaError, match=r"which are no whole model; name the folder of MOVA-360p.* --base"):
        list(convert(trained, tmp_path / "out"))
    release = open_checkpoint(tiny_checkpoint)
    found, wanted = (latents(over(open_prism(file), release)) for file in (trained, same))
    assert all(torch.equal(one, other) for one, other in zip(found, wanted, strict=True))


def test_a_file_of_training_with_odd_tensors_is_known_as_prism_s_and_names_them(tiny_checkpoint, tmp_path):
    odd = {"fusion_blocks.0.video_block.norm3.weight": torch.zeros(128, dtype=torch.complex64)}
    trained = as_pickle(tmp_path / "trained.pt", {**prism_state(tiny_checkpoint), **odd})
    for use in (lambda: list(convert(trained, tmp_path / "out")), lambda: list(describe(trained))):
        with pytest.raises(MovaError, match=r"video_block.norm3.weight.*, no tensors of plain numbers; save"):
            use()


class Harm:
    """Unpickled, it leaves a mark."""

    def __init__(self, mark):
        self.mark = mark

    def __reduce__(self):
        return open, (str(self.mark), "w")


def test_a_file_with_more_than_tensors_in_it_is_refused_and_none_of_its_code_runs(tiny_checkpoint, tmp_path):
    mark = tmp_path / "mark"
    state = {**prism_state(tiny_checkpoint), "more": Harm(mark)}
    for path in (as_pickle(tmp_path / "preview.pt", state), tmp_path / "damaged.pt"):
        if not path.exists():
            path.write_bytes((tmp_path / "preview.pt").read_bytes()[:5000])
        for use in (lambda path=path: list(convert(path, tmp_path / "out")), lambda path=path: open_prism(path)):
            with pytest.raises(MovaError, match=r"pickle") as told:
                use()
            assert "\n" not in str(told.value)
    assert not mark.exists()
    torch.load(tmp_path / "preview.pt", weights_only=False)
    assert mark.exists(), "the file must be one that does harm"
