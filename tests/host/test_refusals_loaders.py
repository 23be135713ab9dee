"""Every wrong file and text encoder that we know of, through the loaders and the text node."""

import json
import shutil
import struct
from pathlib import Path

import pytest
import torch
from bench import Bench
from client import refusal
from graphs import CONFIG, Graph, ref
from huggingface_hub._local_folder import write_download_metadata
from huggingface_hub._tree_cache import TreeCacheEntry, write_tree_cache
from refused import check, refusals, shown
from safetensors.torch import load_file, save_file

from mova.checkpoint.header import read_header
from mova.tools.tiny import write_part

CASES, refused = refusals()

# The loaders


def experts(bench, high="mova_high", low="mova_low"):
    names = {"high_noise": high, "low_noise": low}
    names = {slot: name if "-" in name or name == "none" else f"{name}.safetensors" for slot, name in names.items()}
    loader = bench.add("MOVAModelLoader", weight_dtype="default", **names)
    shown(bench, ref(loader), ref(loader, 1))


def changed(bench, name, lacks=None, config=None):
    """Another file beside the golden ones, made from mova_high without one tensor or with another config: its name."""
    folder = bench.server.base / "models/diffusion_models"
    state = load_file(folder / "mova_high.safetensors")
    state.pop(lacks, None)
    save_file(state, folder / f"{name}.safetensors", {"config": config} if config else None)
    return name


