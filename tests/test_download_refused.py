"""What a download refuses, in a sentence: wrong requests, a hub or disk that refuses, files not as announced."""

import hashlib
import json
import os
import shutil
import socket

import huggingface_hub
import pytest
from downloads import HIGH, SHARDS, contents, during_the_second_shard, files_in, same_files, stopped

from mova import MovaError
from mova.__main__ import main
from mova.download.run import download


@pytest.mark.parametrize("dtype", ["bf16", "gguf_q8_0", "fp8_e4m3_scaled"])
def test_what_the_disk_does_not_hold_as_written_is_found(hub, converted, tmp_path, dtype):
    def spoil(name, done, total):
        if name.startswith("writing") and done > total / 2:  # written, and now read back
            (partial,) = tmp_path.glob("diffusion_models/.*.download")
            with open(partial, "r+b") as file:
                file.seek(-100, os.SEEK_END)
                file.write(b"\x11" * 50)

    with pytest.raises(
        MovaError, match=r"high_noise_.*: the tensor .* read back is not what was written; check the disk"
    ):
        list(download("someone/tiny", tmp_path, dtype, HIGH, verified=True, progress=spoil))
    list(download("someone/tiny", tmp_path, dtype, HIGH, verified=True))
    same_files(tmp_path, converted(dtype), "high_noise")


def test_what_a_format_loses_must_be_within_its_bound(hub, tmp_path, monkeypatch):
    monkeypatch.setattr("mova.checkpoint.quantize.error_bound", lambda name: 0.01)  # nvfp4 is ten times as coarse
    with pytest.raises(MovaError, match="decoded, is not what the source gives"):
        list(download("someone/tiny", tmp_path, "nvfp4", HIGH, verified=True))
    assert not list(tmp_path.glob("diffusion_models/tiny*"))


def test_values_that_are_not_finite_are_refused(hub, release, tmp_path):
    content = bytearray((release / SHARDS[1]).read_bytes())
    content[-2:] = b"\xc0\x7f"  # NaN in bf16
    hub.changed[SHARDS[1]], hub.hashes[SHARDS[1]] = bytes(content), hashlib.sha256(content).hexdigest()
    with pytest.raises(MovaError, match=r"someone/tiny/video_dit: the tensor .* holds 1 value that is NaN or infinite"):
        list(download("someone/tiny", tmp_path, parts=HIGH))
    assert not list(tmp_path.glob("diffusion_models/tiny*"))


def test_a_shard_with_another_header_than_announced_is_refused(hub, release, tmp_path):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    part = tmp_path / ".mova-download" / "tiny" / (SHARDS[1] + ".part")
    content = (release / SHARDS[1]).read_bytes().replace(b'"BF16"', b'"F16" ', 1)
    part.with_name(part.name.removesuffix(".part")).write_bytes(content)
    with pytest.raises(MovaError, match=r"00002-of-00002.* is not the file that the hub announced; delete it"):
        list(download("someone/tiny", tmp_path, parts=HIGH))


def test_a_destination_that_is_a_file_is_told(hub, tmp_path):
    (tmp_path / "models").write_text("")
    with pytest.raises(MovaError, match=r"models.* cannot be written \(.*\); make room or choose another folder"):
        list(download("someone/tiny", tmp_path / "models"))


def test_a_wrong_byte_is_found_and_fetched_again(hub, converted, tmp_path, capsys):
    content = bytearray((hub.folder / SHARDS[0]).read_bytes())
    content[-100] ^= 1
    hub.changed[SHARDS[0]] = bytes(content)
    with pytest.raises(
        MovaError, match=r"tiny/video_dit/.*00001-of-00002.* SHA-256 differs.*was deleted; run the same"
    ):
        list(download("someone/tiny", tmp_path, parts=HIGH))
    hub.changed.clear()
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")


def test_a_longer_file_than_listed_is_refused(hub, tmp_path):
    hub.changed["audio_vae/config.json"] = b" " * 10**5
    with pytest.raises(MovaError, match=r"audio_vae/config.json is longer than the hub lists"):
        list(download("someone/tiny", tmp_path, parts=["audio_vae"]))


