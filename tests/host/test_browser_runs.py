"""What the Run button does, and what the page then tells; in a real browser, as test_browser."""

import pytest
from PIL import Image
from slow import few
from small_workflows import NAMES

OUTPUTS = """async id => {
  for (;;) {
    const run = (await (await fetch(`/api/history/${id}`)).json())[id]
    if (run) return run.outputs
    await new Promise(done => setTimeout(done, 100))
  }
}"""
# Of a clip's file: another tab's or run's clip may be on the page too.
VIDEO = """file => {
  const video = document.querySelector(`video[src*='filename=${file}']`)
  return video?.readyState >= 2 && {error: video.error?.message ?? null, duration: video.duration,
    size: [video.videoWidth, video.videoHeight]}
}"""
PLAY = """async file => {
  const video = document.querySelector(`video[src*='filename=${file}']`)
  Object.assign(video, {muted: true, loop: false})
  await video.play()
  await new Promise(done => { video.onended = done; setTimeout(done, 3000) })
  return video.currentTime
}"""


def run(tab):
    """A press of Run, to its end: the name of the clip's file."""
    with tab.page.expect_response("**/api/prompt") as answer:
        tab.press_run()
    told = answer.value.json()
    assert told["node_errors"] == {}
    outputs = tab.ask(OUTPUTS, told["prompt_id"])
    shown = [file["filename"] for output in outputs.values() for file in output.get("images", [])]
    (file,) = [name for name in shown if name.endswith(".mp4")]  # training shows pictures, too
    return file


def run_and_play(tab, size):
    file = run(tab)
    video = tab.page.wait_for_function(VIDEO, arg=file, timeout=60_000).json_value()
    assert video == {"error": None, "duration": pytest.approx(9 / 24, abs=0.03), "size": size}
    assert tab.ask(PLAY, file) == pytest.approx(9 / 24, abs=0.03)
    return file


@pytest.mark.parametrize("name", few(NAMES, NAMES[0], "mova_10_train_a_lora", "mova_12_two_stages"))
def test_the_run_button_makes_a_clip_that_plays_in_the_page(tab, name):
    tab.open_workflow(name)
    tab.make_small()
    large = name in ("mova_4_foley_sound_for_a_video", "mova_12_two_stages")  # its frames as given; its second stage
    file = run_and_play(tab, [96, 64] if large else [48, 32])
    tab.press_assets()
    tab.page.get_by_text(file.removesuffix(".mp4")).first.wait_for()
    tab.press_assets()


def wrote(tab, name):
    """A run of a small workflow by the page's button: the prompt it encoded, and what wrote it."""
    before = set(tab.server.get_json("/history"))
    run_and_play(tab, [48, 32])
    (id_,) = set(tab.server.get_json("/history")) - before
    graph = tab.server.get_json(f"/history/{id_}")[id_]["prompt"][2]
    (encoder,) = (node for node in graph.values() if node["class_type"] == "MOVATextEncode")
    return graph[encoder["inputs"]["prompt"][0]]


SELECT = """() => app.canvas.selectItems(app.graph._nodes.filter(n => n.mode === 4))"""


@pytest.mark.parametrize("name", few(["mova_1_image_to_video_with_sound", "mova_2_text_to_video_with_sound"], NAMES[0]))
def test_ctrl_b_brings_the_enhancer_into_the_run_and_out_of_it_the_prompt_passes_through(tab, name):
    tab.open_workflow(name)
    tab.make_small()
    assert wrote(tab, name)["class_type"] == "PrimitiveStringMultiline"
    tab.view(0.5)
    tab.ask(SELECT)
    tab.page.keyboard.press("Control+b")
    tab.page.wait_for_function("() => app.graph._nodes.every(n => n.mode === 0)")
    tab.make_small(MOVAJointSampler={"seed": 5})
    assert wrote(tab, name)["class_type"] == "MOVAEnhancePrompt"


KEPT = """() => app.graph._nodes.filter(n => n.type === 'MOVALoadConditioning').map(n => n.widgets[0].options.values)"""
CHOOSE = """files => app.graph._nodes.filter(n => n.type === 'MOVALoadConditioning').forEach(
  (n, i) => { n.widgets[0].value = files[i] })"""


