"""What a run costs, worked out: for the table in each workflow's note."""

from collections.abc import Sequence
from typing import NamedTuple

from mova.clip.size import frames_of
from mova.model.presets import DEFAULT
from mova.sampling.conditioning import GRID, latent_frames
from mova.sampling.guidance import Guidance
from mova.sampling.schedule import low_noise_start, sigmas

# One evaluation of the released size at 640 x 352, 193 frames: products that grow with the tokens, and attention
# scores that grow with their square (docs/benchmarks.md).
LINEAR, SCORES = 1.21e15, 1.52e15
# Graphics cards, and 60 % of what their makers give for bf16 with sums in float32, in FLOP/s.
CARDS = {"3060": 0.6 * 25.5e12, "4070": 0.6 * 58.3e12, "4090": 0.6 * 165e12, "5090": 0.6 * 209.5e12}


class Plan(NamedTuple):
    """Settings of a run. The first is what the workflows open with."""

    name: str
    steps: int
    cfg: float
    seconds: float

    @property
    def frames(self) -> int:
        return frames_of(self.seconds, DEFAULT.fps)

    @property
    def evaluations(self) -> int:
        return self.steps * len(Guidance(self.cfg).needed())


PLANS = (
    Plan("Draft", 20, 3.0, 4.0),
    Plan("Good", 30, DEFAULT.guidance, 8.0),
    Plan("Release", DEFAULT.steps, DEFAULT.guidance, 8.0),
)
DRAFT = PLANS[0]
FAST = Plan("Fast", 8, 1.0, DRAFT.seconds)
HALF, FULL = (640, 352), (1280, 704)  # sizes of the two stages


def tokens(width: int, height: int, frames: int) -> int:
    """Of the video."""
    return latent_frames(frames) * (width // GRID) * (height // GRID)


def flops(width: int, height: int, frames: int) -> float:
    """Of one evaluation."""
    ratio = tokens(width, height, frames) / tokens(DEFAULT.width, DEFAULT.height, DEFAULT.frames)
    return LINEAR * ratio + SCORES * ratio**2


def minutes(plan: Plan, card: str) -> float:
    return plan.evaluations * flops(DEFAULT.width, DEFAULT.height, plan.frames) / CARDS[card] / 60


def high_steps(plan: Plan) -> int:
    """Those of the high-noise expert."""
    return low_noise_start(sigmas(plan.steps), DEFAULT.boundary)


def stage_minutes(plan: Plan, high: tuple[int, int], card: str) -> float:
    """Of a run whose high-noise expert works in this size, and its low-noise expert in the full one."""
    steps = high_steps(plan)
    stages = ((steps, high), (plan.steps - steps, FULL))
    evaluated = len(Guidance(plan.cfg).needed())
    return sum(evaluated * n * flops(*size, plan.frames) for n, size in stages) / CARDS[card] / 60


def stage_table() -> str:
    """In Markdown: clips of the full size, in one stage and in two, with minutes on each card."""
    rows = [["", *CARDS], ["---", *["--:"] * len(CARDS)]]
    staged = [(f"{plan.name}, two stages", plan, HALF) for plan in (DRAFT, PLANS[-1])]
    for name, plan, high in ((DRAFT.name, DRAFT, FULL), *staged):
        rows.append([f"**{name}**", *(f"{stage_minutes(plan, high, card):.0f}" for card in CARDS)])
    return in_markdown(rows)


def table(plans: Sequence[Plan] = PLANS) -> str:
    """In Markdown: a row for each plan, with minutes on each card."""
    rows = [["", "steps", "cfg", "s", "evals", *CARDS], ["---", *["--:"] * (4 + len(CARDS))]]
    for plan in plans:
        said = [f"{minutes(plan, card):.0f}" for card in CARDS]
        rows.append(
            [f"**{plan.name}**", f"{plan.steps}", f"{plan.cfg:g}", f"{plan.seconds:g}", f"{plan.evaluations}", *said]
        )
    return in_markdown(rows)


def in_markdown(rows: Sequence[Sequence[str]]) -> str:
    return "\n".join(f"| {' | '.join(row)} |" for row in rows)
