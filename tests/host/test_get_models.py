"""MOVA Get Models, by HTTP and websocket, against a hub of our own: pressed, stopped, pressed again."""

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import torch
from client import ran, refusal
from get_models import ALL, DTYPE, FILES, NAMED, RELEASE, SLOW, get_models, place, there
from graphs import Graph, ref
from hub import Hub
from prism_files import write_prism
from safetensors.torch import save_file

from mova.checkpoint.release import EXPERTS
from mova.download.run import PRISM_REPOSITORY

ROOT = Path(__file__).parents[2]
AUDIO_VAE = "audio_vae/diffusion_pytorch_model.safetensors"
DONE = "Done: MOVA-360p_audio_vae.safetensors. Run once more: the loaders have them now."


def texts(result):
    return [text for _, text in result.notices]


def said(server, graph):
    """What the node says at last."""
    result = server.run(graph.nodes)
    assert result.error is None, result.error
    return texts(result)[-1]


def listed(server, node, name):
    """What the page gets for a combo, when R is pressed."""
    info = server.get_json(f"/object_info/{node}")[node]["input"]["required"][name]
    return info[1]["options"] if info[0] == "COMBO" else info[0]


def weights_fetched(hub):
    return [name for one in (hub, *hub.beside) for name, *_ in one.asked if name.endswith(".safetensors")]


def test_one_press_brings_all_that_the_loaders_need_and_they_list_it_without_a_restart(empty_host, hub):
    names = {part: path.split("/")[1] for part, path in FILES.items()}
    assert names["high_noise"] not in listed(empty_host, "MOVAModelLoader", "high_noise")
    assert names["wan_vae"] not in listed(empty_host, "VAELoader", "vae_name")
    result = empty_host.run(get_models().nodes)
    assert result.error is None, result.error
    assert there(empty_host) == set(FILES.values())
    for part in ("high_noise", "low_noise"):
        assert names[part] in listed(empty_host, "MOVAModelLoader", part)
        assert names[part] in listed(empty_host, "UNETLoader", "unet_name")
    assert names["audio_vae"] in listed(empty_host, "MOVAAudioVAELoader", "vae_name")
    assert names["wan_vae"] in listed(empty_host, "VAELoader", "vae_name")
    assert names["wan_text_encoder"] in listed(empty_host, "CLIPLoader", "clip_name")
    *lines, last = texts(result)
    assert last == "Done: 5 files. Run once more: the loaders have them now."
    assert any("of 5 files" in line and " GB" in line and "fetching video_dit" in line for line in lines)
    values = [value for _, value, _ in result.progress]
    (total,) = {most for *_, most in result.progress}
    assert values == sorted(values) and values[-1] <= total and len(values) > 5 and total > 10**7
    assert ("mova.models", {}) in result.others, "the page is told to list the files"
    assert hub.tokens["127.0.0.1"] == {"Bearer hf_x"}, "the token comes from the environment"


def test_what_was_downloaded_is_what_conversion_makes(empty_host, converted):
    assert said(empty_host, get_models("audio_vae")).startswith("Done: MOVA-360p_audio_vae")
    made = (place(empty_host, "audio_vae")).read_bytes()
    wanted = (converted("bf16") / "vae/tiny_audio_vae.safetensors").read_bytes()
    size = int.from_bytes(wanted[:8], "little")
    assert made[-(len(wanted) - 8 - size) :] == wanted[8 + size :], "the same tensors; the release's name is another"


def test_prism_s_experts_come_with_its_base_s_other_files(empty_host, hub, release, tmp_path):
    write_prism(release, tmp_path / "Prism/preview_beta")
    prism = Hub(tmp_path / "Prism", PRISM_REPOSITORY)
    hub.beside.append(prism)
    try:
        experts = get_models(release="Prism-preview_beta")
        assert said(empty_host, experts) == "Done: 5 files. Run once more: the loaders have them now."
        of_prism = {f"diffusion_models/Prism-preview_beta_{expert}_{DTYPE}.safetensors" for expert in EXPERTS}
        assert there(empty_host) == of_prism | {file for part, file in FILES.items() if part not in EXPERTS}
        assert {name for name, *_ in hub.asked if name.endswith(".safetensors")} == {AUDIO_VAE}
        assert said(empty_host, experts) == "Nothing to do: all is there (5 files)."
        names = listed(empty_host, "MOVAModelLoader", "high_noise")
        assert {f"diffusion_models/{name}" for name in names} == of_prism
    finally:
        hub.beside.remove(prism)
        prism.server.server_close()


def test_a_second_press_says_at_once_that_nothing_is_to_do_and_asks_no_hub(empty_host, hub):
    said(empty_host, get_models())
    asked = [*hub.asked, *hub.beside[0].asked]
    hub.refusal = (500, "")
    one = "MOVA-360p_high_noise_fp8_e4m3_scaled.safetensors"
    for parts, files in ((ALL, "5 files"), (NAMED, "5 files"), ("high_noise", one)):
        assert said(empty_host, get_models(parts)) == f"Nothing to do: all is there ({files})."
    assert [*hub.asked, *hub.beside[0].asked] == asked


