"""The files that the workflows name, from the model hub into the host's model folders."""

import os
from pathlib import Path, PureWindowsPath
from typing import Any

from comfy_api.latest import io

from ..mova import MovaError
from ..mova.checkpoint.formats import FORMATS
from ..mova.download.hub import library
from ..mova.download.needed import ANOTHERS, DTYPE, MISSING, NEEDED, OURS, file_for, release_of, state_of
from ..mova.download.run import PRISM, RELEASES, download
from .host import model_folders, notice
from .host.byte_progress import ByteProgress

NAMED = "what this workflow names"
ALL = "all five files"
FORBIDDEN = "MOVA_NO_DOWNLOADS"  # an environment variable, for servers that many people use
# The command line's words for what to do, and this node's.
WORDS = {
    "run the same command again": "run this node again",
    "run the command again": "run this node again",
    "choose another folder, fewer --parts or a smaller --dtype": "choose fewer parts or a smaller format",
    "Another download": "Another download (of this server or of the command line)",
    "finish it so": "finish it in that format",
    "with --verify": "with the command line's --verify",
    " without --verify": "",
}


def named_files(prompt: dict[str, Any]) -> set[str] | None:
    """The names that the other nodes of a prompt (the host's API format) hold; None if there is no other node."""
    others = [node for node in prompt.values() if node.get("class_type") != "MOVAGetModels"]
    values = [value for node in others for value in node.get("inputs", {}).values()]
    return {PureWindowsPath(value).name for value in values if isinstance(value, str)} if others else None


def wanted_parts(choice: str, release: str, dtype: str, prompt: dict[str, Any]) -> list[str]:
    """Which of NEEDED the choice means; alone in a workflow, what it names is all."""
    if choice in NEEDED:
        return [choice]
    names = named_files(prompt) if choice == NAMED else None
    return [part for part in NEEDED if names is None or file_for(part, release, dtype).name in names]


def states(parts: list[str], release: str, dtype: str) -> dict[str, str]:
    """Of each part, whether its file is in one of the host's folders (needed.state_of)."""
    found = {part: model_folders.found(file_for(part, release, dtype)) for part in parts}
    return {part: state_of(path, part, release, dtype) if path else MISSING for part, path in found.items()}


def check_allowed(missing: list[Path]) -> None:
    """Raise MovaError where the server may not download."""
    lacking = f"and {', '.join(path.name for path in missing)} {'are' if len(missing) > 1 else 'is'} missing"
    if os.environ.get(FORBIDDEN, "0") not in ("", "0"):
        raise MovaError(f"Downloads are off on this server ({FORBIDDEN} is set), {lacking}; ask whoever runs it.")
    if library().constants.HF_HUB_OFFLINE:
        raise MovaError(f"This server is offline (HF_HUB_OFFLINE is set), {lacking}; unset it, or bring files by hand.")


class MOVAGetModels(io.ComfyNode):
    """Download and convert what the workflows need."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVAGetModels",
            display_name="MOVA Get Models",
            category="MOVA",
            description="Downloads MOVA, converts it, and puts the files where the loaders look. Run goes on with what "
            "is missing, and ends at once if nothing is. Stop keeps what has arrived; the next Run goes on from there. "
            "The queue waits meanwhile: 69 GiB at 30 MB a second take 41 minutes.",
            search_aliases=["download mova", "install models", "model downloader", "missing models", "hugging face"],
            is_output_node=True,
            inputs=[
                io.Combo.Input(
                    "release",
                    options=[*RELEASES, *PRISM],
                    default=next(iter(RELEASES)),
                    tooltip="360p is for 640 x 352, 720p for 1280 x 720. Prism: both experts, for 1280 x 720 to 2560 x "
                    "1440; the other files are MOVA-360p's.",
                ),
                io.Combo.Input(
                    "format",
                    options=list(FORMATS),
                    default=DTYPE,
                    tooltip="Of the experts, as their files are called. The download is the same, the files are not: "
                    "fp8 is half of bf16, nvfp4 a third. The gguf ones are for the loader of ComfyUI-GGUF.",
                ),
                io.Combo.Input(
                    "parts",
                    options=[NAMED, ALL, *NEEDED],
                    default=NAMED,
                    tooltip="What the loaders of this workflow name and do not have; or all of it; or one file.",
                ),
            ],
            hidden=[io.Hidden.prompt],
        )

    @classmethod
    def fingerprint_inputs(cls, **_: Any) -> float:
        """Never what it was: files come and go."""
        return float("nan")

    @classmethod
    def execute(cls, release: str, format: str, parts: str) -> io.NodeOutput:
        prompt = (cls.hidden.prompt or {}) if cls.hidden is not None else {}
        wanted = wanted_parts(parts, release, format, prompt)
        found = states(wanted, release, format)
        if not wanted:
            notice.show(f"Nothing to do: this workflow names no file of {release} in {format}. To get some, set parts.")
        elif MISSING in found.values():
            get(release, format, found)
        else:
            names = [file_for(part, release, format).name for part in wanted]
            notice.show(f"Nothing to do: all is there ({counted(names)}).{kept(release, format, found)}")
        return io.NodeOutput()


def get(release: str, dtype: str, found: dict[str, str]) -> None:
    """Download what is missing, and say so; the loaders list it then."""
    places, files = model_folders.places(), {part: file_for(part, release, dtype) for part in found}
    check_allowed([file for part, file in files.items() if found[part] == MISSING])
    # With ours that is there in these folders: if the hub has another version of it by now, all become that one.
    here = [part for part, file in files.items() if (places.folder(str(file.parent)) / file.name).exists()]
    parts = [part for part, state in found.items() if state == MISSING or (state == OURS and part in here)]
    progress, made = ByteProgress(), []
    try:
        for source in dict.fromkeys(release_of(part, release) for part in parts):
            own = [part for part in parts if release_of(part, release) == source]
            for file in download(source, places, dtype, own, progress=progress, planned=progress.planned):
                if not file.kept:
                    made.append(file.path)
                    progress.finish_file()
    except MovaError as error:
        raise MovaError(in_words(str(error))) from error
    finally:
        notice.show_line("")
        if made:
            model_folders.tell_changed()
    names = counted([path.name for path in made])
    notice.show(f"Done: {names}. Run once more: the loaders have them now.{kept(release, dtype, found)}")


def counted(names: list[str]) -> str:
    """One by its name, more by their number: the notice stands on the node, which has room for some lines."""
    return names[0] if len(names) == 1 else f"{len(names)} files"


def kept(release: str, dtype: str, found: dict[str, str]) -> str:
    """Which files were left as they are, though they do not say that they are what their name says."""
    first, *more = [file_for(part, release, dtype).name for part, state in found.items() if state == ANOTHERS] or [""]
    others = f" and {len(more)} more" if more else ""
    return f" Kept, though not marked as of {release}: {first}{others}." if first else ""


def in_words(text: str) -> str:
    """What the download says, for whoever has no command line before them."""
    for words, ours in WORDS.items():
        text = text.replace(words, ours)
    return text
