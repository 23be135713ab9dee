"""What `make demo` runs: a small checkpoint with random weights, and a clip of the shipped photograph made with it."""

import sys
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))
from mova.__main__ import main  # noqa: E402

PROMPT = "A rocket lifts off at night; the engines roar."


def demo(folder: Path) -> int:
    start = time.monotonic()
    folder.mkdir(exist_ok=True)
    checkpoint, clip, sheet = folder / "tiny-checkpoint", folder / "rocket.mp4", folder / "rocket.png"
    if not checkpoint.exists() and main(["tiny", str(checkpoint)]):
        return 1
    command = ["generate", f"--checkpoint={checkpoint}", f"--image={ROOT / 'examples' / 'rocket.jpg'}"]
    command += [f"--prompt={PROMPT}", f"--out={clip}", f"--contact-sheet={sheet}"]
    if main([*command, "--width=256", "--height=144", "--frames=25", "--steps=8", "--device=cpu", "--dtype=fp32"]):
        return 1
    print(
        f"""
Done in {time.monotonic() - start:.0f} seconds.
  the clip:          {clip}
  the contact sheet: {sheet}

The weights are random, so the picture and the sound are noise: what you saw is the whole path, from the text encoder
through both experts to the MP4. With a released checkpoint the same command makes a real clip, of the release's size,
length and steps, in bf16 and on a GPU if there is one:

  .venv/bin/python -m mova generate --checkpoint PATH/TO/MOVA-360p --image {ROOT / "examples" / "rocket.jpg"} \\
      --prompt "{PROMPT}" --out rocket.mp4"""
    )
    return 0


if __name__ == "__main__":
    sys.exit(demo(ROOT / "demo"))
