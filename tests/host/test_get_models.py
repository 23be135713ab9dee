"""MOVA Get Models, by HTTP and websocket, against a hub of our own: pressed, stopped, pressed again."""

import threading

import pytest
from client import refusal
from get_models import ALL, DTYPE, FILES, NAMED, RELEASE, SLOW, empty, empty_server, get_models, stand_in, there
from graphs import ref


@pytest.fixture(scope="module")
def hub(release, tmp_path_factory):
    with stand_in(release, tmp_path_factory.mktemp("wan")).running() as hub:
        yield hub


@pytest.fixture(scope="module")
def host(host_place, hub, tmp_path_factory):
    with empty_server(host_place, tmp_path_factory.mktemp("empty"), hub) as server:
        yield server


@pytest.fixture
def server(host, hub):
    empty(host)
    for one in (hub, *hub.beside):
        one.asked.clear()
        one.refusal = None
        one.hold.clear()
        one.changed.clear()
        one.held.clear()
        one.released.clear()
    return host


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


def test_one_press_brings_all_that_the_loaders_need_and_they_list_it_without_a_restart(server, hub):
    names = {part: path.split("/")[1] for part, path in FILES.items()}
    assert names["high_noise"] not in listed(server, "MOVAModelLoader", "high_noise")
    assert names["wan_vae"] not in listed(server, "VAELoader", "vae_name")
    result = server.run(get_models().nodes)
    assert result.error is None, result.error
    assert there(server) == set(FILES.values())
    for part in ("high_noise", "low_noise"):
        assert names[part] in listed(server, "MOVAModelLoader", part)
        assert names[part] in listed(server, "UNETLoader", "unet_name")
    assert names["audio_vae"] in listed(server, "MOVAAudioVAELoader", "vae_name")
    assert names["wan_vae"] in listed(server, "VAELoader", "vae_name")
    assert names["wan_text_encoder"] in listed(server, "CLIPLoader", "clip_name")
    *lines, last = texts(result)
    assert last.startswith("Done: ") and all(name in last for name in names.values())
    assert any("of 5 files" in line and " GB" in line and "fetching video_dit" in line for line in lines)
    values = [value for _, value, _ in result.progress]
    (total,) = {most for *_, most in result.progress}
    assert values == sorted(values) and values[-1] <= total and len(values) > 5 and total > 10**7
    assert ("mova.models", {}) in result.others, "the page is told to list the files"
    assert hub.tokens["127.0.0.1"] == {"Bearer hf_x"}, "the token comes from the environment"


def test_what_was_downloaded_is_what_conversion_makes(server, converted):
    assert said(server, get_models("audio_vae")).startswith("Done: MOVA-360p_audio_vae")
    made = (server.base / "models" / FILES["audio_vae"]).read_bytes()
    wanted = (converted("bf16") / "vae/tiny_audio_vae.safetensors").read_bytes()
    size = int.from_bytes(wanted[:8], "little")
    assert made[-(len(wanted) - 8 - size) :] == wanted[8 + size :], "the same tensors; the release's name is another"


def test_a_second_press_says_at_once_that_nothing_is_to_do_and_asks_no_hub(server, hub):
    said(server, get_models())
    asked = [*hub.asked, *hub.beside[0].asked]
    hub.refusal = (500, "")
    for parts in (ALL, NAMED, "high_noise"):
        text = said(server, get_models(parts))
        assert text.startswith("Nothing to do: all is there (") and "MOVA-360p_high_noise_fp8_e4m3_scaled" in text
    assert [*hub.asked, *hub.beside[0].asked] == asked


def test_a_file_that_is_gone_is_fetched_alone(server, hub):
    said(server, get_models())
    (server.base / "models" / FILES["audio_vae"]).unlink()
    hub.asked.clear()
    assert said(server, get_models()) == "Done: MOVA-360p_audio_vae.safetensors."
    assert {name.split("/")[0] for name in weights_fetched(hub) if hub.fetched(name)} <= {"audio_vae"} | {"split_files"}


def press_and_stop(server, hub, graph):
    """Queue it, and press Stop while a shard arrives."""
    hub.hold[SLOW] = hub.size(SLOW) // 2

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


def test_stopped_it_keeps_what_has_arrived_and_goes_on_from_there(server, hub):
    assert press_and_stop(server, hub, get_models()).error == "interrupted"
    assert {FILES["wan_vae"], FILES["wan_text_encoder"], FILES["audio_vae"]} <= there(server)
    assert FILES["high_noise"] not in there(server)
    assert FILES["high_noise"].split("/")[1] not in listed(server, "MOVAModelLoader", "high_noise")
    first = len(hub.fetched(SLOW.replace("00002-of", "00001-of")))
    assert said(server, get_models()).startswith("Done: ")
    assert there(server) == set(FILES.values())
    size = hub.size(SLOW)
    assert hub.fetched(SLOW)[-1][0] >= size // 2 - 2**16, "not from the beginning"
    assert len(hub.fetched(SLOW.replace("00002-of", "00001-of"))) == first == 1


