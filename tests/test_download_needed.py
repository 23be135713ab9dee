"""What the workflows need, in one go: MOVA's files and those for Wan, where ComfyUI looks for them."""

import ast
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from downloads import contents, files_in, same_files, stop_at
from hub import Hub
from safetensors.torch import save_file
from test_command_line import ROOT
from wan_files import wan_hub

from mova import MovaError
from mova.__main__ import main
from mova.arguments import models_folder
from mova.checkpoint.formats import FORMATS
from mova.convert.run import convert, path_of, plan
from mova.download.needed import ANOTHERS, DTYPE, MISSING, NEEDED, OURS, file_for, state_of
from mova.download.places import Places
from mova.download.run import RELEASES, download
from mova.download.singles import SINGLES
from mova.download.totals import Totals

WANTED = {str(file_for(part, "tiny", DTYPE)) for part in NEEDED}
VAE = SINGLES["wan_vae"]


@pytest.fixture
def both(hub, tmp_path):
    """The release on a hub, and the files for Wan."""
    hub.beside = [wan_hub(tmp_path / "wan")]
    return hub


@pytest.fixture
def models(tmp_path):
    folder = tmp_path / "ComfyUI/models"
    folder.mkdir(parents=True)
    return folder


def test_the_name_alone_brings_what_the_workflows_name_into_the_models_beside_custom_nodes(
    both, models, monkeypatch, capsys
):
    monkeypatch.setattr("mova.commands.model_files.PACK", models.parent / "custom_nodes/any name")
    assert main(["download", "someone/tiny"]) == 0
    assert set(files_in(models)) == WANTED
    told = capsys.readouterr()
    assert {Path(line.strip()).relative_to(models).as_posix() for line in told.out.splitlines()} == WANTED
    assert main(["download", "someone/tiny"]) == 0
    assert capsys.readouterr().out.count("(kept: it was there already)") == 5


@pytest.mark.skipif(os.name == "nt", reason="only developers may make links on Windows")
def test_the_command_of_the_readme_alone_does_it(release, models, tmp_path):
    """As a user types it: the pack in custom_nodes, run by its folder, from anywhere."""
    (models.parent / "custom_nodes").mkdir()
    pack = models.parent / "custom_nodes/ComfyUI-MOVA"
    pack.symlink_to(ROOT, target_is_directory=True)
    hub = Hub(release, RELEASES["MOVA-360p"])
    hub.beside = [wan_hub(tmp_path / "wan")]
    with hub.running():
        environment = {**os.environ, "HF_ENDPOINT": hub.url, "HF_HOME": str(tmp_path / "home")}
        command = [sys.executable, "ComfyUI/custom_nodes/ComfyUI-MOVA", "download", "MOVA-360p"]
        ran = subprocess.run(command, cwd=tmp_path, env=environment, capture_output=True, text=True)
    assert ran.returncode == 0, ran.stderr
    wanted = {file_for(part, "MOVA-360p", DTYPE).as_posix() for part in NEEDED}
    assert {*files_in(models)} == {
        Path(line.strip()).relative_to(models).as_posix() for line in ran.stdout.splitlines()
    }
    assert {*files_in(models)} == wanted


@pytest.mark.parametrize("path", sorted((ROOT / "workflows").glob("*.json")), ids=lambda path: path.stem)
def test_every_workflow_names_these_files(path):
    nodes = json.loads(path.read_text(encoding="utf-8"))["nodes"]
    values = {str(value) for node in nodes for value in node.get("widgets_values") or []}
    release = "MOVA-720p" if "mova_12" in path.stem else "MOVA-360p"  # two stages end at 1280 x 720
    assert {file_for(part, release, DTYPE).name for part in NEEDED} == {
        value for value in values if value.endswith(".safetensors") and "lora" not in value
    }


def test_outside_of_custom_nodes_the_destination_is_asked_for(both, tmp_path, capsys):
    (tmp_path / "models").mkdir()
    with pytest.raises(MovaError, match=r"no models folder beside .*; name the folder that the files should go to"):
        models_folder(tmp_path / "packs" / "mova")
    with pytest.raises(MovaError, match="no models folder beside"):
        models_folder(tmp_path / "elsewhere" / "custom_nodes" / "mova")
    command = [sys.executable, "-m", "mova", "download", "MOVA-360p"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True)
    assert ran.returncode == 1 and ran.stderr.startswith("error: There is no models folder beside"), ran.stderr


def test_a_pack_that_is_linked_into_custom_nodes_is_where_it_is_called(tmp_path):
    (tmp_path / "ComfyUI/models").mkdir(parents=True)
    (tmp_path / "ComfyUI/custom_nodes").mkdir()
    (tmp_path / "pack").mkdir()
    link = tmp_path / "ComfyUI/custom_nodes/pack"
    link.symlink_to(tmp_path / "pack", target_is_directory=True)
    assert models_folder(link) == tmp_path / "ComfyUI/models"


