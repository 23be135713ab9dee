"""A download from a hub gives the files that conversion of the whole folder gives, with less on the disk at once."""

import hashlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sys
import time

import huggingface_hub
import pytest
from hub import Hub
from test_command_line import ROOT

from mova import MovaError
from mova.__main__ import main
from mova.convert.run import convert
from mova.download.run import download, full_name

SHARDS = [f"video_dit/diffusion_pytorch_model-0000{n}-of-00002.safetensors" for n in (1, 2)]
HIGH = ["high_noise"]


@pytest.fixture(scope="module")
def release(tiny_checkpoint, tmp_path_factory):
    """With the tokenizer in ComfyUI's form too."""
    folder = shutil.copytree(tiny_checkpoint, tmp_path_factory.mktemp("release") / "tiny")
    (folder / "tokenizer" / "spiece.model").write_bytes(b"\n\x0e\n\x05<pad>\x15\x00\x00\x00\x00\x18\x03" * 9)
    return folder


@pytest.fixture(scope="module")
def converted(release, tmp_path_factory):
    """What conversion of the folder gives, by dtype."""
    made = {}

    def of(dtype):
        if dtype not in made:
            made[dtype] = tmp_path_factory.mktemp(dtype)
            list(convert(release, made[dtype], dtype))
        return made[dtype]

    return of


@pytest.fixture
def hub(release, monkeypatch):
    with Hub(release).running() as hub:
        # What the library makes of HF_ENDPOINT when it is imported.
        monkeypatch.setattr(huggingface_hub.constants, "ENDPOINT", hub.url)
        template = hub.url + "/{repo_id}/resolve/{revision}/{filename}"
        monkeypatch.setattr(huggingface_hub.constants, "HUGGINGFACE_CO_URL_TEMPLATE", template)
        yield hub


def files_in(folder):
    return {path.relative_to(folder).as_posix(): path for path in sorted(folder.rglob("*")) if path.is_file()}


def contents(folder):
    return {name: path.read_bytes() for name, path in files_in(folder).items()}


def bytes_in(folder):
    return sum(path.stat().st_size for path in files_in(folder).values())


def same_files(folder, wanted, part=""):
    found, wanted = contents(folder), {name: data for name, data in contents(wanted).items() if part in name}
    assert found.keys() == wanted.keys()
    assert [name for name in found if found[name] != wanted[name]] == []


def stop_at(moment):
    """A progress function that stops the run, as Ctrl-C does, at a moment."""

    def progress(name, done, total):
        if moment(name, done, total):
            raise KeyboardInterrupt

    return progress


def stopped(folder, moment, **options):
    with pytest.raises(KeyboardInterrupt):
        list(download("someone/tiny", folder, progress=stop_at(moment), **options))


def test_all_parts_are_what_conversion_gives_and_the_disk_never_holds_both(hub, release, converted, tmp_path, capsys):
    fullest = 0

    def progress(name, done, total):
        nonlocal fullest
        assert 0 <= done <= total
        fullest = max(fullest, bytes_in(tmp_path))

    done = list(download("someone/tiny", tmp_path, progress=progress))
    same_files(tmp_path, converted("bf16"))
    assert len(done) == 5 and not any(file.kept or file.verified for file in done)
    assert [path.name for path in tmp_path.iterdir() if path.name.startswith(".")] == []
    source, result = bytes_in(release), bytes_in(tmp_path)
    shared = bytes_in(release / "audio_dit") + bytes_in(release / "dual_tower_bridge")
    largest = max(hub.size(name) for name in hub.names)
    assert result < fullest < result + largest + shared + 10**6 < source + result
    assert [len(hub.fetched(name)) for name in hub.names if name.endswith(".safetensors")] == [1] * 9


@pytest.mark.parametrize("dtype", ["fp8_e4m3_scaled", "gguf_q8_0", "fp32"])
def test_every_kind_of_format_is_written_the_same(hub, converted, tmp_path, dtype):
    (file,) = download("someone/tiny", tmp_path, dtype, HIGH, verified=True)
    assert file.verified
    same_files(tmp_path, converted(dtype), "high_noise")