def test_a_file_that_is_gone_is_fetched_alone(empty_host, hub):
    said(empty_host, get_models())
    (place(empty_host, "audio_vae")).unlink()
    hub.asked.clear()
    assert said(empty_host, get_models()) == DONE
    assert {name.split("/")[0] for name in weights_fetched(hub) if hub.fetched(name)} <= {"audio_vae"} | {"split_files"}


def press_and_stop(server, hub, graph):
    """Queue it, and press Stop while a shard arrives."""
    hub.hold[SLOW] = 10_000  # for each time that it is asked

    def stop():
        assert hub.held.wait(100)
        server.post("/interrupt", {})

    thread = threading.Thread(target=stop)
    thread.start()
    result = server.run(graph.nodes)
    thread.join()
    hub.hold.clear()
    hub.released.set()
    return result


def test_stopped_it_keeps_what_has_arrived_and_goes_on_from_there(empty_host, hub):
    assert press_and_stop(empty_host, hub, get_models()).error == "interrupted"
    assert {FILES["wan_vae"], FILES["wan_text_encoder"], FILES["audio_vae"]} <= there(empty_host)
    assert FILES["high_noise"] not in there(empty_host)
    assert FILES["high_noise"].split("/")[1] not in listed(empty_host, "MOVAModelLoader", "high_noise")
    first = len(hub.fetched(SLOW.replace("00002-of", "00001-of")))
    assert said(empty_host, get_models()).startswith("Done: ")
    assert there(empty_host) == set(FILES.values())
    assert hub.fetched(SLOW)[-1][0] > 0, "not from the beginning"
    assert len(hub.fetched(SLOW.replace("00002-of", "00001-of"))) == first == 1


def test_what_was_stopped_here_the_command_line_goes_on_with(empty_host, hub):
    assert press_and_stop(empty_host, hub, get_models("high_noise")).error == "interrupted"
    command = [sys.executable, "-m", "mova", "download", RELEASE, str(empty_host.base / "models")]
    command += ["--dtype", DTYPE, "--parts", "high_noise"]
    ran = subprocess.run(command, cwd=ROOT, env={**os.environ, "HF_ENDPOINT": hub.url}, capture_output=True, text=True)
    assert ran.returncode == 0 and there(empty_host) == {FILES["high_noise"]}, ran.stderr
    assert hub.fetched(SLOW)[-1][0] > 0, "not from the beginning"
    assert said(empty_host, get_models("high_noise")).startswith("Nothing to do: ")


def test_in_a_workflow_it_brings_only_what_the_loaders_name_and_lack(empty_host, hub):
    graph = get_models(NAMED)
    graph.add("MOVAAudioVAELoader", vae_name="MOVA-360p_audio_vae.safetensors")
    graph.add("MOVAModelLoader", high_noise="mine.safetensors", low_noise="none", weight_dtype="default")
    assert said(empty_host, graph) == DONE
    assert there(empty_host) == {FILES["audio_vae"]}


def test_a_workflow_of_other_files_downloads_nothing(empty_host, hub):
    graph = get_models(NAMED, release="MOVA-720p")
    graph.add("MOVAModelLoader", high_noise="mine.safetensors", low_noise="none", weight_dtype="default")
    assert said(empty_host, graph).startswith(
        "Nothing to do: this workflow names no file of MOVA-720p in fp8_e4m3_scaled"
    )
    assert there(empty_host) == set() and hub.asked == []


def test_the_first_run_of_a_workflow_downloads_and_the_second_runs_it(empty_host, hub):
    """The loaders' files are not there: the host refuses what hangs on them, and runs this node."""
    graph = get_models(NAMED)
    loader = graph.add("MOVAAudioVAELoader", vae_name="MOVA-360p_audio_vae.safetensors")
    sound = graph.add("EmptyAudio", duration=1.0, sample_rate=48000, channels=1)
    latent = graph.add("MOVAAudioEncode", audio=ref(sound), audio_vae=ref(loader), length=9, fps=24.0)
    saved = graph.save(ref(latent))
    _, answer = empty_host.post("/prompt", {"prompt": {n: node for n, node in graph.nodes.items() if n != "1"}})
    told = [error["details"] for error in answer["node_errors"][loader]["errors"]]
    assert [text.split("; ")[1] for text in told] == ["run MOVA Get Models, or choose one of its list."]
    first = empty_host.run(graph.nodes)
    assert texts(first)[-1] == DONE and saved not in first.executed
    second = empty_host.run(graph.nodes)
    assert second.error is None and saved in second.executed
    assert "Nothing to do: all is there (MOVA-360p_audio_vae.safetensors)." in texts(second)