def test_after_its_first_clip_low_memory_does_without_the_text_encoder_as_its_note_says(tab):
    tab.open_workflow("mova_6_low_memory")
    tab.make_small()
    run_and_play(tab, [48, 32])
    tab.view(0.5)
    tab.page.keyboard.press("r")
    folder = tab.server.base / "output/conditioning"
    files = [f"conditioning/{max(folder.glob(f'{name}_*')).name} [output]" for name in ("positive", "negative")]
    tab.page.wait_for_function(f"files => ({KEPT})().every((list, i) => list.includes(files[i]))", arg=files)
    tab.ask(CHOOSE, files)
    tab.draw_frame("2a")
    tab.page.keyboard.press("Control+m")
    run_and_play(tab, [48, 32])
    (run,) = tab.server.get_json("/history?max_items=1").values()
    sent = {node["class_type"]: node["inputs"] for node in run["prompt"][2].values()}
    assert not {"MOVATextEncode", "MOVASaveConditioning"} & set(sent)  # and nothing asks for the text encoder
    assert sent["MOVALoadConditioning"] == {"file": files[1]}


def test_what_a_node_says_stands_on_it(tab):
    Image.linear_gradient("L").resize((72, 128)).save(tab.server.base / "input/upright.png")
    tab.open_workflow("mova_7_lora")
    tab.make_small(LoadImage={"image": "upright.png"})
    tab.ask(
        "() => { const n = app.graph._nodes.find(n => n.type === 'MOVAJointSampler');"
        " n.disconnectInput(n.inputs.findIndex(i => i.name === 'model_low')) }"
    )
    tab.view(0.6)
    run(tab)  # to its end: the page shows what a run tells on whatever graph is in front
    for text in ("No low-noise expert is connected", "62% of the first picture (72 x 128) is cropped away"):
        tab.page.get_by_text(text).wait_for()
    told = tab.ask("() => app.graph._nodes.find(n => n.type === 'MOVALoraLoader').widgets.at(-1).value")
    assert "small.safetensors" in told


NOTICE = """() => app.graph._nodes.find(n => n.type === 'MOVAJointSampler').widgets
  .find(w => w.name === '$$node-text-preview')?.value"""
SOCKETS = "() => app.graph._nodes.find(n => n.type === 'MOVAJointSampler').inputs.map(i => i.name)"


def test_a_notice_lasts_as_long_as_it_is_true_also_from_the_cache(tab):
    """And the second expert is connected beside the first."""
    tab.open_workflow("mova_2_text_to_video_with_sound")
    tab.make_small()
    assert tab.ask(SOCKETS)[:2] == ["model_high", "model_low"]
    low = tab.ask(
        "() => { const n = app.graph._nodes.find(n => n.type === 'MOVAJointSampler');"
        " n.widgets.find(w => w.name === 'control_after_generate').value = 'fixed'; n.disconnectInput(1);"
        " return app.graph._nodes.find(n => n.type === 'MOVAModelLoader').id }"
    )
    file = run_and_play(tab, [48, 32])
    assert "No low-noise expert is connected" in tab.ask(NOTICE)

    tab.ask("() => app.graph._nodes.find(n => n.type === 'MOVAJointSampler').widgets.pop()")  # as in a new tab
    again = run(tab)  # all but the file comes from the cache: the page gives Save Video a widget after its first run
    tab.page.wait_for_function(f"() => ({NOTICE})()?.includes('No low-noise expert')")

    tab.ask(
        "id => app.graph.getNodeById(id).connect(1, app.graph._nodes.find(n => n.type === 'MOVAJointSampler'), 1)", low
    )
    assert run_and_play(tab, [48, 32]) not in (file, again)
    told = tab.ask(NOTICE)
    assert "No low-noise expert" not in told and "4 steps in" in told


def test_a_wrong_model_is_told_in_the_error_panel(tab):
    tab.open_workflow("mova_1_image_to_video_with_sound")
    tab.make_small(MOVAModelLoader={"high_noise": "wan.safetensors"})
    tab.press_run()
    told = tab.page.get_by_text("wan.safetensors is not a MOVA file").first
    details = tab.page.get_by_test_id("error-overlay-see-errors")  # not there if the panel of errors is open already
    for _ in range(60):
        if told.is_visible():
            break
        if details.is_visible():
            details.click()
        tab.page.wait_for_timeout(500)
    assert "Choose an expert of MOVA: " in told.inner_text()
    tab.complaints.clear()  # the page logs what the server told it
