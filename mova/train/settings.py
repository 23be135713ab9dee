"""What a training run can be told, and the published recipes."""

import dataclasses
import math
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from ..checkpoint.release import EXPERT_FOLDERS
from ..errors import MovaError
from .frozen import BASES
from .lora import PARTS, TARGETS
from .schedule import LR_SCHEDULES

EXPERTS_OF = {"both": EXPERT_FOLDERS, "high": EXPERT_FOLDERS[:1], "low": EXPERT_FOLDERS[1:]}
DTYPES = ("bf16", "fp32")  # gradients in fp16 would need scaling
OPTIMIZERS = ("adamw", "adamw8bit")  # the second is of bitsandbytes
CHECKPOINTS = ("pieces", "layers", "none")
LONGEST_WARMUP = 500
# What changes how a run is carried out, and not what comes out of it.
HOW = ("shard_weights", "resident_layers", "offload_activations", "save_every", "sample_every", "sample_steps")
RECIPES: dict[str, dict[str, Any]] = {
    "ours": {},
    "published": {
        **{"steps": 50_000, "rank": 16, "alpha": 16.0, "lr": 1e-4, "lr_schedule": "cosine", "warmup": 500},
        **{"weight_decay": 0.01, "clip": 1.0, "accumulation": 4, "caption_dropout": 0.0, "switch_every": 1},
    },
    "published-low-resource": {
        **{"steps": 50_000, "rank": 8, "alpha": 8.0, "lr": 1e-4, "lr_schedule": "low_resource", "warmup": 500},
        **{"weight_decay": 0.01, "clip": 1.0, "accumulation": 4, "caption_dropout": 0.0, "switch_every": 1},
        "optimizer": "adamw8bit",
    },
}


@dataclass(frozen=True)
class Settings:
    """One run. Steps are the optimizer's; each sees `accumulation` clips."""

    steps: int = 2000
    rank: int = 16
    alpha: float = 16.0
    targets: str = "attention"
    parts: tuple[str, ...] = PARTS
    experts: str = "both"
    switch_every: int = 1
    base: str = "fp8"
    dtype: str = "bf16"
    optimizer: str = "adamw"
    lr: float = 1e-4
    lr_schedule: str = "cosine"
    warmup: int | None = None
    weight_decay: float = 0.01
    clip: float = 1.0
    accumulation: int = 1
    caption_dropout: float = 0.0
    seed: int = 0
    checkpoints: str = "pieces"
    resident_layers: int = 0
    offload_activations: bool = False
    shard_weights: bool = False
    save_every: int = 100
    validate_every: int = 0
    sample_every: int = 0
    sample_steps: int = 25

    def check(self) -> None:
        """Raise MovaError, naming the option, for a value that makes no sense."""
        at_least = {"steps": 1, "rank": 1, "switch_every": 1, "accumulation": 1, "save_every": 1, "sample_steps": 1}
        at_least |= {"resident_layers": 0, "validate_every": 0, "sample_every": 0, "seed": 0}
        for name, least in at_least.items():
            value = getattr(self, name)
            if not least <= value < 10**9:
                raise MovaError(f"{option(name)} is {value}; it must be at least {least}, and below a billion.")
        choices: dict[str, Iterable[str]] = {"targets": TARGETS, "experts": EXPERTS_OF, "base": BASES, "dtype": DTYPES}
        choices |= {"lr_schedule": LR_SCHEDULES, "checkpoints": CHECKPOINTS, "optimizer": OPTIMIZERS}
        for name, known in choices.items():
            if getattr(self, name) not in known:
                raise MovaError(f"{option(name)} is {getattr(self, name)!r}; choose {', '.join(known)}.")
        if not self.parts or not set(self.parts) <= set(PARTS) or len(set(self.parts)) < len(self.parts):
            raise MovaError(f"--parts is {','.join(self.parts)!r}; choose some of {','.join(PARTS)}.")
        for name, most in {"alpha": 1e6, "lr": 1.0, "clip": 1e6}.items():
            if not 0 < getattr(self, name) <= most:  # false for NaN, too
                raise MovaError(f"{option(name)} is {getattr(self, name)}; it must be above 0, and at most {most:g}.")
        if not 0 <= self.weight_decay <= 1:
            raise MovaError(f"--weight-decay is {self.weight_decay}; it must be from 0 to 1.")
        if not 0 <= self.caption_dropout < 1:
            raise MovaError(f"--caption-dropout is {self.caption_dropout}; it must be at least 0, and below 1.")
        if not 0 <= self.warmup_steps < max(2, self.steps):
            raise MovaError(f"--warmup is {self.warmup}; it must be from 0 to below --steps ({self.steps}).")
        if self.offload_activations and self.checkpoints == "none":
            raise MovaError("--offload-activations needs --checkpoints layers or pieces; choose one of both.")
        if self.sample_every and self.experts != "both":
            raise MovaError(f"--sample-every needs both experts, and --experts is {self.experts!r}; leave out one.")
        if self.experts == "both" and self.steps <= self.switch_every:
            raise MovaError(
                f"--switch-every {self.switch_every} leaves no step of {self.steps} for the low-noise expert; "
                "take more --steps, a lower --switch-every, or one expert alone."
            )

    @property
    def warmup_steps(self) -> int:
        """As told, or a twentieth of the run, at most 500."""
        return min(LONGEST_WARMUP, self.steps // 20) if self.warmup is None else self.warmup

    @property
    def trained(self) -> tuple[str, ...]:
        """The folders of the experts."""
        return EXPERTS_OF[self.experts]

    def expert_of(self, step: int) -> str:
        """The expert that a step trains: even stretches of steps the high-noise one, as the published code has it."""
        return self.trained[step // self.switch_every % len(self.trained)]

    def to_dict(self) -> dict[str, Any]:
        return {**dataclasses.asdict(self), "parts": list(self.parts), "warmup": self.warmup_steps}


def option(name: str) -> str:
    return "--" + name.replace("_", "-")


def settings_from(recipe: str, given: dict[str, Any]) -> Settings:
    """A recipe with what the user gives besides. Raises MovaError for an unknown recipe or value."""
    if recipe not in RECIPES:
        raise MovaError(f"There is no recipe called {recipe!r}; choose {', '.join(RECIPES)}.")
    settings = Settings(**{**RECIPES[recipe], **given})
    if not math.isfinite(settings.alpha):
        raise MovaError(f"--alpha is {settings.alpha}; it must be a number.")
    settings.check()
    return settings
