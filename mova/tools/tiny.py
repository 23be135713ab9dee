"""A small checkpoint in the released layout, with all parts and random weights: for trying things and for tests."""

import json
import math
import shutil
from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import save_file
from torch import Tensor, nn

from ..checkpoint.release import JOINT
from ..errors import MovaError
from ..files import reason
from ..model.audio_vae import AudioVAE
from ..model.config import AudioVAEConfig, BridgeConfig, MovaConfig, TowerConfig
from ..model.joint import JointModel

CONFIG = MovaConfig(
    video_dit=TowerConfig(
        dim=256, in_dim=36, ffn_dim=704, out_dim=16, text_dim=4096, num_heads=2, num_layers=3, patch_size=(1, 2, 2)
    ),
    audio_dit=TowerConfig(
        dim=128, in_dim=128, ffn_dim=512, out_dim=128, text_dim=4096, num_heads=1, num_layers=2, patch_size=(1,)
    ),
    dual_tower_bridge=BridgeConfig(
        visual_layers=3,
        audio_layers=2,
        visual_hidden_dim=256,
        audio_hidden_dim=128,
        audio_fps=50.0,
        head_dim=128,
        interaction_strategy="full",
        apply_cross_rope=True,
    ),
)
AUDIO_VAE = AudioVAEConfig(encoder_dim=8, decoder_dim=128)
TEXT_ENCODER: dict[str, Any] = {"d_model": 4096, "d_kv": 32, "num_heads": 2, "d_ff": 128, "num_layers": 2}
VIDEO_VAE: dict[str, Any] = {"base_dim": 16}
WEIGHTS = "diffusion_pytorch_model.safetensors"
INDEX = "model_index.json"
DTYPE = torch.bfloat16


def write_tiny(root: Path, seed: int = 0) -> None:
    """Write the checkpoint (some 60 MB, bf16) into a folder that is new or empty; the experts in two files each.

    Raises MovaError if the folder holds something or cannot be written; what is half made is removed then.
    """
    root = Path(root)
    try:
        root.mkdir(parents=True, exist_ok=True)
        if any(root.iterdir()):
            raise MovaError(f"{root} is not empty; name a new folder.")
    except OSError as error:
        raise MovaError(f"{root} cannot be made ({error.strerror}); name another folder.") from error
    try:
        write_parts(root, seed)
    except BaseException as error:
        for made in root.iterdir():
            shutil.rmtree(made, ignore_errors=True)
        (root / INDEX).unlink(missing_ok=True)
        if isinstance(error, OSError | SafetensorError):
            raise MovaError(
                f"{root} could not be written ({reason(error)}); make room for 60 MB, or name another folder."
            ) from error
        raise


def write_parts(root: Path, seed: int) -> None:
    """All parts, the index last."""
    from diffusers import AutoencoderKLWan
    from transformers import UMT5Config, UMT5EncoderModel

    generator = torch.Generator().manual_seed(seed)
    config = CONFIG.to_dict()
    variant = {"has_image_input": False}
    for part in ("video_dit", "video_dit_2"):
        joint = random_state(JointModel(CONFIG, device="meta"), generator)
        expert = {name: tensor for name, tensor in joint.items() if not name.startswith(JOINT)}
        write_part(root / part, {**config["video_dit"], **variant}, expert, shards=2)
    for part in JOINT:
        state = {name.removeprefix(part + "."): t for name, t in joint.items() if name.startswith(part)}
        extra = {**variant, "vae_type": "dac"} if part == "audio_dit" else {}
        write_part(root / part, {**config[part], **extra}, state)
    audio_config = {**asdict(AUDIO_VAE), "continuous": True, "use_weight_norm": False}
    audio_state = random_state(AudioVAE(AUDIO_VAE, device="meta"), generator)
    loudest = max(name for name in audio_state if name.startswith("decoder.model.") and name.endswith(".weight"))
    audio_state[loudest] /= 300  # random layers add up to a signal that the final tanh would clip
    write_part(root / "audio_vae", audio_config, audio_state)
    with torch.device("meta"):
        video_vae: Any = AutoencoderKLWan(**VIDEO_VAE)
        encoder = UMT5EncoderModel(UMT5Config(vocab_size=write_tokenizer(root / "tokenizer"), **TEXT_ENCODER))
    write_part(root / "video_vae", dict(video_vae.config), random_state(video_vae, generator))
    state = random_state(encoder, generator)
    state.pop("encoder.embed_tokens.weight")  # the same tensor as shared.weight
    write_part(root / "text_encoder", encoder.config.to_dict(), state, name="model.safetensors")
    schedule = {"num_train_timesteps": 1000, "shift": 5.0, "sigma_min": 0.0, "extra_one_step": True}
    write_json(root / "scheduler" / "scheduler_config.json", {"_class_name": "FlowMatchPairScheduler", **schedule})
    write_json(root / INDEX, {"_class_name": "MOVA", "audio_vae_type": "dac", "boundary_ratio": 0.9})


def random_state(module: nn.Module, generator: torch.Generator) -> dict[str, Tensor]:
    """Random weights that keep the size of what passes: norms near 1, biases small, matrices by their fan-in."""
    state = {}
    for name, like in module.state_dict().items():
        values = torch.randn(like.shape, generator=generator)
        if name.endswith(("alpha", "gamma")) or ("norm" in name and name.endswith("weight")):
            values = 1 + 0.1 * values
        elif like.ndim < 2:
            values = 0.1 * values
        else:
            values = values / math.sqrt(math.prod(like.shape[1:]))
        state[name] = values.to(DTYPE)
    return state


def write_part(
    folder: Path, config: dict[str, Any], state: dict[str, Tensor], shards: int = 1, name: str = WEIGHTS
) -> None:
    """One part: its config.json and its weights, in one file or in shards with an index."""
    write_json(folder / "config.json", config)
    if shards == 1:
        save_file(state, folder / name, metadata={"format": "pt"})
        return
    names, stem = list(state), name.removesuffix(".safetensors")
    weight_map: dict[str, str] = {}
    for shard in range(shards):
        held = names[shard::shards]
        file = f"{stem}-{shard + 1:05}-of-{shards:05}.safetensors"
        save_file({key: state[key] for key in held}, folder / file, metadata={"format": "pt"})
        weight_map |= dict.fromkeys(held, file)
    size = sum(tensor.nbytes for tensor in state.values())
    write_json(folder / f"{name}.index.json", {"metadata": {"total_size": size}, "weight_map": weight_map})


def write_json(path: Path, value: dict[str, Any]) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps(value, indent=2, default=str) + "\n", encoding="utf-8")


def write_tokenizer(folder: Path) -> int:
    """A tokenizer of bytes, which ends every prompt with </s> as UMT5's does. Returns the size of its vocabulary."""
    from tokenizers import Tokenizer, decoders, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    words = ["<pad>", "</s>", "<unk>", *sorted(pre_tokenizers.ByteLevel.alphabet())]
    tokenizer = Tokenizer(models.BPE(vocab={word: i for i, word in enumerate(words)}, merges=[], unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.post_processor = processors.TemplateProcessing(single="$A </s>", special_tokens=[("</s>", 1)])
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer, pad_token="<pad>", eos_token="</s>", unk_token="<unk>", model_max_length=512
    )
    fast.save_pretrained(folder)
    return len(words)
