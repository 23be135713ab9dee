"""What a release says of its runs: the schedule, and where the low-noise expert takes over."""

from dataclasses import dataclass
from pathlib import Path

from ..errors import MovaError
from ..model.config_values import is_number
from ..model.presets import DEFAULT
from ..sampling.schedule import MAX_SHIFT, is_boundary
from ..shorten import short
from .weights import read_json


@dataclass(frozen=True)
class ScheduleConfig:
    """The released schedule's settings."""

    shift: float = DEFAULT.shift
    sigma_min: float = 0.0
    extra_one_step: bool = True


def read_schedule(path: Path) -> ScheduleConfig:
    """The settings in scheduler_config.json; raises MovaError if they make no schedule."""
    values = read_json(path)
    shift, sigma_min = values.get("shift", DEFAULT.shift), values.get("sigma_min", 0.0)
    extra_one_step = values.get("extra_one_step", True)
    if not (is_number(shift) and 0 < shift <= MAX_SHIFT and is_number(sigma_min) and 0 <= sigma_min < 1):
        given = f"shift {short(shift)} and sigma_min {short(sigma_min)}"
        raise MovaError(f"{path}: {given} make no schedule; download it again.")
    if values.get("num_train_timesteps", 1000) != 1000 or not isinstance(extra_one_step, bool):
        raise MovaError(f"{path} is not the schedule of a MOVA release (1000 training timesteps); download it again.")
    return ScheduleConfig(float(shift), float(sigma_min), extra_one_step)


def read_boundary(path: Path) -> float:
    """The sigma below which the low-noise expert works, from model_index.json."""
    boundary = read_json(path).get("boundary_ratio", DEFAULT.boundary)
    if not (is_number(boundary) and is_boundary(boundary)):
        raise MovaError(f"{path}: boundary_ratio {short(boundary)} must be from 0 to 1; download it again.")
    return float(boundary)