def test_what_the_workflows_still_lack_is_told_with_its_remedy(both, models, capsys):
    command = ["download", "someone/tiny", str(models), "--parts", "audio_vae"]
    assert main(command) == 0
    lacking = ", ".join(str(single.path) for single in SINGLES.values())
    assert f"has no {lacking}, which the workflows need too; add --parts wan_vae,wan_text_encoder." in (
        capsys.readouterr().err
    )
    assert main([*command, "wan_vae,wan_text_encoder"]) == 0
    assert "need too" not in capsys.readouterr().err
    assert len(files_in(models)) == 3


def test_the_files_for_wan_go_on_after_a_stop_and_are_asked_for_no_more_when_they_are_there(both, models):
    (wan,) = both.beside
    with pytest.raises(KeyboardInterrupt):
        list(download("someone/tiny", models, parts=["wan_vae"], progress=stop_at(lambda n, done, total: done > 0)))
    (left,) = files_in(models).values()
    arrived = left.stat().st_size
    assert left.name == VAE.path.name + ".part" and 0 < arrived < wan.size(VAE.name)
    (made,) = download("someone/tiny", models, parts=["wan_vae"])
    assert made.path.read_bytes() == (wan.folder / VAE.name).read_bytes() and not made.kept
    assert wan.fetched(VAE.name)[1] == (arrived, wan.size(VAE.name) - arrived)
    wan.refusal = both.refusal = (500, "")
    (made,) = download("someone/tiny", models, parts=["wan_vae"])
    assert made.kept and [*files_in(models)] == [VAE.path.as_posix()]


def test_a_file_for_wan_that_is_cut_off_is_fetched_again_and_a_wrong_byte_is_found(both, models):
    (wan,) = both.beside
    path = models / VAE.path
    path.parent.mkdir()
    whole = (wan.folder / VAE.name).read_bytes()
    path.write_bytes(whole[:-10])
    wan.changed[VAE.name] = whole[:-1] + bytes([whole[-1] ^ 1])
    with pytest.raises(MovaError, match=r"wan_2\.1_vae.*SHA-256 differs.*was deleted; run the same command again"):
        list(download("someone/tiny", models, parts=["wan_vae"]))
    wan.changed.clear()
    list(download("someone/tiny", models, parts=["wan_vae"]))
    assert path.read_bytes() == whole


def test_files_of_which_the_hub_lists_no_sum_are_not_taken(both, models):
    (wan,) = both.beside
    wan.hashes[VAE.name] = None
    with pytest.raises(MovaError, match=r"lacks split_files/vae/wan_2\.1_vae.*; fetch wan_2.1_vae.* by hand into"):
        list(download("someone/tiny", models, parts=["wan_vae"]))


def test_folders_may_be_elsewhere(both, models, tmp_path):
    elsewhere = tmp_path / "large disk"
    places = Places(models, {"diffusion_models": elsewhere})
    list(download("someone/tiny", places, DTYPE, ["high_noise", "audio_vae"]))
    assert [*files_in(elsewhere)] == [file_for("high_noise", "tiny", DTYPE).name]
    assert [*files_in(models)] == ["vae/tiny_audio_vae.safetensors"]


def test_room_is_asked_for_all_files_before_one_arrives(both, models, tmp_path, monkeypatch):
    usage = shutil.disk_usage(tmp_path)
    monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**6))
    with pytest.raises(MovaError, match=r"has 0\.00 GB free, and the download needs"):
        list(download("someone/tiny", models, DTYPE, NEEDED))
    with pytest.raises(MovaError, match=r"has 0\.00 GB free, and the download needs 0\.00 GB"):
        monkeypatch.setattr(shutil, "disk_usage", lambda _: usage._replace(free=10**4))
        list(download("someone/tiny", models, DTYPE, ["wan_vae"]))
    asked = [name for hub in (both, *both.beside) for name, *_ in hub.asked]
    assert files_in(models) == {} and not [name for name in asked if name.endswith(".safetensors")]


def test_it_is_told_beforehand_how_much_is_to_arrive(both, models):
    planned, arrived = [], dict[str, int]()

    def progress(name, done, total):
        if name.startswith("fetching"):
            arrived[name] = done

    made = list(
        download("someone/tiny", models, DTYPE, NEEDED, progress=progress, planned=lambda *told: planned.append(told))
    )
    assert len(made) == 5 and planned == [(5, sum(arrived.values()))] and planned[0][1] > 10**7
    list(download("someone/tiny", models, DTYPE, NEEDED, planned=lambda *told: planned.append(told)))
    assert planned[1:] == [(0, 0)]


