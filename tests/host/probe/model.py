"""What is done with a model: patches of packs, one forward as it is, and what the host has made of its file."""

import sys

import comfy.model_management
import torch

from .parts import Fresh, NestedTensor, Node, tensors


class Patch(Node):
    """What packs plug into a model: replaced blocks, another attention."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {
                "model": ("MODEL",),
                "what": (["call", "skip", "attention", "half attention", "pre cfg", "cfg", "post cfg"],),
            }
        }

    RETURN_TYPES = ("MODEL",)

    def run(self, model, what):
        model = model.clone()

        def replace(args, extra):
            if what == "skip":
                return {"img": args["img"]}
            before = args["img"].clone()
            out = extra["original_block"](args)
            assert torch.equal(args["img"], before), "the block must leave its input alone"
            return {"img": out["img"]}

        def attention(function, *args, **kwargs):
            return function(*args, **kwargs) * (0.5 if what == "half attention" else 1)

        def half(args):
            return args["conds_out"] if what == "pre cfg" else args["denoised" if what == "post cfg" else "cond"] / 2

        if "cfg" in what:
            getattr(model, f"set_model_sampler_{what.replace(' ', '_')}_function")(half)
        elif "attention" in what:
            model.model_options["transformer_options"]["optimized_attention_override"] = attention
        else:
            model.set_model_patch_replace(replace, "dit", "double_block", 1)
        return (model,)


class Forward(Node):
    """One forward of the diffusion model as it is."""

    @classmethod
    def INPUT_TYPES(cls):
        numbers = {name: ("FLOAT", {"default": 1.0}) for name in ("timestep", "a2v_scale", "v2a_scale")}
        return {"required": {"model": ("MODEL",), "file": ("STRING", {}), **numbers}}

    RETURN_TYPES = ("LATENT",)

    def run(self, model, file, timestep, a2v_scale, v2a_scale):
        given = tensors(file)
        comfy.model_management.load_models_gpu([model])
        video, dtype = given["video"], model.model.get_dtype_inference()
        out = model.model.diffusion_model(
            [video[:, :16].to(dtype), given["audio"].to(dtype)],
            torch.tensor([timestep]),
            context=given["text"].to(dtype),
            condition=video[:, 16:].to(dtype),
            a2v_scale=a2v_scale,
            v2a_scale=v2a_scale,
        )
        return ({"samples": NestedTensor([part.float() for part in out])},)


class About(Fresh):
    """What the host has made of a model file."""

    @classmethod
    def INPUT_TYPES(cls):
        return {"required": {"model": ("MODEL",)}}

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, model):
        inner = model.model
        about = {
            "family": type(inner).__name__,
            "dtype": str(inner.get_dtype()),
            "expert": getattr(inner, "expert", None),
            "shift": inner.model_sampling.shift,
            "linear": type(inner.diffusion_model.blocks[0].self_attn.q).__qualname__,
            "memory_factor": inner.memory_usage_factor,
            "tables": getattr(inner.diffusion_model, "last_rotations", None) is not None,
        }
        return {"ui": {"about": [about]}}


class Trainable(Fresh):
    """What MOVA Train LoRA sees of two experts, wherever the host has their weights: the key, and all that it loads."""

    @classmethod
    def INPUT_TYPES(cls):
        return {
            "required": {"high": ("MODEL",), "low": ("MODEL",)},
            "optional": {"after": ("LATENT",)},
        }

    RETURN_TYPES = ()
    OUTPUT_NODE = True

    def run(self, high, low, after=None):
        training, settings = (
            next(module for name, module in sys.modules.items() if name.endswith(f"mova.{place}"))
            for place in ("nodes.host.training", "mova.train.settings")
        )
        base = training.base_of({"high_noise": high, "low_noise": low})
        devices = sorted({str(weight.device) for weight in high.model.diffusion_model.parameters()})
        with torch.inference_mode(False):
            comfy.model_management.unload_all_models()
            chosen = settings.Settings(base="bf16", dtype="fp32")
            models = base.load(chosen, torch.device("cpu"), lambda part: None, None).values()
            layers = [module for model in models for module in model.modules() if hasattr(module, "stored")]
            total = sum(float(layer.matrix(torch.zeros(1)).double().abs().sum()) for layer in layers)
            total += sum(float(weight.double().abs().sum()) for model in models for weight in model.parameters())
        return {"ui": {"key": [base.weights], "devices": devices, "total": [total]}}