def test_a_hub_that_refuses_is_one_sentence_with_this_node_s_words(empty_host, hub):
    hub.refusal = (503, "")
    hub.beside[0].refusal = None
    text = refusal(empty_host, get_models())
    assert "Wait a while, then run this node again, it goes on from there: The model hub refuses OpenMOSS" in text
    hub.refusal = (404, "RepoNotFound")
    assert "has no repository OpenMOSS-Team/MOVA-360p" in refusal(empty_host, get_models("high_noise"))
    assert not [name for name in there(empty_host) if "MOVA" in name]


def test_a_wrong_byte_is_found(empty_host, hub):
    name = "audio_vae/diffusion_pytorch_model.safetensors"
    content = (hub.folder / name).read_bytes()
    hub.changed[name] = content[:-1] + bytes([content[-1] ^ 1])
    text = refusal(empty_host, get_models("audio_vae"))
    assert "SHA-256 differs" in text and "Run this node again, which fetches it once more: " in text
    assert FILES["audio_vae"] not in there(empty_host)


def test_a_file_of_that_name_that_is_another_s_is_left_alone(empty_host, hub):
    path = place(empty_host, "audio_vae")
    save_file({"weight": torch.zeros(3)}, path)
    before = path.read_bytes()
    text = said(empty_host, get_models())
    assert text.startswith("Done: 4 files. ")
    kept = "Kept, though not marked as of MOVA-360p: MOVA-360p_audio_vae.safetensors."
    assert text.endswith(kept)
    assert path.read_bytes() == before and there(empty_host) == set(FILES.values())
    assert said(empty_host, get_models()) == f"Nothing to do: all is there (5 files). {kept}"


@pytest.mark.parametrize(
    ("name", "value"), [("release", "../../x"), ("release", "a/b"), ("format", "x"), ("parts", "x")]
)
def test_only_what_is_in_the_lists_can_be_asked_for(empty_host, hub, name, value):
    _, error = empty_host.submit(get_models(**{name: value}).nodes)
    assert error and "not in list" in error
    assert there(empty_host) == set() and hub.asked == []


def test_two_downloads_do_not_meet(empty_host, hub):
    from filelock import FileLock

    folder = empty_host.base / "models/.mova-download"
    folder.mkdir()
    with FileLock(folder / "lock"):
        text = refusal(empty_host, get_models("audio_vae"))
    assert "Another download (of this server or of the command line) to" in text and "Wait for it, or stop it: " in text


def test_the_format_is_in_the_name_of_the_files(empty_host, hub):
    assert said(empty_host, get_models("high_noise", format="nvfp4")) == DONE.replace("audio_vae", "high_noise_nvfp4")
    assert there(empty_host) == {"diffusion_models/MOVA-360p_high_noise_nvfp4.safetensors"}
    assert DTYPE != "nvfp4" and RELEASE == "MOVA-360p"


def under(server, what, parts=ALL):
    """What is told under these circumstances."""
    graph = Graph()
    graph.add("ProbeDownloads", what=what)
    ran(server, graph)
    try:
        result = server.run(get_models(parts).nodes)
        return result.error or texts(result)[-1]
    finally:
        graph.nodes["1"]["inputs"]["what"] = "well"
        ran(server, graph)


def test_a_flag_of_the_server_s_forbids_it(empty_host, hub):
    told = under(empty_host, "forbidden")
    assert "Ask whoever runs it: Downloads are off on this server (MOVA_NO_DOWNLOADS is set), and MOVA-360p_h" in told
    assert there(empty_host) == set() and hub.asked == []
    assert under(empty_host, "allowed", "wan_vae").startswith("Done: ")
    assert under(empty_host, "forbidden", "wan_vae").startswith("Nothing to do: ")


def test_offline_it_names_the_files_to_bring_by_hand(empty_host, hub):
    told = under(empty_host, "offline")
    assert "Unset it, or bring files by hand: This server is offline (HF_HUB_OFFLINE is set), and MOVA-360p_h" in told
    assert told.rstrip().endswith(f"{FILES['wan_text_encoder'].split('/')[1]} are missing.")
    said(empty_host, get_models("wan_vae"))
    assert under(empty_host, "offline", "wan_vae").startswith("Nothing to do: ")


def test_without_a_network_it_says_so_and_leaves_nothing(empty_host, hub):
    told = under(empty_host, "no network")
    assert "The model hub could not be reached for Comfy-Org/Wan_2.1_ComfyUI_repackaged" in told
    assert "hen run this node again, it goes on from there" in told and there(empty_host) == set()


def test_a_disk_that_is_too_small_is_refused_before_anything_arrives(empty_host, hub):
    told = under(empty_host, "no room")
    assert "has 0.00 GB free, and the download needs 0." in told
    assert "Make room, or choose fewer parts or a smaller format: " in told
    assert there(empty_host) == set() and weights_fetched(hub) == []
