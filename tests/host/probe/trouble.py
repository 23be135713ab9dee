"""What only shows a run, and fails: previewers, progress hooks and notices, as other packs may have them."""

import sys

import comfy.samplers
import comfy.utils
import latent_preview
from comfy.k_diffusion.sampling import sample_euler
from server import PromptServer

from .parts import Fresh, Node

GOOD = {
    "previewer": latent_preview.get_previewer,
    "progress": comfy.utils.PROGRESS_BAR_HOOK,
    "notice": PromptServer.send_progress_text,
}


def fail(*args, **kwargs):
    raise RuntimeError("a fault of another pack\nwith a second line")


class Previewer(latent_preview.LatentPreviewer):
    decode_latent_to_preview_image = fail


class Trouble(Fresh):
    """Passes a latent on; from then on `what` fails, until the next one of these."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"latent": ("LATENT",), "what": (["nothing", *GOOD],)}}

    RETURN_TYPES = ("LATENT",)

    def run(self, latent, what):
        latent_preview.get_previewer = (lambda *_: Previewer()) if what == "previewer" else GOOD["previewer"]
        progress = comfy.utils.PROGRESS_BAR_HOOK
        if GOOD["progress"] is None:  # the host sets its own after packs are loaded
            GOOD["progress"] = progress
        comfy.utils.set_progress_bar_global_hook(fail if what == "progress" else GOOD["progress"])
        PromptServer.send_progress_text = fail if what == "notice" else GOOD["notice"]
        return (latent,)


class OneStepMore(Node):
    """Euler that reports the end as a step of its own, as RES4LYF's samplers do."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {}}

    RETURN_TYPES = ("SAMPLER",)

    def run(self):
        def sampler(model, x, sigmas, extra_args=None, callback=None, disable=None):
            out = sample_euler(model, x, sigmas, extra_args, callback, disable)
            callback({"x": out, "i": len(sigmas) - 1, "sigma": 0, "sigma_hat": 0, "denoised": out})
            return out

        return (comfy.samplers.KSAMPLER(sampler),)


class StopAt(Fresh):
    """Both experts, whose forward fails at this evaluation of the run (0-based; -1: never). Each step is kept."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"high": ("MODEL",), "low": ("MODEL",), "call": ("INT", {"default": -1, "min": -1})}}

    RETURN_TYPES = ("MODEL", "MODEL")

    def run(self, high, low, call):
        (module,) = (module for name, module in sys.modules.items() if name.endswith(".mova.clip.rescue"))
        module.SHARE = 0
        StopAt.call, StopAt.calls = call, 0  # not in the wrapper: one that holds another number makes another run
        stopping = [model.clone() for model in (high, low)]
        for model in stopping:
            model.add_wrapper_with_key("diffusion_model", "probe_stop", stop)
        return tuple(stopping)


def stop(executor, *args, **kwargs):
    StopAt.calls += 1
    if StopAt.calls == StopAt.call + 1:
        raise RuntimeError("stopped by the probe")
    return executor(*args, **kwargs)
