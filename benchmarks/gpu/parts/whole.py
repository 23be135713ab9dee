"""One whole forward of the large size, where the other parts have left a minute and a half."""

from .. import bound, clock, expert, kernels
from ..place import Place
from ..task import Figures, Task
from ..variants import EAGER, VARIANTS
from .ceilings import product_rate

SECONDS = 85.0  # that it takes with its warm-up, on a GPU


def forward(place: Place) -> Figures:
    kernel = kernels.fastest(place)
    model = VARIANTS[EAGER](expert.build(place), place.large.model, kernel.attention)
    given = expert.inputs(place, place.large)
    with kernel.alone():
        expert.warm_up(model, given)
        (took,), peak = clock.timed(place, lambda: expert.checked(model(*given)), 1, model)
    work = sum(bound.of_forward(place.large))
    return {
        "kernel": kernel.name,
        "forward s": took,
        "times the bound at the measured product rate": took * product_rate(place) / work,
        f"times the bound at {bound.RATE / 1e12:.0f} TFLOP/s": took * bound.RATE / work,
        "peak GiB beside weights": peak,
    }


def tasks(place: Place) -> list[Task]:
    return [Task("eager, fastest kernel", lambda: forward(place), SECONDS)]