@pytest.mark.parametrize(
    "moment",
    [
        lambda name, done, total: name == "fetching video_dit 00001-of-00002" and done > total / 2,
        lambda name, done, total: name == "writing video_dit 00001-of-00002" and done > total / 2,
        lambda name, done, total: name == "fetching video_dit 00002-of-00002",
        lambda name, done, total: name == "writing dual_tower_bridge",
    ],
)
@pytest.mark.parametrize("dtype", ["bf16", "gguf_q8_0"])
def test_stopped_at_any_moment_the_same_call_goes_on(hub, converted, tmp_path, moment, dtype):
    stopped(tmp_path, moment, dtype=dtype, parts=HIGH)
    assert not list(tmp_path.glob("diffusion_models/tiny*"))  # nothing that ComfyUI could take for a model
    list(download("someone/tiny", tmp_path, dtype, HIGH))
    same_files(tmp_path, converted(dtype), "high_noise")
    for name in SHARDS:
        parts = hub.fetched(name)
        assert parts[-1][0] + parts[-1][1] == hub.size(name)
        assert sum(sent for _, sent in parts[:1]) == hub.size(name) or parts[1][0] > 0  # not again from the beginning


def test_a_connection_that_breaks_is_taken_up_where_it_broke(hub, converted, tmp_path):
    size = hub.size(SHARDS[1])
    hub.cut[SHARDS[1]] = size // 3
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")
    assert hub.fetched(SHARDS[1]) == [(0, size // 3), (size // 3, size - size // 3)]


def test_files_on_another_host_are_followed_there_without_the_token(hub, converted, tmp_path, monkeypatch):
    monkeypatch.setenv("HF_TOKEN", "hf_secret")
    hub.elsewhere, hub.cut[SHARDS[0]] = True, 10**6
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")
    assert hub.tokens == {"127.0.0.1": {"Bearer hf_secret"}, "localhost": {None}}
    assert hub.fetched(SHARDS[0]) == [(0, 10**6), (10**6, hub.size(SHARDS[0]) - 10**6)]


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


# On Windows there is one way to end another process, which it cannot listen to, under the name of SIGTERM.
SIGNALS = [signal.SIGTERM] if os.name == "nt" else [signal.SIGINT, signal.SIGTERM, signal.SIGKILL]


@pytest.mark.parametrize("how", SIGNALS)
def test_a_killed_process_leaves_what_the_next_one_goes_on_from(hub, converted, tmp_path, how):
    size = hub.size(SHARDS[1])
    hub.hold[SHARDS[1]] = size // 2
    command = [sys.executable, "-m", "mova", "download", "someone/tiny", str(tmp_path), "--parts", "high_noise"]
    environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path.parent / "home")}
    with subprocess.Popen(command, cwd=ROOT, env=environment, stderr=subprocess.PIPE, text=True) as child:
        try:
            assert hub.held.wait(60)
            part = tmp_path / ".mova-download" / "tiny" / (SHARDS[1] + ".part")
            for _ in range(100):  # until what was sent has arrived
                if part.exists() and part.stat().st_size >= size // 2 - 2**16:
                    break
                time.sleep(0.05)
            child.send_signal(how)
            told = child.communicate(timeout=60)[1]
        finally:
            child.kill()
    if how != SIGNALS[-1]:
        assert child.returncode == 130
        assert told.endswith("stopped; what has arrived stays; the same command goes on from there.\n")
    arrived = part.stat().st_size
    assert 0 < arrived <= size // 2
    hub.hold.clear()
    hub.released.set()
    assert subprocess.run(command, cwd=ROOT, env=environment, timeout=120).returncode == 0
    same_files(tmp_path, converted("bf16"), "high_noise")
    assert hub.fetched(SHARDS[1])[1] == (arrived, size - arrived)
    assert len(hub.fetched(SHARDS[0])) == 1
    assert not list((tmp_path.parent / "home").rglob("*.safetensors"))  # no copy in the user's cache


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