def cut_off(folder, source, name):
    shutil.copy(folder / source, folder / name)
    with open(folder / name, "r+b") as file:
        file.truncate((folder / source).stat().st_size // 2)


@refused(
    "mova_low.safetensors is the low-noise expert, chosen as high_noise; choose the high-noise one there (are the two "
    "swapped?)."
)
def swapped_experts_in_the_loader(bench):
    experts(bench, "mova_low", "mova_high")


@refused("mova_high.safetensors is chosen for both experts; choose the low-noise file, or none.")
def the_same_file_twice_in_the_loader(bench):
    experts(bench, "mova_high", "mova_high")


@refused("mova_high.safetensors is the high-noise expert, chosen as low_noise; choose the low-noise one there")
def a_released_folder_and_the_wrong_file(bench):
    experts(bench, "MOVA-golden", "mova_high")


@refused("wan.safetensors is not a MOVA file (it lacks ")
def a_file_of_another_model_in_the_loader(bench):
    experts(bench, "wan")


@refused("cut.safetensors is cut off: the last")
def a_cut_off_file_in_the_loader(bench):
    cut_off(bench.server.base / "models/diffusion_models", "mova_high.safetensors", "cut.safetensors")
    experts(bench, "cut")


def grown(path, size):
    """A file with a tensor more of so many zeros, which take no room on disk."""
    length = struct.unpack("<Q", path.read_bytes()[:8])[0]
    content = path.read_bytes()[8:]
    header, data = json.loads(content[:length]), content[length:]
    header["rest"] = {"dtype": "U8", "shape": [size], "data_offsets": [len(data), len(data) + size]}
    text = json.dumps(header).encode()
    with open(path, "wb") as file:
        file.write(struct.pack("<Q", len(text)) + text + data)
        file.truncate(8 + len(text) + len(data) + size)


if Path("/proc/sys/vm/overcommit_memory").exists() and Path("/proc/sys/vm/overcommit_memory").read_text()[0] != "1":

    @refused(
        "large.safetensors is larger than what this system maps at once; make smaller files of it with the command "
        "`convert`, or add memory or swap."
    )
    def a_file_larger_than_all_memory(bench):
        grown(bench.server.base / f"models/diffusion_models/{changed(bench, 'large')}.safetensors", 2**42)
        experts(bench, "large")


@refused("which is not there; choose one of its list.", "high")
@refused("not in list", "low")
def a_missing_file_in_the_loader(bench, slot):
    experts(bench, **{slot: "gone"})


@refused("lacks blocks.1.ffn.2.weight; download it again, or convert it again.")
def a_file_with_a_missing_tensor_in_the_loader(bench):
    experts(bench, changed(bench, "no_ffn", lacks="blocks.1.ffn.2.weight"))


@refused("damaged_config.safetensors has a configuration in its metadata that is not valid JSON", "{")
@refused("damaged_config.safetensors has a configuration in its metadata that is not a JSON object; convert it again.",
         "[1]", '{"transformer": [1]}')  # fmt: skip
def a_file_with_a_damaged_configuration_in_the_loader(bench, config):
    experts(bench, changed(bench, "damaged_config", config=config))


@refused("unknown_expert.safetensors names an unknown expert in its metadata (", '"middle"', "[]", "null")
def a_file_of_an_unknown_expert_in_the_loader(bench, expert):
    experts(bench, changed(bench, "unknown_expert", config=f'{{"transformer": {{"expert": {expert}}}}}'))


@refused("pickled.pt is a pickle, which can hold code; use a .safetensors file (of Prism's", "none", "pickled.pt")
def a_pickle_in_the_loader(bench, low_noise):
    torch.save({}, bench.server.base / "models/diffusion_models/pickled.pt")
    loader = bench.add("MOVAModelLoader", weight_dtype="default", high_noise="pickled.pt", low_noise=low_noise)
    shown(bench, ref(loader))


def folder(bench, name):
    models = bench.server.base / "models/diffusion_models"
    shutil.copytree(models / "MOVA-golden", models / name, dirs_exist_ok=True)
    return models / name


@refused("MOVA-parts lacks the part dual_tower_bridge; download the whole model folder.")
def a_released_folder_that_lacks_a_part(bench):
    shutil.rmtree(folder(bench, "MOVA-parts") / "dual_tower_bridge")
    experts(bench, "MOVA-parts", "MOVA-parts")


@refused("is cut off: the last", "audio_dit", "video_dit")
def a_released_folder_with_a_cut_off_part(bench, part):
    place = folder(bench, f"MOVA-cut-{part}") / part
    weights = "diffusion_pytorch_model.safetensors"
    cut_off(place, weights, "cut")
    (place / "cut").replace(place / weights)
    experts(bench, f"MOVA-cut-{part}", f"MOVA-cut-{part}")


SHARD = "video_dit/diffusion_pytorch_model-0000{}-of-00002.safetensors"


@refused(f"{SHARD.format(1)} is of commit aaaaaaa, {SHARD.format(2)} of bbbbbbb; start the download")
def a_released_folder_with_a_shard_of_another_release(bench):
    place = folder(bench, "MOVA-mixed")
    weights = place / "video_dit/diffusion_pytorch_model.safetensors"
    write_part(place / "video_dit", CONFIG["video_dit"], load_file(weights), shards=2)
    weights.unlink()
    for number, commit in (1, "a"), (2, "b"):
        write_download_metadata(place, SHARD.format(number), commit * 40, "0" * 64)
    experts(bench, "MOVA-mixed", "MOVA-mixed")


@refused("video_dit/diffusion_pytorch_model.safetensors is of commit aaaaaaa, audio_dit/diffusion_pytorch_model.safe")
def a_released_folder_with_a_part_of_another_release(bench):
    place = folder(bench, "MOVA-parts-mixed")
    names = [f"{part}/diffusion_pytorch_model.safetensors" for part in ("video_dit", "audio_dit")]
    for name, commit in zip(names, "ab", strict=True):
        write_download_metadata(place, name, commit * 40, commit * 64)
    listed = {name: TreeCacheEntry(1, "b" * 40, lfs_sha256="b" * 64, lfs_size=1) for name in names}
    write_tree_cache(place / ".cache/huggingface", "b" * 40, listed)
    experts(bench, "MOVA-parts-mixed", "MOVA-parts-mixed")


@refused("norm_q.weight' as I64, but a model's weights are ")
def a_released_folder_with_whole_numbers(bench):
    place = folder(bench, "MOVA-whole") / "audio_dit/diffusion_pytorch_model.safetensors"
    state = load_file(place)
    name = next(name for name in state if name.endswith("norm_q.weight"))
    save_file({**state, name: state[name].long()}, place)
    experts(bench, "MOVA-whole", "MOVA-whole")


@refused("audio_vae/config.json: continuous is False, but only True is supported")
def the_audio_vae_of_a_release_of_another_kind(bench):
    place = folder(bench, "MOVA-discrete") / "audio_vae/config.json"
    place.write_text(json.dumps({**json.loads(place.read_text()), "continuous": False}))
    audio_vae(bench, "MOVA-discrete/audio_vae")


def audio_vae(bench, name):
    shown(bench, ref(bench.add("MOVAAudioVAELoader", vae_name=name)))


@refused("cut_audio.safetensors is cut off: the last")
def a_cut_off_audio_vae(bench):
    cut_off(bench.server.base / "models/vae", "golden_audio.safetensors", "cut_audio.safetensors")
    audio_vae(bench, "cut_audio.safetensors")


@refused("other.safetensors is not MOVA's audio VAE (it lacks")
def a_file_of_another_model_as_audio_vae(bench):
    save_file({"decoder.conv1.weight": torch.zeros(4, 4)}, bench.server.base / "models/vae/other.safetensors")
    audio_vae(bench, "other.safetensors")


@refused("has a configuration in its metadata that is not", "{", "[1]")
def an_audio_vae_with_a_damaged_configuration(bench, config):
    place = bench.server.base / "models/vae"
    save_file(load_file(place / "golden_audio.safetensors"), place / "config.safetensors", {"config": config})
    audio_vae(bench, "config.safetensors")


@refused("which is not there; choose one of its list.")
def a_missing_audio_vae(bench):
    audio_vae(bench, "gone.safetensors")


@refused("This is MOVA's audio VAE; load it with MOVA Audio VAE Loader, and the Wan 2.1 VAE here.")
def the_audio_vae_in_the_host_s_own_loader(bench):
    shown(bench, ref(bench.add("VAELoader", vae_name="golden_audio.safetensors")))


# Text


@refused("There is no text encoder in clip; load umt5_xxl with Load CLIP, type wan.")
def a_checkpoint_without_a_text_encoder(bench):
    clip = ref(bench.add("ProbeNothing"), 1)
    shown(bench, ref(bench.add("MOVATextEncode", clip=clip, prompt="a cat", negative_prompt="")))


@pytest.mark.parametrize("case", CASES, ids=[case.name for case in CASES])
def test_it_is_refused_in_one_sentence_and_nothing_is_loaded(server, files, case):
    check(server, case)


def test_what_the_page_shows_begins_with_what_to_do_and_names_files_as_its_lists_do(server, files):
    bench = Bench(server)
    experts(bench, "mova_low", "mova_high")
    assert refusal(server, bench) == (
        "Choose the high-noise one there (are the two swapped?): mova_low.safetensors is the low-noise expert, chosen "
        "as high_noise."
    )


@pytest.mark.parametrize(
    ("high", "low", "told"),
    [
        ("MOVA-360p", "MOVA-720p", "'MOVA-360p', the low-noise one from 'MOVA-720p';"),
        ("MOVA-360p", "MOVA-golden", "'MOVA-360p', the low-noise one from 'MOVA-golden';"),
        ("MOVA-360p", "MOVA-360p", None),
        ("MOVA-360p", None, None),
    ],
    ids=["two files", "a file and a folder", "one source", "a file that does not say"],
)
def test_experts_of_two_sources_are_loaded_and_it_is_said(server, files, high, low, told):
    """A merged or a finetuned expert may be meant to go with one of another source."""
    models, names = server.base / "models/diffusion_models", {}
    for expert, source in ("high", high), ("low", low):
        if source == "MOVA-golden":  # the folder
            names[expert] = source
            continue
        names[expert] = f"{expert}_of_{source}".replace("-", "_")
        golden, metadata = models / f"mova_{expert}.safetensors", {"source": source} if source else {}
        save_file(load_file(golden), models / f"{names[expert]}.safetensors", metadata | read_header(golden)[1])
    bench = Graph()
    experts(bench, **names)
    result = server.run(bench.nodes)
    assert result.error is None
    notices = [text for _, text in result.notices]
    assert len(notices) == bool(told) and all(f"The high-noise expert comes from {told}" in text for text in notices)
