"""Which expert a LoRA file is for, as far as the file says."""

import re
from collections.abc import Mapping

from ..checkpoint.release import EXPERTS
from .reading import LoraFile

EXPERT_NAMES = {"high_noise": "high-noise", "low_noise": "low-noise"}
IN_NAMES = {"high_noise": r"(?<![a-z])high(?![a-z])|highnoise", "low_noise": r"(?<![a-z])low(?![a-z])|lownoise"}
# Entries of a file's metadata that name what it was trained on or saved as: they stay when somebody renames the file.
NAMES_IN_METADATA = ("ss_output_name", "modelspec.title", "ss_sd_model_name")
TIMESTEPS = "modelspec.timestep_range"  # "900,1000", as musubi-tuner writes it
HALF_WAY = 800.0  # the experts' boundaries are at 875 (Wan 2.2 T2V) and 900 (I2V, MOVA)


def noted_expert(file: LoraFile) -> tuple[str, str] | None:
    """The only expert that a file names, and where it does; None if it names none, or both."""
    places = {"name": file.path.stem, **{f"metadata ({n})": file.metadata.get(n, "") for n in NAMES_IN_METADATA}}
    for place, text in places.items():
        noted = [expert for expert, pattern in IN_NAMES.items() if re.search(pattern, text.lower())]
        if len(noted) == 1:
            return noted[0], place
    steps = re.fullmatch(r"(\d{1,4}),(\d{1,4})", file.metadata.get(TIMESTEPS, ""))
    if steps and int(steps[1]) >= HALF_WAY:
        return "high_noise", f"metadata ({TIMESTEPS})"
    if steps and int(steps[2]) <= 1000 - (1000 - HALF_WAY) / 2:
        return "low_noise", f"metadata ({TIMESTEPS})"
    return None


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
