"""What `make demo` runs: a small checkpoint with random weights, and a clip of the shipped photograph made with it.

Through ComfyUI if there is one ($COMFYUI_PATH, or where comfy-cli puts it), else with the headless runner.
"""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path[:0] = [str(ROOT), str(ROOT / "tests")]
from clips import read_clip
from through_comfyui import find_comfyui, make_clip

from mova.__main__ import main
from mova.clip.contact_sheet import write_contact_sheet
from mova.progress import quiet_libraries

PROMPT = "A rocket lifts off at night; the engines roar."
IMAGE = ROOT / "demos" / "rocket.jpg"
DOWNLOAD = "download MOVA-360p PATH/TO/ComfyUI/models --dtype fp8_e4m3_scaled --parts high_noise,low_noise,audio_vae"
SIZE = {"width": 256, "height": 144, "frames": 25, "steps": 8}


def demo(folder: Path) -> int:
    start = time.monotonic()
    folder.mkdir(exist_ok=True)
    checkpoint, clip, sheet = folder / "tiny-checkpoint", folder / "rocket.mp4", folder / "rocket.png"
    if not checkpoint.exists() and main(["tiny", str(checkpoint)]):
        return 1
    if not through_comfyui(folder, checkpoint, clip):
        options = [f"--{name}={value}" for name, value in SIZE.items()]
        command = ["generate", f"--checkpoint={checkpoint}", f"--image={IMAGE}", f"--prompt={PROMPT}", f"--out={clip}"]
        if main([*command, *options, "--device=cpu", "--dtype=fp32"]):
            return 1
    frames, waveform, sample_rate, _ = read_clip(clip)
    assert waveform is not None
    write_contact_sheet(sheet, frames, waveform, sample_rate)
    print(
        f"""
Done in {time.monotonic() - start:.0f} seconds.
  the clip:          {clip}
  the contact sheet: {sheet}

The weights are random, so the picture and the sound are noise: what you saw is the whole path, from the text encoder
through both experts to the MP4. With a released checkpoint this makes a real clip, of the release's size, length and
steps, in bf16 and on a GPU if there is one:

  {sys.executable} {ROOT} generate --checkpoint PATH/TO/MOVA-360p --image {IMAGE} --prompt "{PROMPT}" --out rocket.mp4

For ComfyUI, fetch its single files with:

  {sys.executable} {ROOT} {DOWNLOAD}"""
    )
    return 0


def through_comfyui(folder: Path, checkpoint: Path, clip: Path) -> bool:
    """Whether there is a ComfyUI, and it has made the clip."""
    found = find_comfyui()
    if isinstance(found, str):
        print(f"Without ComfyUI ({found}).")
        return False
    print(f"Through ComfyUI in {found[0]}.")
    quiet_libraries()
    try:
        make_clip(*found, checkpoint, IMAGE, PROMPT, clip, **SIZE)
    except RuntimeError as error:
        print(f"NOT THROUGH COMFYUI, which failed; going on without it. {error}")
        return False
    return True


if __name__ == "__main__":
    sys.exit(demo(ROOT / "demo"))
