"""What is kept is what its source gives now: never what was made of other weights under the same names."""

import hashlib
import json
import os
import shutil

import pytest
from downloads import HIGH, contents, same_files
from huggingface_hub import _local_folder
from slow import few

from mova.checkpoint.gguf_file import read_gguf_header
from mova.checkpoint.header import read_header
from mova.checkpoint.hub_record import release_name
from mova.convert.run import convert
from mova.download.run import download
from mova.tools.tiny import WEIGHTS, write_tiny

COMMIT = "0123456789abcdef0123456789abcdef01234567"
PARTS = ["high_noise", "low_noise", "audio_vae"]


@pytest.fixture
def source(tiny_checkpoint, tmp_path):
    return shutil.copytree(tiny_checkpoint, tmp_path / "tiny")


@pytest.fixture(scope="module")
def other(tmp_path_factory):
    """Another release: its names, shapes, sizes and configurations are the same."""
    folder = tmp_path_factory.mktemp("other") / "tiny"
    write_tiny(folder, seed=1)
    return folder


def put(file, content):
    """Other content of the same size and with the same times, as a copy that keeps times leaves it."""
    before = file.stat()
    assert len(content) == before.st_size
    file.write_bytes(content)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))


def train_on(file):
    """The same tensors with other values."""
    content = file.read_bytes()
    last = int.from_bytes(content[-2:], "little") ^ 1  # of a bf16 number, or the half of a float32 that counts
    put(file, content[:-2] + last.to_bytes(2, "little"))


def kept(*arguments, **options):
    return {file.path.name: file.kept for file in convert(*arguments, **options)}


@pytest.mark.parametrize("dtype", few(["bf16", "fp8_e4m3_scaled", "gguf_q8_0"], "fp8_e4m3_scaled"))
@pytest.mark.parametrize("verified", [False, True])
def test_new_weights_under_the_same_names_are_never_kept(source, tmp_path, dtype, verified):
    options = {"dtype": dtype, "parts": ["high_noise"], "verified": verified}
    list(convert(source, tmp_path / "models", **options))
    assert all(kept(source, tmp_path / "models", **options).values())
    train_on(source / "video_dit" / "diffusion_pytorch_model-00002-of-00002.safetensors")
    assert not any(kept(source, tmp_path / "models", **options).values())
    list(convert(source, tmp_path / "fresh", **options))
    assert contents(tmp_path / "models") == contents(tmp_path / "fresh")


def test_another_release_in_the_same_folder_is_never_kept_whatever_the_client_noted(source, other, tmp_path):
    for file in source.rglob("*.safetensors"):
        name = file.relative_to(source).as_posix()
        etag = hashlib.sha256(file.read_bytes()).hexdigest()
        _local_folder.get_local_download_paths(source, name)
        _local_folder.write_download_metadata(source, name, COMMIT, etag)
    list(convert(source, tmp_path / "models"))
    assert all(kept(source, tmp_path / "models").values())
    for file in other.rglob("*.safetensors"):
        put(source / file.relative_to(other), file.read_bytes())
    assert not any(kept(source, tmp_path / "models").values())
    list(convert(other, tmp_path / "fresh"))
    assert contents(tmp_path / "models") == contents(tmp_path / "fresh")


@pytest.mark.parametrize(
    ("changed", "anew"),
    [("audio_dit", {"high_noise", "low_noise"}), ("video_dit_2", {"low_noise"}), ("audio_vae", {"audio_vae"})],
)
def test_what_is_made_of_a_changed_part_is_made_anew_and_nothing_else(source, tmp_path, changed, anew):
    list(convert(source, tmp_path / "models", parts=PARTS))
    train_on(next(iter(sorted((source / changed).glob("*.safetensors")))))
    for name, there in kept(source, tmp_path / "models", parts=PARTS).items():
        assert there != any(part in name for part in anew), name


def test_the_same_contents_elsewhere_are_kept(source, tmp_path):
    list(convert(source, tmp_path / "models", parts=PARTS))
    (tmp_path / "moved").mkdir()
    moved = shutil.copytree(source, tmp_path / "moved" / "tiny", copy_function=shutil.copyfile)
    assert all(kept(moved, tmp_path / "models", parts=PARTS).values())


def test_one_expert_s_file_is_followed_too(source, tmp_path):
    (first,) = convert(source, tmp_path / "models", parts=["high_noise"])
    (second,) = convert(first.path, tmp_path / "fp8", "fp8_e4m3_scaled")
    assert all(kept(first.path, tmp_path / "fp8", dtype="fp8_e4m3_scaled").values())
    before = second.path.read_bytes()
    train_on(first.path)
    assert not any(kept(first.path, tmp_path / "fp8", dtype="fp8_e4m3_scaled").values())
    assert second.path.read_bytes() != before


