"""The watch over a run's numbers: what it tells, at which step, and that it waits for nothing."""

import pytest
import torch

from mova.sampling import finite
from mova.sampling.euler import euler
from mova.sampling.finite import NotFinite, Watch, all_finite
from mova.sampling.schedule import sigmas

NAN, INFINITE = float("nan"), float("inf")


def run(value, step, part="audio", steps=5):
    """An Euler run whose velocity holds the value from this step on (0-based); the steps that were begun."""
    begun = []

    def velocity(video, audio, *_):
        made = {"video": torch.ones_like(video), "audio": torch.ones_like(audio)}
        if len(begun) >= step:
            made[part][0, 1] = value
        begun.append(1)
        return made["video"], made["audio"]

    grid = sigmas(steps)
    try:
        euler(velocity, torch.zeros(1, 3), torch.zeros(1, 4), grid, grid)
    except NotFinite as error:
        return error, len(begun)
    return None, len(begun)


@pytest.mark.parametrize("value", [NAN, INFINITE, -INFINITE])
@pytest.mark.parametrize("part", ["video", "audio"])
def test_a_run_stops_at_the_step_that_is_not_finite_and_tells_it(value, part):
    assert run(1.0, 0) == (None, 5)
    for step in range(5):
        error, begun = run(value, step, part)
        assert (error.step, error.parts, begun) == (step, [part], step + 1)


class Late:
    """An event of a device that has not got there yet."""

    waited = 0

    def __init__(self, done):
        self.done = done

    def query(self):
        return self.done

    def synchronize(self):
        Late.waited += 1
        self.done = True


def test_what_has_not_arrived_is_looked_at_later_and_nothing_waits_for_it():
    watch, events = Watch(), [Late(False), Late(False), Late(False)]
    for step, event in enumerate(events):
        watch.note(step, made=torch.tensor([NAN if step == 1 else 1.0]))
        step, names, sums, _ = watch.notes.pop()
        watch.notes.append((step, names, sums, event))
        watch.check()
    assert len(watch.notes) == 3 and not Late.waited
    events[0].done = True
    watch.check()
    assert len(watch.notes) == 2 and not Late.waited
    with pytest.raises(NotFinite) as told:
        watch.check(wait=True)
    assert told.value.step == 1 and Late.waited == 1 and not watch.notes


def test_the_first_of_several_steps_that_are_not_finite_is_told():
    watch = Watch()
    for step in range(3):
        watch.note(step, given=torch.ones(2), made=torch.full((2,), NAN if step else 1.0))
    with pytest.raises(NotFinite) as told:
        watch.check()
    assert (told.value.step, told.value.parts) == (1, ["made"])


def test_a_note_holds_a_number_for_each_tensor_and_not_the_tensors():
    watch = Watch()
    watch.note(0, given=torch.ones(1000, 1000), made=torch.ones(1000, 1000))
    ((_, _, sums, _),) = watch.notes
    assert sums.untyped_storage().nbytes() == 8


@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16, torch.float8_e4m3fn, torch.float64])
def test_all_finite_in_any_floating_dtype(dtype):
    good = torch.full((300, 300), 240.0).to(dtype)  # whose sum is none in fp16
    assert all_finite(good) and all_finite(torch.zeros(0).to(dtype))
    bad = good.float()
    bad[7, 9] = NAN
    assert not all_finite(bad.to(dtype))


def test_finite_numbers_whose_sum_is_none_are_finite():
    assert all_finite(torch.full((4,), 3e38))


class Reads(torch.utils._python_dispatch.TorchDispatchMode):
    """The bytes that operations on large tensors read, and the bytes that they make."""

    def __init__(self):
        super().__init__()
        self.read = self.made = 0

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        tensors = [a for a in args if isinstance(a, torch.Tensor) and a.numel() > 1000]
        if function is not torch.ops.aten.detach.default:
            self.read += sum(t.numel() * t.element_size() for t in tensors)
            self.made += made.numel() * made.element_size() if isinstance(made, torch.Tensor) else 0
        return made


def test_watching_reads_each_number_once_and_copies_none():
    given = torch.randn(1, 1, 50_000)
    with Reads() as seen:
        Watch().note(0, given=given, made=given + 0)
    once = given.numel() * 4
    # The addition above is one reading and one making.
    assert seen.read == 3 * once and seen.made < once + 1000


def test_a_device_with_events_is_not_waited_for(monkeypatch):
    """CUDA in small: what is called there, and that nothing blocks."""
    calls = []

    class Event:
        def record(self, stream):
            calls.append(("record", stream))

        def query(self):
            return True

    class Sums:
        shape, dtype = torch.Size([1]), torch.float32
        device = torch.device("cuda:0")

    class Arrived:
        def copy_(self, sums, non_blocking):
            calls.append(("copy", non_blocking))

        def isfinite(self):
            return torch.tensor([True])

    monkeypatch.setattr(finite.torch, "stack", lambda _: Sums())
    monkeypatch.setattr(finite.torch, "empty", lambda *_, **options: calls.append(("empty", options)) or Arrived())
    monkeypatch.setattr(finite.torch.cuda, "Event", Event)
    monkeypatch.setattr(finite.torch.cuda, "current_stream", lambda device: device)
    watch = Watch()
    watch.note(0, made=torch.ones(2))
    assert calls == [
        ("empty", {"dtype": torch.float32, "pin_memory": True}),
        ("copy", True),
        ("record", torch.device("cuda:0")),
    ]
    watch.check()
    assert not watch.notes
