"""Bytes that one joint forward of the released size moves in element-wise work, counted on fake tensors (no GPU).

    python benchmarks/moved_bytes.py [--elementwise triton]

Operands in, results out, views left out: an upper bound, as if nothing stayed in a cache. PyTorch's operators are taken
apart as on the CPU; on CUDA some of them (RMSNorm) are one kernel.
"""

import argparse
import collections
from collections.abc import Callable

import torch
from peak_memory import forward_of
from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from mova import PRESETS
from mova.model.kernels import Kernels
from mova.model.presets import Preset

# fmt: off
VIEWS = {
    "_reshape_alias", "_unsafe_view", "alias", "as_strided", "chunk", "detach", "device", "diagonal", "empty",
    "expand", "flatten", "lift_fresh", "permute", "reshape", "select", "slice", "split", "split_with_sizes",
    "squeeze", "sym_size", "t", "transpose", "unbind", "unflatten", "unfold", "unsqueeze", "view",
    "view_as_complex", "view_as_real",
}
# fmt: on
PRODUCTS = ("addmm", "aten.mm", "bmm", "convolution", "attention", "linear")


def size(x: Tensor) -> int:
    """Bytes of x; an expanded dimension counts once."""
    numbers = 1
    for length, stride in zip(x.shape, x.stride(), strict=True):
        numbers *= length if stride else 1
    return numbers * x.element_size()


class MovedBytes(TorchDispatchMode):
    """Counts by operator what is read and written within a `with` block."""

    def __init__(self) -> None:
        super().__init__()
        self.bytes: collections.Counter[str] = collections.Counter()

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):  # type: ignore[no-untyped-def]
        out = function(*args, **(kwargs or {}))
        name = str(function)
        if name.split(".")[1] not in VIEWS:
            moved = tree_leaves((args, kwargs, out))
            if out is None:  # what is written in place is not among the results
                written = zip(function._schema.arguments, args, strict=False)
                moved += [x for argument, x in written if argument.alias_info and argument.alias_info.is_write]
            self.bytes[name] += sum(size(x) for x in moved if isinstance(x, Tensor))
        return out

    @property
    def elementwise(self) -> int:
        """All but matrix products, convolutions and attention."""
        return sum(n for name, n in self.bytes.items() if not any(word in name for word in PRODUCTS))


def kernels_called(name: str) -> Kernels:
    if name == "torch":
        return Kernels()
    from mova.model.triton_kernels import in_one_pass

    return Kernels(norm_and_rotate_=in_one_pass())


def count(preset: Preset, kernels: Kernels, layers: int | None = None) -> MovedBytes:
    """What one forward at the preset's clip size moves, in bf16."""
    forward: Callable[[], object]
    with FakeTensorMode(), torch.no_grad():
        _, forward = forward_of(preset, kernels, torch.bfloat16, layers)
        with MovedBytes() as moved:
            forward()
    return moved


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--elementwise", choices=("torch", "triton"), default="torch", help="the model's option")
    parser.add_argument("--layers", type=int, help="fewer than the release has")
    parser.add_argument("--report", type=int, default=0, metavar="N", help="list the N operators that move most")
    options = parser.parse_args()
    for name, preset in PRESETS.items():
        moved = count(preset, kernels_called(options.elementwise), options.layers)
        print(f"{name} {preset.width}x{preset.height}x{preset.frames}: {moved.elementwise / 1e12:.2f} TB")
        for operator, n in moved.bytes.most_common(options.report):
            print(f"{n / 1e9:10.1f} GB  {operator}")


if __name__ == "__main__":
    main()