@pytest.mark.parametrize("dtype", ["bf16", "gguf_q8_0"])
def test_a_file_says_of_which_contents_it_is_made_and_one_that_does_not_is_made_anew(source, tmp_path, dtype):
    (file,) = convert(source, tmp_path / "models", dtype, parts=["high_noise"])
    metadata = (read_gguf_header if dtype.startswith("gguf") else read_header)(file.path)[1]
    folders = ("audio_dit", "dual_tower_bridge", "video_dit")
    read = sorted(path for folder in folders for path in (source / folder).glob("*.safetensors"))
    sums = {path.relative_to(source).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in read}
    assert json.loads(metadata["source_sha256"]) == sums and len(sums) == 4
    good = file.path.read_bytes()
    file.path.write_bytes(good.replace(b"source_sha256", b"source_sha255"))  # as of a version that had none
    assert not any(kept(source, tmp_path / "models", dtype=dtype, parts=["high_noise"]).values())
    assert file.path.read_bytes() == good


def test_a_download_after_the_hub_has_moved_on_makes_anew_what_has_changed(hub, converted, other, tmp_path):
    parts = ["high_noise", "audio_vae"]
    list(download("someone/tiny", tmp_path / "models", parts=parts))
    hub.commit, hub.commits = "b" * 40, {"b" * 40}
    for name in [name for name in hub.names if name.startswith("dual_tower_bridge/") and name.endswith("safetensors")]:
        hub.changed[name] = (other / name).read_bytes()
        hub.hashes[name] = hashlib.sha256(hub.changed[name]).hexdigest()
    hub.asked.clear()
    again = {file.path.name: file.kept for file in download("someone/tiny", tmp_path / "models", parts=parts)}
    assert again == {"tiny_audio_vae.safetensors": True, "tiny_high_noise_bf16.safetensors": False}
    assert not hub.fetched(f"audio_vae/{WEIGHTS}")
    mixed = shutil.copytree(hub.folder, tmp_path / "tiny")
    shutil.copy(other / "dual_tower_bridge" / WEIGHTS, mixed / "dual_tower_bridge" / WEIGHTS)
    list(convert(mixed, tmp_path / "fresh", parts=parts))
    same_files(tmp_path / "models", tmp_path / "fresh")
    assert all(file.kept for file in download("someone/tiny", tmp_path / "models", parts=parts))


def test_converted_and_downloaded_files_are_kept_by_each_other(hub, release, tmp_path):
    parts = ["high_noise", "text_encoder"]
    list(download("someone/tiny", tmp_path, parts=parts))
    assert all(kept(release, tmp_path, parts=parts).values())
    assert all(file.kept for file in download("someone/tiny", tmp_path, parts=parts))


def test_of_weights_without_a_sum_on_the_hub_the_commit_counts(hub, tmp_path):
    for name in hub.names:
        hub.hashes[name] = None
    list(download("someone/tiny", tmp_path, parts=HIGH))
    assert all(file.kept for file in download("someone/tiny", tmp_path, parts=HIGH))
    hub.commit, hub.commits = "b" * 40, {"b" * 40}
    assert not any(file.kept for file in download("someone/tiny", tmp_path, parts=HIGH))


def cached(source, root):
    """A release as the hub's client keeps it in its cache: links to files that are called by their contents."""
    place = root / "models--OpenMOSS-Team--MOVA-360p"
    for file in source.rglob("*"):
        if file.is_file():
            blob = place / "blobs" / hashlib.sha256(file.read_bytes()).hexdigest()
            link = place / "snapshots" / COMMIT / file.relative_to(source)
            for folder in (blob.parent, link.parent):
                folder.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, blob)
            try:
                link.symlink_to(os.path.relpath(blob, link.parent))
            except OSError:  # as the client does on Windows
                shutil.copyfile(file, link)
    return place / "snapshots" / COMMIT


def test_from_the_hub_s_cache_files_are_called_by_the_model_s_name(source, tmp_path):
    folder = cached(source, tmp_path / "hub")
    done = list(convert(folder, tmp_path / "models", parts=["high_noise", "audio_vae"]))
    assert [file.path.name for file in done] == [
        "MOVA-360p_high_noise_bf16.safetensors",
        "MOVA-360p_audio_vae.safetensors",
    ]
    assert all(read_header(file.path)[1]["source"] == "MOVA-360p" for file in done)
    assert all(kept(folder, tmp_path / "models", parts=["high_noise", "audio_vae"]).values())
    plain = shutil.copytree(folder, tmp_path / "MOVA-360p")
    assert all(kept(plain, tmp_path / "models", parts=["high_noise", "audio_vae"]).values())


@pytest.mark.parametrize(
    ("path", "name"),
    [
        (f"models--OpenMOSS-Team--MOVA-360p/snapshots/{COMMIT}", "MOVA-360p"),
        (f"models--mine/snapshots/{COMMIT}", "mine"),
        ("MOVA-360p", "MOVA-360p"),
        ("snapshots/mine", "mine"),
        (f"mine/snapshots/{COMMIT}", COMMIT),
        (".", None),
    ],
)
def test_the_name_of_a_release_is_its_folder_s_or_in_the_cache_the_model_s(tmp_path, monkeypatch, path, name):
    (tmp_path / path).mkdir(parents=True, exist_ok=True)
    monkeypatch.chdir(tmp_path / path)
    assert release_name(tmp_path / path) == release_name("") == (name or tmp_path.name)
