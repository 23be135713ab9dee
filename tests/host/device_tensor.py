"""A device that is made of plain memory: torch's private one, so that a tensor on it is not on the CPU.

What mixes the two fails as on a graphics card. For packs of the tests, inside ComfyUI.
"""

import torch
from torch.utils._pytree import tree_leaves, tree_map
from torch.utils.backend_registration import _setup_privateuseone_for_python_backend

_setup_privateuseone_for_python_backend("small")
DEVICE = torch.device("small", 0)
aten = torch.ops.aten


class DeviceTensor(torch.Tensor):
    """A tensor on the device; `memory` is a tensor on the CPU with its values."""

    __torch_function__ = torch._C._disabled_torch_function_impl

    @staticmethod
    def __new__(cls, memory):
        assert type(memory) is torch.Tensor, type(memory)
        place = {"strides": memory.stride(), "storage_offset": memory.storage_offset(), "device": DEVICE}
        return torch.Tensor._make_wrapper_subclass(cls, memory.shape, dtype=memory.dtype, **place)

    def __init__(self, memory):
        self.memory = memory

    def data_ptr(self):
        return self.memory.data_ptr()

    def __repr__(self):
        return f"DeviceTensor({self.memory!r})"

    @classmethod
    def __torch_dispatch__(cls, function, types, args=(), kwargs=None):
        if function is aten._has_compatible_shallow_copy_type.default:
            return False  # Module.to is then to make new parameters
        leaves = tree_leaves((args, kwargs or {}))
        given = [leaf for leaf in leaves if isinstance(leaf, torch.Tensor)]
        moves = function.overloadpacket in (aten.copy_, aten.to, aten._to_copy)
        if not moves and any(not isinstance(tensor, DeviceTensor) and tensor.dim() for tensor in given):
            raise RuntimeError(f"Expected all tensors to be on the same device: {function}")
        places = [leaf for leaf in leaves if isinstance(leaf, torch.device)]
        if function is aten.to.other:
            places = [given[1].device]
        out = function(*tree_map(of_memory, args), **tree_map(of_memory, kwargs or {}))
        if places and places[0].type == "cpu":
            return out.clone()
        same = {id(of_memory(tensor)): tensor for tensor in given}  # what was changed in place stays the same tensor

        def placed(value):
            if not isinstance(value, torch.Tensor):
                return value
            return same[id(value)] if id(value) in same else DeviceTensor(value)

        return tree_map(placed, out)


def of_memory(value):
    """The same on the CPU: of a tensor, of a device, or any other value."""
    if isinstance(value, torch.device):
        return torch.device("cpu")
    return value.memory if isinstance(value, DeviceTensor) else value


def empty(size, dtype=None, layout=None, device=None, pin_memory=None, memory_format=None):
    return DeviceTensor(torch.empty(size, dtype=dtype))


def empty_strided(size, stride, dtype=None, layout=None, device=None, pin_memory=None):
    return DeviceTensor(torch.empty_strided(size, stride, dtype=dtype))


def copy_from(source, target, non_blocking=False):
    of_memory(target).copy_(of_memory(source))
    return target


def set_data(tensor, value):
    """torch would keep the class of the tensor whose data is replaced."""
    if isinstance(value, DeviceTensor) or isinstance(tensor, DeviceTensor):
        torch.utils.swap_tensors(tensor, torch.nn.Parameter(value, requires_grad=False))
    else:
        torch.Tensor.data.__set__(tensor, value)


torch.nn.Parameter.data = DeviceTensor.data = property(torch.Tensor.data.__get__, set_data)
library = torch.library.Library("aten", "IMPL")
library.impl("empty.memory_format", empty, "PrivateUse1")
library.impl("empty_strided", empty_strided, "PrivateUse1")
library.impl("_copy_from", copy_from, "PrivateUse1")
