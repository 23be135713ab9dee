"""CONDITIONING on disk, so that the text encoder (11 GB) need not be loaded for every session of work."""

import json
import os
from pathlib import Path
from typing import Any

import folder_paths
from comfy_api.latest import io
from safetensors import SafetensorError
from safetensors.torch import load
from torch import Tensor

from ..mova import MovaError, strict_json
from ..mova.checkpoint.header import read_header
from ..mova.checkpoint.tensor_file import write_tensors
from ..mova.files import WINDOWS, reason
from ..mova.sampling.finite import all_finite
from .host import finite

SUFFIX = ".conditioning.safetensors"
FOLDER = "conditioning"  # in the output folder; all are here, so that listing them does not mean reading all of it
PREFIX = f"{FOLDER}/prompt"
FORMAT = "mova_conditioning"  # the metadata entry that tells these files apart
NOT_LINKED = object()  # before a run the host leaves out what is not linked, and gives None for what is


def to_state(conditioning: list) -> tuple[dict[str, Tensor], str]:
    """A conditioning as named tensors, and its numbers and text as JSON. Raises MovaError for any other entry."""
    tensors: dict[str, Tensor] = {}
    plain: list[dict[str, Any]] = []
    for i, (text, entries) in enumerate(conditioning):
        if text is None:
            raise MovaError("There are no text features in the conditioning; take one of a text encoder.")
        tensors[f"{i}"] = text
        plain.append({})
        for name, value in entries.items():
            if isinstance(value, Tensor):
                tensors[f"{i}.{name}"] = value
            elif value is None or isinstance(value, str | int | float | bool):
                plain[i][name] = value
            else:
                raise MovaError(
                    f"The conditioning's {name!r} is a {type(value).__name__}, which cannot be saved; save it before "
                    "the node that adds it, straight behind the text encoder."
                )
    # Tensors that share their memory cannot be in one file.
    return {name: tensor.detach().cpu().contiguous().clone() for name, tensor in tensors.items()}, json.dumps(plain)


def read_conditioning(path: Path) -> list:
    """A conditioning from its file. Raises MovaError if the file is damaged or of another kind."""
    _, metadata = read_header(path)
    try:
        plain = strict_json.parse(metadata[FORMAT])
        tensors = load(path.read_bytes())  # not mapped: Windows lets nobody delete or replace a file that is
        conditioning: list[list[Any]] = [[tensors.pop(f"{i}"), dict(entries)] for i, entries in enumerate(plain)]
        for name, tensor in tensors.items():
            index, key = name.split(".", 1)
            conditioning[int(index)][1][key] = tensor
        given = [text for text, _ in conditioning] + list(tensors.values())
        usable = bool(conditioning) and all(map(all_finite, given))
    except (KeyError, ValueError, TypeError, IndexError, RuntimeError, SafetensorError):
        raise MovaError(f"{path} holds no saved conditioning; choose a file of MOVA Save Conditioning.") from None
    if not usable:
        raise MovaError(f"{path} holds no usable text features (none, or NaN or infinite values); save it again.")
    return conditioning


def next_path(prefix: str) -> Path:
    """The next numbered file for a prefix, under FOLDER. Raises MovaError if it is not a name in the output folder."""
    output = folder_paths.get_output_directory()
    plain = os.path.normpath(prefix)
    first = plain.split(os.sep)[0]  # "" in front of a slash; a colon is of a drive, or of a file's hidden stream
    if first in ("", ".", "..") or "\0" in plain or (WINDOWS and ":" in plain):
        raise MovaError(f"filename_prefix {prefix!r} is no name in the output folder; give one such as {PREFIX}.")
    if first != FOLDER or plain == FOLDER:  # a prefix without a folder is a file's name
        plain = os.path.join(FOLDER, plain)
    try:
        folder, name, counter, _, _ = folder_paths.get_save_image_path(plain, output)
    except OSError as error:  # a file where a folder is needed, a name that is too long
        raise MovaError(
            f"filename_prefix {prefix!r} cannot be used ({reason(error)}); give another, such as {PREFIX}."
        ) from None
    return Path(folder) / f"{name}_{counter:05}_{SUFFIX}"


