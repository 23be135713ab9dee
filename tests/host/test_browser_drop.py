"""A clip of the command line that is dropped on ComfyUI's page; in a real browser, as test_browser."""

import base64

import pytest
from PIL import Image
from test_browser_runs import run_and_play

from mova.__main__ import main
from mova.clip.graph import WORKFLOWS

DROP = """async ([name, data]) => {
  const bytes = await (await fetch(`data:video/mp4;base64,${data}`)).arrayBuffer()
  const dataTransfer = new DataTransfer()
  dataTransfer.items.add(new File([bytes], name, {type: 'video/mp4'}))
  const at = {clientX: 700, clientY: 400, bubbles: true, cancelable: true, dataTransfer}
  app.canvas.canvas.dispatchEvent(new DragEvent('drop', at))
}"""
GRAPH = """() => Object.fromEntries(app.graph._nodes.map(n => [n.type, {
  widgets: Object.fromEntries((n.widgets ?? []).map(w => [w.name, w.value])),
  linked: (n.inputs ?? []).filter(i => i.link != null).map(i => i.name),
}]))"""
HERE = "() => app.graph._nodes.some(n => n.widgets?.some(w => w.value === 'A glass shatters 🚀'))"


@pytest.fixture
def clip(tiny_checkpoint, server, tmp_path):
    Image.linear_gradient("L").save(server.base / "input/small.png")
    options = ["--prompt", "A glass shatters 🚀", "--negative-prompt", "grey", "--seed", "7", "--guidance", "4"]
    options += ["--bridge-guidance", "2", "--video-shift", "6", "--audio-shift", "4", "--boundary", "0.5"]
    options += ["--width", "48", "--height", "32", "--frames", "9", "--steps", "2", "--dtype", "fp32"]
    options += ["--image", str(server.base / "input/small.png"), "--out", str(tmp_path / "clip.mp4")]
    assert main(["generate", "--checkpoint", str(tiny_checkpoint), *options]) == 0
    return tmp_path / "clip.mp4"


def test_a_dropped_clip_of_the_command_line_opens_the_graph_that_makes_it_and_this_runs(tab, clip):
    assert WORKFLOWS.is_dir()
    tab.ask("() => app.graph.clear()")
    tab.ask(DROP, [clip.name, base64.b64encode(clip.read_bytes()).decode()])
    tab.page.wait_for_function(HERE)
    nodes = tab.ask(GRAPH)
    sampler = {"seed": 7, "steps": 2, "cfg": 4, "bridge_cfg": 2, "video_shift": 6, "audio_shift": 4, "boundary": 0.5}
    assert nodes["MOVAJointSampler"]["widgets"].items() >= (sampler | {"audio_cfg": -1}).items()
    links = {"model_high", "model_low", "positive", "negative", "latent"}
    assert set(nodes["MOVAJointSampler"]["linked"]) == links
    shape = {"width": 48, "height": 32, "length": 9, "fps": 24}
    assert nodes["MOVAConditioning"]["widgets"].items() >= shape.items()
    assert nodes["MOVATextEncode"]["widgets"]["negative_prompt"] == "grey"
    assert nodes["LoadImage"]["widgets"]["image"] == "small.png"
    tab.make_small(keep=("MOVAConditioning", "LoadImage"))
    tab.command("Canvas.FitView")  # a video that is not in sight is not loaded
    run_and_play(tab, [48, 32])
