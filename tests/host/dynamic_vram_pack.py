"""A pack for the tests: gives the host dynamic VRAM on a device that is made of plain memory.

The device is torch's private one, so that a tensor on it is not on the CPU: what mixes the two fails as on a graphics
card. Replaced is only what a device does: its memory, its streams, and the functions of comfy_aimdo that allocate and
fault in its pages. Which weights go where, when and how is the host's own ModelPatcherDynamic, ops and prefetch queue.
"""

import contextlib
import ctypes
import importlib
import itertools
import mmap
import os
import sys
import weakref
from pathlib import Path

import comfy.memory_management
import comfy.model_management as host
import comfy.model_patcher
import comfy.ops
import comfy_aimdo.control
import comfy_aimdo.host_buffer
import comfy_aimdo.model_mmap
import comfy_aimdo.model_vbar
import comfy_aimdo.torch
import comfy_aimdo.vram_buffer
import torch

sys.path.append(str(Path(__file__).resolve().parent))  # ComfyUI has a link to this file
from device_tensor import DEVICE, DeviceTensor
from watch_experts import Report, Watch

PAGE = 64 * 1024  # comfy_aimdo's pages have 32 MiB, as much as a whole golden expert


class Reserved:
    """Addresses, which take memory only once they are written to."""

    def __init__(self, size):
        self.map = mmap.mmap(-1, max(int(size), 1))
        self.address = ctypes.addressof(ctypes.c_char.from_buffer(self.map))


capacity = 0  # bytes that pages of weights may take on the device
vbars = weakref.WeakSet()
stamps = itertools.count(1)