@pytest.mark.parametrize(
    ("refusal", "sentence"),
    [
        ((404, "RepoNotFound"), "The model hub has no repository someone/tiny, or hides it; check the name, or log in"),
        ((401, "RepoNotFound"), "The model hub has no repository someone/tiny, or hides it; check the name, or log in"),
        ((403, "GatedRepo"), "someone/tiny is given only to those who accept its terms"),
        ((401, ""), "The model hub has no repository someone/tiny, or hides it|HTTP status 401"),
        ((500, ""), r"The model hub refuses someone/tiny \(HTTP status 500\); wait a while, then run the same command"),
    ],
)
def test_a_refusal_is_told_in_one_sentence_and_leaves_nothing(hub, tmp_path, capsys, refusal, sentence):
    hub.refusal = refusal
    with pytest.raises(MovaError, match=sentence):
        list(download("someone/tiny", tmp_path / "models"))
    assert not (tmp_path / "models").exists()
    assert main(["download", "someone/tiny", str(tmp_path / "models")]) == 1
    told = capsys.readouterr().err
    assert told.startswith("error: ") and told.count("\n") == 1


def test_without_a_network_it_says_so(hub, tmp_path, monkeypatch):
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", f"http://127.0.0.1:{port}")
    with pytest.raises(
        MovaError, match=r"model hub could not be reached for someone/tiny \(.*\); check the connection"
    ):
        list(download("someone/tiny", tmp_path))
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(MovaError, match="cannot be downloaded while HF_HUB_OFFLINE is set; unset it"):
        list(download("someone/tiny", tmp_path))


@pytest.mark.parametrize("options", [{"dtype": "fp32"}, {"verified": True}])
def test_an_unfinished_download_is_not_mixed_with_another(hub, tmp_path, options):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    there = contents(tmp_path)
    with pytest.raises(MovaError, match=r"unfinished download of 'someone/tiny' as 'bf16' without --verify; finish it"):
        list(download("someone/tiny", tmp_path, parts=HIGH, **options))
    assert contents(tmp_path) == there


def test_a_disk_that_is_too_small_is_told_before_any_weight_arrives(hub, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(MovaError, match=r"has 0\.00 GB free, and the download needs 0\.\d\d GB there at its fullest"):
        list(download("someone/tiny", tmp_path))
    assert not [name for name, *_ in hub.asked if name.endswith(".safetensors")] and files_in(tmp_path) == {}


def test_a_second_download_to_the_same_place_is_refused(hub, tmp_path):
    first = download("someone/tiny", tmp_path, parts=["audio_vae", "video_vae"])
    next(first)
    with pytest.raises(MovaError, match=r"Another download to .* is at work; wait for it, or stop it"):
        list(download("someone/tiny", tmp_path, parts=["audio_vae"]))
    assert len(list(first)) == 1


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (
            ["MOVA-1080p"],
            "no release called 'MOVA-1080p'; choose MOVA-360p, MOVA-720p, Prism-",
        ),
        (["../tiny"], "no release called '../tiny'"),
        (["someone/other"], "has no repository someone/other"),
        (["someone/tiny", "--dtype", "fp7"], "no format called 'fp7'; choose one of bf16"),
        (["someone/tiny", "--parts", "sound"], "no part called 'sound'"),
    ],
)
def test_a_wrong_request_is_one_sentence_and_leaves_nothing(hub, tmp_path, capsys, arguments, sentence):
    assert main(["download", arguments[0], str(tmp_path / "models"), *arguments[1:]]) == 1
    told = capsys.readouterr().err
    assert sentence in told and told.count("\n") == 1 and not (tmp_path / "models").exists()


def test_a_repository_of_another_model_is_refused(hub, tmp_path):
    hub.names = [name for name in hub.names if not name.startswith(("audio_dit", "dual_tower_bridge"))]
    with pytest.raises(
        MovaError, match="someone/tiny lacks audio_dit, dual_tower_bridge; choose a repository laid out"
    ):
        list(download("someone/tiny", tmp_path, parts=HIGH))


@pytest.mark.parametrize(
    "shard", ["../audio_dit/x.safetensors", "C:x.safetensors", "sub/x.safetensors", "absent.safetensors"]
)
def test_an_index_that_leads_elsewhere_is_refused(hub, tmp_path, shard):
    name = "video_dit/diffusion_pytorch_model.safetensors.index.json"
    index = json.dumps({"weight_map": {"patch_embedding.weight": shard}})
    hub.changed[name] = index.encode().ljust(hub.size(name))
    with pytest.raises(MovaError, match=r"index\.json lists .*, which the repository does not have"):
        list(download("someone/tiny", tmp_path, parts=HIGH))
