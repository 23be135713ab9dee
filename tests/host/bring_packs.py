"""python tests/host/bring_packs.py: other people's packs, as they were when the tests were written, from GitHub.

They come into $MOVA_PACKS, else ~/packs; those that are there stay as they are. With --packages: what they import.
"""

import os
import subprocess
import sys
from pathlib import Path

PINS = {  # owner and commit
    "ComfyUI-KJNodes": ("kijai", "3f20054214fec9f9234fd3841ae6f1e4287948f6"),
    "ComfyUI-VideoHelperSuite": ("Kosinkadink", "4ee72c065db22c9d96c2427954dc69e7b908444b"),
    "RES4LYF": ("ClownsharkBatwing", "022c873c6d198c67b3312a1804336533a050df18"),
    "ComfyUI-GGUF": ("city96", "795e45156ece99afbc3efef911e63fcb46e6a20d"),
    "rgthree-comfy": ("rgthree", "13b4399c00b5ef5a97b1b6800fc1185874740f5d"),
    "ComfyUI-Easy-Use": ("yolain", "4de1ab3b66e48da916b6f263bacd001df53a2720"),
    "ComfyUI-MultiGPU": ("pollockjj", "a38cbda5fb64232bfa67867d55ae473d2c44d54e"),
    "ComfyUI-WanMoeKSampler": ("stduhpf", "ee8fa8ffb356dc5d9f456a0cdb211e60e543cb59"),
    "ComfyUI-TripleKSampler": ("VraethrDalkr", "b35509c84ff8a82f9111418aad8611a2ec3ef216"),
}
# What they import, of what ComfyUI does not bring.
PACKAGES = (
    *("gguf", "opencv-python-headless", "imageio-ffmpeg", "matplotlib", "pywavelets", "color-matcher", "mss"),
    *("diffusers", "accelerate", "lark", "onnxruntime", "peft"),
)


def folder() -> Path:
    return Path(os.environ.get("MOVA_PACKS") or "~/packs").expanduser()


def find_pack(name: str) -> Path | None:
    place = folder() / name
    return place if (place / "__init__.py").is_file() else None


def main() -> None:
    if "--packages" in sys.argv:
        print(*PACKAGES)
        return
    for name, (owner, commit) in PINS.items():
        if find_pack(name) is None:
            place = folder() / name
            place.mkdir(parents=True, exist_ok=True)
            for command in (
                ["init", "-q"],
                ["fetch", "-q", "--depth", "1", f"https://github.com/{owner}/{name}", commit],
                ["checkout", "-q", "FETCH_HEAD"],
            ):
                subprocess.run(["git", *command], cwd=place, check=True)
    print(f"The packs are in {folder()}; with the Python that runs ComfyUI: pip install {' '.join(PACKAGES)}")


if __name__ == "__main__":
    main()