def test_a_connection_that_stays_lost_ends_the_run_and_the_next_goes_on(hub, converted, tmp_path, monkeypatch):
    monkeypatch.setattr("mova.download.hub.LONGEST_PAUSE", 0.01)

    def leave(name, done, total):
        if name == "fetching video_dit 00002-of-00002":
            hub.refusal = (503, "")

    hub.cut[SHARDS[1]] = 1000
    with pytest.raises(MovaError, match=r"refuses someone/tiny/video_dit/.*HTTP status 503.*the same command again"):
        list(download("someone/tiny", tmp_path, parts=HIGH, progress=leave))
    hub.refusal = None
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")


def during_the_second_shard(name, done, total):
    return name == "fetching video_dit 00002-of-00002"


def test_an_unfinished_download_stays_at_its_commit(hub, converted, tmp_path):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    hub.commit = "b" * 40
    hub.commits.add(hub.commit)
    list(download("someone/tiny", tmp_path, parts=HIGH))
    same_files(tmp_path, converted("bf16"), "high_noise")
    other = tmp_path.parent / "other"
    hub.commit, hub.commits = "a" * 40, {"a" * 40}
    stopped(other, during_the_second_shard, parts=HIGH)
    hub.commit, hub.commits = "b" * 40, {"b" * 40}
    with pytest.raises(MovaError, match=r"no longer has the commit that this download began with; delete the folder"):
        list(download("someone/tiny", other, parts=HIGH))
    shutil.rmtree(other / ".mova-download")
    list(download("someone/tiny", other, parts=HIGH))
    same_files(other, converted("bf16"), "high_noise")


@pytest.mark.parametrize("options", [{"dtype": "fp32"}, {"verified": True}])
def test_an_unfinished_download_is_not_mixed_with_another(hub, tmp_path, options):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    there = contents(tmp_path)
    with pytest.raises(MovaError, match=r"unfinished download of 'someone/tiny' as 'bf16' without --verify; finish it"):
        list(download("someone/tiny", tmp_path, parts=HIGH, **options))
    assert contents(tmp_path) == there


def test_other_parts_do_not_disturb_an_unfinished_one(hub, converted, tmp_path):
    stopped(tmp_path, during_the_second_shard, parts=HIGH)
    list(download("someone/tiny", tmp_path, parts=["audio_vae"]))
    list(download("someone/tiny", tmp_path, parts=HIGH))
    assert len(hub.fetched(SHARDS[0])) == 1
    wanted = contents(converted("bf16"))
    assert contents(tmp_path) == {name: wanted[name] for name in wanted if "high_noise" in name or "audio_vae" in name}


def test_a_finished_file_is_kept_and_nothing_of_it_is_fetched(hub, tmp_path, capsys):
    command = ["download", "someone/tiny", str(tmp_path), "--parts", "audio_vae,video_vae", "--verify"]
    assert main(command) == 0
    assert capsys.readouterr().out.count("(verified: it is what its source gives)") == 2
    asked = len(hub.asked)
    assert main(command) == 0
    assert capsys.readouterr().out.count("(kept: it was there already)") == 2
    assert not [name for name, *_ in hub.asked[asked:] if name.endswith(".safetensors")]
    assert len(files_in(tmp_path)) == 2


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


def test_without_its_tokenizer_the_text_encoder_is_left_out(hub, tmp_path, capsys):
    hub.names.remove("tokenizer/spiece.model")
    assert main(["download", "someone/tiny", str(tmp_path)]) == 0
    assert "text_encoder is left out" in capsys.readouterr().err
    assert len(files_in(tmp_path)) == 4


@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["MOVA-1080p"], "no release called 'MOVA-1080p'; choose MOVA-360p, MOVA-720p, or give OWNER/NAME"),
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


def test_the_releases_have_short_names():
    assert full_name("MOVA-360p") == "OpenMOSS-Team/MOVA-360p"
    assert full_name("MOVA-720p") == "OpenMOSS-Team/MOVA-720p"
    assert full_name("a.b/C_d-2") == "a.b/C_d-2"