def test_in_a_workflow_it_brings_only_what_the_loaders_name_and_lack(server, hub):
    graph = get_models(NAMED)
    graph.add("MOVAAudioVAELoader", vae_name="MOVA-360p_audio_vae.safetensors")
    graph.add("MOVAModelLoader", high_noise="mine.safetensors", low_noise="none", weight_dtype="default")
    assert said(server, graph) == "Done: MOVA-360p_audio_vae.safetensors."
    assert there(server) == {FILES["audio_vae"]}


def test_a_workflow_of_other_files_downloads_nothing(server, hub):
    graph = get_models(NAMED, release="MOVA-720p")
    graph.add("MOVAModelLoader", high_noise="mine.safetensors", low_noise="none", weight_dtype="default")
    assert said(server, graph).startswith("Nothing to do: this workflow names no file of MOVA-720p in fp8_e4m3_scaled")
    assert there(server) == set() and hub.asked == []


def test_the_first_run_of_a_workflow_downloads_and_the_second_runs_it(server, hub):
    """The loaders' files are not there: the host refuses what hangs on them, and runs this node."""
    graph = get_models(NAMED)
    loader = graph.add("MOVAAudioVAELoader", vae_name="MOVA-360p_audio_vae.safetensors")
    sound = graph.add("EmptyAudio", duration=1.0, sample_rate=48000, channels=1)
    latent = graph.add("MOVAAudioEncode", audio=ref(sound), audio_vae=ref(loader), length=9, fps=24.0)
    saved = graph.save(ref(latent))
    first = server.run(graph.nodes)
    assert texts(first)[-1] == "Done: MOVA-360p_audio_vae.safetensors." and saved not in first.executed
    second = server.run(graph.nodes)
    assert second.error is None and saved in second.executed
    assert "Nothing to do: all is there (MOVA-360p_audio_vae.safetensors)." in texts(second)


def test_a_hub_that_refuses_is_one_sentence_with_this_node_s_words(server, hub):
    hub.refusal = (503, "")
    hub.beside[0].refusal = None
    text = refusal(server, get_models())
    assert "refuses OpenMOSS-Team/MOVA-360p (HTTP status 503); wait a while, then run this node again" in text
    hub.refusal = (404, "RepoNotFound")
    assert "has no repository OpenMOSS-Team/MOVA-360p" in refusal(server, get_models("high_noise"))
    assert not [name for name in there(server) if "MOVA" in name]


def test_a_wrong_byte_is_found(server, hub):
    name = "audio_vae/diffusion_pytorch_model.safetensors"
    content = (hub.folder / name).read_bytes()
    hub.changed[name] = content[:-1] + bytes([content[-1] ^ 1])
    text = refusal(server, get_models("audio_vae"))
    assert "SHA-256 differs" in text and "run this node again, which fetches it once more" in text
    assert FILES["audio_vae"] not in there(server)


def test_a_file_of_that_name_that_is_another_s_is_left_alone(server, hub):
    path = server.base / "models" / FILES["audio_vae"]
    said(server, get_models("wan_vae"))
    path.write_bytes((server.base / "models" / FILES["wan_vae"]).read_bytes())
    before = path.read_bytes()
    text = refusal(server, get_models())
    assert "MOVA-360p_audio_vae.safetensors is there, but does not say that it is the audio_vae of MOVA-360p" in text
    assert path.read_bytes() == before


@pytest.mark.parametrize(
    ("name", "value"), [("release", "../../x"), ("release", "a/b"), ("format", "x"), ("parts", "x")]
)
def test_only_what_is_in_the_lists_can_be_asked_for(server, hub, name, value):
    _, error = server.submit(get_models(**{name: value}).nodes)
    assert error and "not in list" in error
    assert there(server) == set() and hub.asked == []


def test_two_downloads_do_not_meet(server, hub):
    from filelock import FileLock

    place = server.base / "models/.mova-download"
    place.mkdir()
    with FileLock(place / "lock"):
        text = refusal(server, get_models("audio_vae"))
    assert "Another download (of this server or of the command line) to" in text and "is at work; wait for it" in text


def test_the_format_is_in_the_name_of_the_files(server, hub):
    assert said(server, get_models("high_noise", format="nvfp4")) == "Done: MOVA-360p_high_noise_nvfp4.safetensors."
    assert there(server) == {"diffusion_models/MOVA-360p_high_noise_nvfp4.safetensors"}
    assert DTYPE != "nvfp4" and RELEASE == "MOVA-360p"
