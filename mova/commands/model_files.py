"""convert and download: the single files that ComfyUI loads."""

import argparse
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from ..arguments import Defaults, models_folder
from ..progress import ByteBar, tell

PACK = Path(__file__).parents[2]


def add_to(commands: Any) -> None:
    """Both commands and their options."""
    convert = commands.add_parser("convert", help="write the single files that ComfyUI loads", formatter_class=Defaults)
    convert.set_defaults(run=run_convert)
    convert.set_defaults(stopped="finished files stay, the one at work is gone; the same command goes on from there.")
    add = convert.add_argument
    add("source", type=Path, help="folder laid out like the release, the bf16 file of one expert, or Prism's file")
    add("destination", type=Path, help="folder like ComfyUI's models")
    add("--dtype", default="bf16", help="of the experts and the text encoder; a wrong name lists what there is")
    add("--parts", nargs="+", help="only these: high_noise, low_noise, audio_vae, video_vae, text_encoder")
    add("--name", help="what the files' names begin with (the source's name if not given)")
    add("--base", type=Path, help="of Prism: MOVA-360p's folder, for what Prism's file lacks")
    add("--verify", action="store_true", help="read each file back, and compare it with its source")

    download = commands.add_parser("download", help="the same, from the model hub", formatter_class=Defaults)
    download.set_defaults(run=run_download)
    download.set_defaults(stopped="what has arrived stays; the same command goes on from there.")
    add = download.add_argument
    add("name", help="MOVA-360p, MOVA-720p, Prism-preview_alpha, Prism-preview_beta, or OWNER/NAME, laid out like MOVA")
    without = (
        "if not given: ComfyUI's models, beside the custom_nodes that this pack is in, and what the workflows need"
    )
    add("destination", type=Path, nargs="?", help=f"folder like ComfyUI's models ({without})")
    dtype_help = "of the experts and the text encoder (bf16, or without destination fp8_e4m3_scaled)"
    add("--dtype", help=f"{dtype_help}; a wrong name lists what there is")
    of_release = "high_noise, low_noise, audio_vae, video_vae, text_encoder"
    for_wan = "wan_vae, wan_text_encoder: the files for Wan that the workflows name"
    add("--parts", nargs="+", help=f"only these: {of_release} of the release; {for_wan}")
    add("--verify", action="store_true", help="read back what is written, and compare it with its source")


def run_convert(options: argparse.Namespace) -> None:
    """Write the files; what was left out or kept is said."""
    from ..convert.run import convert

    with ByteBar() as progress:
        request = (options.source, options.destination, options.dtype, options.name, options.parts, options.verify)
        tell_files(convert(*request, progress, tell, options.base), progress)


def run_download(options: argparse.Namespace) -> None:
    """Write the files of a release on the hub; what was left out or kept is said, and what the workflows lack then."""
    from ..download.needed import DTYPE, NEEDED, lacking
    from ..download.run import download

    folder, dtype, parts = options.destination, options.dtype, options.parts
    if folder is None:
        folder, dtype, parts = models_folder(PACK), dtype or DTYPE, parts or NEEDED
    with ByteBar() as progress:
        request = (options.name, folder, dtype or "bf16", parts, options.verify, progress)
        tell_files(download(*request, tell), progress)
    if parts and (missing := lacking(folder)):
        tell(missing)


def tell_files(files: Iterable[Any], progress: ByteBar) -> None:
    """Print each converted file as it is done."""
    for file in files:
        progress.close()
        notes = ["kept: it was there already"] * file.kept + ["verified: it is what its source gives"] * file.verified
        print(file.path, f"({'; '.join(notes)})" if notes else "", flush=True)
