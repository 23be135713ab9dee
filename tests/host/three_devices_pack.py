"""A pack for the tests: the host believes in three devices, and says which of them evaluates what.

They are the processor under three names: torch knows cpu, cpu:1 and cpu:2 as different devices, whose tensors are all
the same. What is shared out, built again and put together is the host's own work; memory and transfers are not seen.
"""

import functools
import logging
import weakref

import comfy.model_base
import comfy.model_management
import torch

DEVICES = [torch.device("cpu"), torch.device("cpu", 1), torch.device("cpu", 2)]


def get_all_torch_devices(exclude_current=False):
    return [device for device in DEVICES if device != DEVICES[0] or not exclude_current]


apply_model = comfy.model_base.BaseModel.apply_model
process_latent_out = comfy.model_base.BaseModel.process_latent_out
evaluated = weakref.WeakSet()


@functools.wraps(apply_model)
def noted(self, x, *args, **kwargs):
    logging.info(f"[devices] {self.current_patcher.load_device} evaluates {len(x)} with {id(self)}")
    evaluated.add(self)
    return apply_model(self, x, *args, **kwargs)


@functools.wraps(process_latent_out)
def noted_end(self, latent):
    """What a run ends with."""
    kept = sum(getattr(model.diffusion_model, "last_rotations", None) is not None for model in evaluated)
    logging.info(f"[devices] models that keep their tables: {kept}")
    return process_latent_out(self, latent)


comfy.model_management.get_all_torch_devices = get_all_torch_devices
comfy.model_base.BaseModel.apply_model = noted
comfy.model_base.BaseModel.process_latent_out = noted_end
NODE_CLASS_MAPPINGS = {}
