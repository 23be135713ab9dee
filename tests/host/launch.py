"""python launch.py COMFYUI/main.py ARGUMENTS: start ComfyUI also where only a CPU build of torch is at hand.

PyPI's torchvision and torchaudio are built for CUDA. Their compiled parts cannot be loaded beside a CPU build of torch,
and ComfyUI needs none of them on a CPU: it must only be able to import the packages.
"""

import importlib.abc
import importlib.machinery
import runpy
import sys
from pathlib import Path

OPERATORS = {  # of torchvision, which registers more for them as it is imported
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
    "int sampling_ratio, bool aligned) -> Tensor",
    "deform_conv2d": "(Tensor input, Tensor weight, Tensor offset, Tensor mask, Tensor bias, SymInt stride_h, "
    "SymInt stride_w, SymInt pad_h, SymInt pad_w, SymInt dilation_h, SymInt dilation_w, SymInt groups, "
    "SymInt offset_groups, bool use_mask) -> Tensor",
}


def after_torchvision_extension(module):
    import torch

    if not module._has_ops():
        for name, signature in OPERATORS.items():
            torch.library.define(f"torchvision::{name}", signature)


def after_torchaudio_utils(module):
    load = module._load_lib

    def load_or_do_without(name):
        try:
            return load(name)
        except OSError:
            return False

    module._load_lib = load_or_do_without


AFTER = {
    "torchvision.extension": after_torchvision_extension,
    "torchaudio._extension.utils": after_torchaudio_utils,
}


class Finder(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        if name not in AFTER:
            return None
        spec = importlib.machinery.PathFinder.find_spec(name, path, target)
        run = spec.loader.exec_module

        def exec_module(module):
            run(module)
            AFTER[name](module)

        spec.loader.exec_module = exec_module
        return spec


if __name__ == "__main__":
    main = Path(sys.argv[1]).resolve()
    sys.meta_path.insert(0, Finder())
    sys.argv = [str(main), *sys.argv[2:]]
    sys.path[0] = str(main.parent)
    runpy.run_path(str(main), run_name="__main__")
