"""Which expert a LoRA file is for, as far as the file says."""

import re
from collections.abc import Mapping

from ..checkpoint.release import EXPERTS
from ..model.stored_config import EXPERT_NAMES
from .reading import LoraFile

IN_NAMES = {"high_noise": r"(?<![a-z])high(?![a-z])|highnoise", "low_noise": r"(?<![a-z])low(?![a-z])|lownoise"}
# Entries of a file's metadata, as musubi-tuner and kohya's other trainers write them: they stay when it is renamed.
SAVED_AS = ("ss_output_name", "modelspec.title")
TIMESTEPS = "modelspec.timestep_range"  # "900,1000"
HIGH_FROM, LOW_TO = 800, 900  # the experts' boundaries are at 875 (Wan 2.2 T2V) and 900 (I2V, MOVA)
# The weights that it was trained on. Those of the low-noise expert are also named by a file that is for both.
TRAINED_ON = "ss_sd_model_name"


def noted_expert(file: LoraFile) -> tuple[str, str] | None:
    """The only expert that a file names, and where it does; None if it names none, or both."""
    for place, text in {"name": file.path.stem, **{entry: file.metadata.get(entry, "") for entry in SAVED_AS}}.items():
        if noted := named_in(text):
            return noted, place if place == "name" else f"metadata ({place})"
    steps = re.fullmatch(r"(\d{1,4}),(\d{1,4})", file.metadata.get(TIMESTEPS, ""))
    if steps and int(steps[1]) >= HIGH_FROM:
        return "high_noise", f"metadata ({TIMESTEPS})"
    if steps and int(steps[2]) <= LOW_TO:
        return "low_noise", f"metadata ({TIMESTEPS})"
    if named_in(file.metadata.get(TRAINED_ON, "")) == "high_noise":
        return "high_noise", f"metadata ({TRAINED_ON})"
    return None


def named_in(text: str) -> str | None:
    """The only expert that a name of a file names."""
    noted = [expert for expert, pattern in IN_NAMES.items() if re.search(pattern, text.lower())]
    return noted[0] if len(noted) == 1 else None


def for_expert(file: LoraFile, expert: str) -> LoraFile:
    """The file without the other expert's video tower."""
    other = next(module for slot, module in EXPERTS.items() if slot != expert)
    return file.only({module: layers for module, layers in file.modules.items() if module != other})


def unused_video(file: LoraFile, experts: Mapping[str, object]) -> list[str]:
    """A line for each expert that the file has layers for, and that is not among these."""
    return [
        f"{len(file.modules[module])} video layers are for the {EXPERT_NAMES[expert]} expert, which is not connected"
        for expert, module in EXPERTS.items()
        if module in file.modules and expert not in experts
    ]