def test_a_line_tells_what_arrived_of_all_and_how_long_the_rest_takes():
    totals = Totals(5, 60 * 10**9, started=100.0)
    totals.tell("fetching video_dit 00001-of-00003", 4 * 10**9)  # from before: not among the 60
    assert totals.line(100.0) == "0 of 5 files, 0.00 of 60.00 GB"
    totals.tell("fetching video_dit 00001-of-00003", 10 * 10**9)
    totals.tell("writing video_dit 00001-of-00003", 3 * 10**9)  # nothing that arrives
    totals.finished = 1
    assert totals.line(105.0) == "1 of 5 files, 6.00 of 60.00 GB", "too early to guess"
    assert totals.line(220.0) == "1 of 5 files, 6.00 of 60.00 GB, about 18 min left"
    totals.tell("fetching video_dit 00002-of-00003", 0)
    totals.tell("fetching video_dit 00002-of-00003", 54 * 10**9)
    assert totals.line(1000.0) == "1 of 5 files, 60.00 of 60.00 GB"
    totals.tell("fetching video_dit 00002-of-00003", 0)  # a server that sends the whole file again
    assert totals.line(1000.0).startswith("1 of 5 files, 6.00 of 60.00 GB")


@pytest.mark.parametrize("dtype", FORMATS)
def test_names_are_known_without_a_release(release, dtype):
    """The same as those of the files that conversion plans."""
    for target in plan(release, dtype, None, [part for part in NEEDED if part not in SINGLES]):
        assert path_of(target, Path()) == file_for(target.part, "tiny", dtype)


def test_a_file_is_ours_if_it_says_of_what_it_is_made(release, converted, tmp_path):
    list(convert(release, tmp_path, "fp8_e4m3_scaled", None, ["high_noise"]))
    path = tmp_path / file_for("high_noise", "tiny", DTYPE)
    assert state_of(path, "high_noise", "tiny", DTYPE) == OURS
    for other in (("low_noise", "tiny", DTYPE), ("high_noise", "MOVA-360p", DTYPE), ("high_noise", "tiny", "bf16")):
        assert state_of(path, *other) == ANOTHERS
    audio = converted("bf16") / file_for("audio_vae", "tiny", DTYPE)
    assert state_of(audio, "audio_vae", "tiny", DTYPE) == OURS
    whole = path.read_bytes()
    for damaged in (whole[:-1], whole + b"\0", b""):
        path.write_bytes(damaged)
        assert state_of(path, "high_noise", "tiny", DTYPE) == MISSING
    path.unlink()
    assert state_of(path, "high_noise", "tiny", DTYPE) == MISSING
    save_file({"weight": torch.zeros(3)}, path)
    assert state_of(path, "high_noise", "tiny", DTYPE) == ANOTHERS


def test_a_gguf_file_is_known_too(release, tmp_path):
    list(convert(release, tmp_path, "gguf_q8_0", None, ["high_noise"]))
    path = tmp_path / file_for("high_noise", "tiny", "gguf_q8_0")
    assert state_of(path, "high_noise", "tiny", "gguf_q8_0") == OURS
    assert state_of(path, "high_noise", "tiny", "gguf_q4_0") == ANOTHERS
    path.write_bytes(path.read_bytes()[:-40])
    assert state_of(path, "high_noise", "tiny", "gguf_q8_0") == MISSING


def test_what_is_converted_in_that_place_is_the_same(both, models, release, converted):
    list(download("someone/tiny", Places(models), "bf16", ["audio_vae", "wan_vae"]))
    (models / VAE.path).unlink()
    same_files(models, converted("bf16"), "audio_vae")
    assert contents(models).keys() == {"vae/tiny_audio_vae.safetensors"}


def test_what_the_node_puts_in_its_own_words_is_still_said_so():
    def texts(path):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.JoinedStr):
                yield "".join(part.value if isinstance(part, ast.Constant) else "{}" for part in node.values)
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value

    module = ast.parse((ROOT / "nodes/get_models.py").read_text(encoding="utf-8"))
    (words,) = (ast.literal_eval(node.value) for node in module.body if ast.unparse(node).startswith("WORDS = "))
    files = [file for room in ("download", "convert") for file in (ROOT / "mova" / room).glob("*.py")]
    said = [text for file in files for text in texts(file)]
    chosen = {"with --verify": "{} --verify", " without --verify": "{} --verify"}  # one of both, where it is said
    assert [phrase for phrase in words if not any(chosen.get(phrase, phrase) in text for text in said)] == []