def saved_files() -> list[str]:
    """Names as the user sees them: those at the top of the input folder and all in its FOLDER; those in the output
    folder's FOLDER, with the host's mark for it."""
    given, made = Path(folder_paths.get_input_directory()), Path(folder_paths.get_output_directory())
    found = [*sorted(given.glob(f"*{SUFFIX}")), *sorted((given / FOLDER).rglob(f"*{SUFFIX}"))]
    names = [path.relative_to(given).as_posix() for path in found]
    saved = sorted((made / FOLDER).rglob(f"*{SUFFIX}"))
    return names + [f"{path.relative_to(made).as_posix()} [output]" for path in saved]


def file_fault(name: str) -> str | None:
    """What is wrong with a name: only files of the list are read, so that none leads out of the two folders."""
    return None if name in saved_files() else f"There is no saved conditioning {name!r}; refresh and choose another."


class MOVASaveConditioning(io.ComfyNode):
    """Keep a CONDITIONING for later."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVASaveConditioning",
            display_name="MOVA Save Conditioning",
            category="MOVA",
            description="Writes a conditioning to the output folder; load it later without the text encoder.",
            search_aliases=["save prompt", "cache text encoder"],
            inputs=[
                io.Conditioning.Input("conditioning", tooltip="Straight from the text encoder."),
                io.String.Input("filename_prefix", default=PREFIX, tooltip=f"Files go to output/{FOLDER}."),
            ],
            outputs=[io.Conditioning.Output()],
            is_output_node=True,
        )

    @classmethod
    def execute(cls, conditioning, filename_prefix: str) -> io.NodeOutput:
        state, plain = to_state(conditioning)
        for tensor in state.values():
            finite.check(tensor, "The conditioning", "encode the text again")
        path = next_path(filename_prefix)
        write_tensors(path, state, {FORMAT: plain})
        place = path.relative_to(folder_paths.get_output_directory()).as_posix()
        return io.NodeOutput(conditioning, ui={"text": [f"{place} [output]"]})


class MOVALoadConditioning(io.ComfyNode):
    """A saved CONDITIONING, or the one that is connected: muting its source is enough to do without the encoder."""

    @classmethod
    def define_schema(cls) -> io.Schema:
        return io.Schema(
            node_id="MOVALoadConditioning",
            display_name="MOVA Load Conditioning",
            category="MOVA",
            description="Reads a conditioning that MOVA Save Conditioning has written; no text encoder is needed.",
            search_aliases=["load prompt", "cached text encoder"],
            inputs=[
                io.Combo.Input("file", options=saved_files(), tooltip=f"From output/{FOLDER} and the input folder."),
                io.Conditioning.Input(
                    "conditioning",
                    optional=True,
                    tooltip="If connected, this is passed on and no file is read, until its source is muted.",
                ),
            ],
            outputs=[io.Conditioning.Output()],
        )

    @classmethod
    def validate_inputs(cls, file: str | None = None, conditioning=NOT_LINKED) -> bool | str:
        """Before anything runs; a name from another node (None) is checked in execute."""
        if file is None or conditioning is not NOT_LINKED:
            return True
        return file_fault(file) or True

    @classmethod
    def fingerprint_inputs(cls, file: str | None = None, conditioning=NOT_LINKED) -> float:
        """When the file was written; of a name from another node it is not known, so it is always read."""
        if conditioning is not NOT_LINKED:
            return 0.0
        return float("nan") if file is None else os.path.getmtime(folder_paths.get_annotated_filepath(file))

    @classmethod
    def execute(cls, file: str, conditioning=None) -> io.NodeOutput:
        if conditioning is not None:
            return io.NodeOutput(conditioning)
        if fault := file_fault(file):
            raise MovaError(fault)
        return io.NodeOutput(read_conditioning(Path(folder_paths.get_annotated_filepath(file))))