class ModelVBAR:
    """Addresses on the device for a model's weights, backed with pages as long as there are some."""

    def __init__(self, size, device):
        self.reserved = Reserved(size)
        self.base_addr, self.max_size, self.offset = self.reserved.address, size, 0
        self.pages, self.pins = {}, {}  # stamp of each page that is there; how often it is in use
        self.rank = next(stamps)  # the lowest is the first to give pages to others
        vbars.add(self)

    def prioritize(self):
        self.rank = next(stamps)

    def deprioritize(self):
        self.rank = 0

    def alloc(self, size):
        self.offset = (self.offset + 511) & ~511
        if self.offset + size > self.max_size:
            raise MemoryError("VBAR OOM")
        self.offset += size
        return self, self.base_addr + self.offset - size, size

    def span(self, address, size):
        start = address - self.base_addr
        return range(start // PAGE, (start + size - 1) // PAGE + 1)

    def fault(self, address, size):
        pages = self.span(address, size)
        missing = [page for page in pages if page not in self.pages]
        lower = sorted((other for other in vbars if other.rank < self.rank), key=lambda other: other.rank)
        while missing and taken() + len(missing) * PAGE > capacity:
            if not any(other.drop_last() for other in lower):
                return None
        self.pages |= {page: next(stamps) for page in missing}
        for page in pages:
            self.pins[page] = self.pins.get(page, 0) + 1
        return (ctypes.c_uint32 * len(pages))(*(self.pages[page] for page in pages))

    def unpin(self, address, size):
        for page in self.span(address, size):
            self.pins[page] = max(0, self.pins.get(page, 0) - 1)

    def drop_last(self):
        free = [page for page in self.pages if not self.pins.get(page)]
        if free:
            page = max(free)
            del self.pages[page]
            ctypes.memset(self.base_addr + page * PAGE, 0xFF, min(PAGE, self.max_size - page * PAGE))  # NaN
        return bool(free)

    def free_memory(self, size):
        before = self.loaded_size()
        while before - self.loaded_size() < size and self.drop_last():
            pass
        return before - self.loaded_size()

    def loaded_size(self):
        return len(self.pages) * PAGE


def taken():
    return sum(vbar.loaded_size() for vbar in vbars)


class VRAMBuffer:
    """Memory on the device for weights on their way, beside the pages."""

    def __init__(self, max_size, device):
        self.reserved, self.used = Reserved(2**30), 0

    def size(self):
        return self.used

    def get(self, size, offset=0):
        global streamed_at_once
        self.used = max(self.used, offset + size)
        streamed_at_once = max(streamed_at_once, self.used)
        return self, self.reserved.address + offset, size


class HostBuffer:
    """Memory of the host that the device can read by itself."""

    def __init__(self, size, prewarm=0, max_grow_size=0, mark_cold=True):
        self.size, self.reserved = size, Reserved(max(size, max_grow_size))

    def get_raw_address(self):
        return self.reserved.address

    def extend(self, size, reallocate=False, register=True):
        self.size += size
        return self.reserved.address + self.size - size

    def truncate(self, size, do_unregister=True):
        self.size = size

    def read_file_slice(self, file, file_offset, size, offset=0, stream=0, device_ptr=0, device=-1):
        read_into(self.reserved.address + offset, file, file_offset, size)
        if device_ptr:
            ctypes.memmove(device_ptr, self.reserved.address + offset, size)


def read_into(address, file, offset, size):
    memory = (ctypes.c_uint8 * size).from_address(address)
    assert os.preadv(file, [memory], offset) == size


def read_file_to_device(file, offset, size, stream, device_ptr, device, mark_cold=True):
    read_into(device_ptr, file, offset, size)


def aimdo_to_tensor(alloc, device):
    _, address, size = alloc
    return DeviceTensor(torch.frombuffer((ctypes.c_uint8 * size).from_address(address), dtype=torch.uint8))


class Stream:
    cuda_stream = 0

    @staticmethod
    def as_context(stream):
        return contextlib.nullcontext()

    def wait_stream(self, stream):
        pass

    def synchronize(self):
        pass


class Cudart:
    """Says yes to each page of the host that is to be pinned."""

    def cudaHostRegister(self, *_):
        return 0

    def cudaHostUnregister(self, *_):
        return 0


def figure(real, free):
    def of(dev=None, torch_too=False, **named):
        if dev not in (None, DEVICE):
            return real(dev, torch_too, **named)
        room = int(host.minimum_inference_memory() + capacity - (taken() if free else 0))
        return (room, room) if torch_too or any(named.values()) else room

    return of


host.get_free_memory = figure(host.get_free_memory, free=True)
host.get_total_memory = figure(host.get_total_memory, free=False)
host.get_torch_device = lambda: DEVICE
host.vram_state = host.VRAMState.NORMAL_VRAM
host.STREAMS[DEVICE] = [Stream() for _ in range(host.NUM_STREAMS)]
host.MAX_PINNED_MEMORY = 2**28
torch.cuda.cudart = Cudart

comfy_aimdo.model_vbar.ModelVBAR = ModelVBAR
comfy_aimdo.model_vbar.vbars_analyze = lambda device=None: taken()
comfy_aimdo.vram_buffer.VRAMBuffer = VRAMBuffer
comfy_aimdo.host_buffer.HostBuffer = HostBuffer
comfy_aimdo.host_buffer.read_file_to_device = read_file_to_device
comfy_aimdo.torch.aimdo_to_tensor = aimdo_to_tensor
comfy_aimdo.control.init("cuda")  # its mapping of files needs no device
importlib.reload(comfy_aimdo.model_mmap)
comfy.memory_management.aimdo_enabled = True
comfy.model_patcher.CoreModelPatcher = comfy.model_patcher.ModelPatcherDynamic

watched, events = {}, []
streamed_at_once = bytes_from_files = 0
cast = comfy.ops.cast_modules_with_vbar


def noted_cast(modules, dtype, *rest, **more):
    """What the host fetches: several modules ahead (it then names no dtype), or one at the moment of its use."""
    stream = cast(modules, dtype, *rest, **more)
    found = {module.seed_key: state(module._prefetch) for module in modules}
    events.append(["ahead" if dtype is None else "alone", found])
    return stream


def state(fetched):
    if fetched["signature"] is None:
        return "streamed"  # no page free: it passes through a buffer and is gone after its use
    return "there" if fetched["resident"] else "loaded"


comfy.ops.cast_modules_with_vbar = noted_cast
read_slice = comfy.memory_management.read_tensor_file_slice_into


def noted_read(tensor, *rest, **more):
    """Whether the host reads a weight right from its file; else it copies from the file's mapping."""
    global bytes_from_files
    done = read_slice(tensor, *rest, **more)
    bytes_from_files += tensor.nbytes if done else 0
    return done


comfy.memory_management.read_tensor_file_slice_into = noted_read


class DynamicWatch(Watch):
    def run(self, high, low, experts):
        global capacity, streamed_at_once, bytes_from_files
        for name, patcher in (("high", high), ("low", low)):
            model = patcher.model.diffusion_model
            if watched.get(name) is not model:
                watched[name] = model
                model.register_forward_pre_hook(lambda *_, name=name: events.append(["step", name]))
        if capacity != int(experts * high.model_size()):
            host.unload_all_models()  # another device: nothing is on it yet
            capacity = int(experts * high.model_size())
        events.clear()
        streamed_at_once = bytes_from_files = 0
        return high, low


class DynamicReport(Report):
    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "model": ("MODEL",)}}

    def run(self, latent, model):
        numbers = {
            "size": model.model_size(),
            "taken": taken(),
            "streamed_at_once": streamed_at_once,
            "bytes_from_files": bytes_from_files,
            "dynamic": model.is_dynamic(),
        }
        large = [name for name, module in model.model.named_modules() if hasattr(module, "_v")]
        return {"ui": {"events": list(events), "large": large, "numbers": [numbers]}}


NODE_CLASS_MAPPINGS = {"DynamicWatch": DynamicWatch, "DynamicReport": DynamicReport}
