"""A language model in a folder laid out for transformers: nothing is fetched, no code of the folder's is run."""

import json
import os
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from PIL import Image

from ..checkpoint.guards import FOREIGN
from ..checkpoint.header import broken
from ..checkpoint.release import check_is_folder
from ..checkpoint.tokenizer_guard import check_tokenizer_files
from ..checkpoint.weights import open_weights, read_json
from ..errors import MovaError, first_line, memory_is_full
from .task import Request

REMEDY = "take a folder with plain safetensors, as Qwen/Qwen3-VL-4B-Instruct on the model hub"
TOP_K, TOP_P = 64, 0.95


def check_folder(folder: Path) -> dict[str, Any]:
    """The values of its config.json. Raises MovaError if it is no such folder, has pickles, or code of its own."""
    check_is_folder(folder, "a language model, as transformers reads it")
    config = folder / "config.json"
    if not os.path.lexists(config):
        raise MovaError(f"{folder} has no config.json; name a language model's folder, as transformers reads it.")
    for path in sorted(folder.glob("*.json")):
        if path.name.endswith(".index.json") or path.name in ("tokenizer.json", "vocab.json"):
            continue
        for name in settings(read_json(path) if path != config else (values := read_json(path))):
            if name in FOREIGN:
                raise broken(path, f"sets {name}, by which other code or other weights would be loaded", REMEDY)
    open_weights(folder)  # refuses pickles, and damaged headers
    check_tokenizer_files(folder)
    return values


def settings(value: Any) -> Iterator[str]:
    """The names of all settings, those within others too, that are not null."""
    waiting = [value]
    while waiting:
        one = waiting.pop()
        if isinstance(one, dict):
            yield from (name for name, inner in one.items() if inner is not None)
            waiting.extend(one.values())
        elif isinstance(one, list):
            waiting.extend(one)


class Local:
    """Called with a Request it gives the model's answer; loaded when it is made, and gone with it."""

    def __init__(
        self,
        folder: Path,
        pictures: Sequence[Image.Image] = (),
        seed: int = 0,
        temperature: float = 0.7,
        max_length: int = 1024,
        device: torch.device | str = "cpu",
        dtype: torch.dtype = torch.bfloat16,
    ) -> None:
        values = check_folder(folder)
        self.folder, self.seed, self.temperature, self.max_length = folder, seed, temperature, max_length
        self.sees = bool(pictures) and "vision_config" in values
        self.pictures = list(pictures) if self.sees else []
        try:
            self.reader, self.model = load(folder, self.sees, torch.device(device), dtype)
        except Exception as error:  # transformers raises all kinds
            if memory_is_full(error) or isinstance(error, ImportError):
                raise
            raise MovaError(
                f"{folder} does not load as a language model ({first_line(error)}); download it again, or name another."
            ) from error

    @torch.inference_mode()
    def __call__(self, request: Request) -> str:
        inputs = self.inputs(request).to(self.model.device)
        sampling: dict[str, Any] = {"do_sample": False}
        if self.temperature > 0:
            sampling = {"do_sample": True, "temperature": self.temperature, "top_k": TOP_K, "top_p": TOP_P}
        devices = [self.model.device] if self.model.device.type == "cuda" else []
        with torch.random.fork_rng(devices):
            torch.manual_seed(self.seed + request.attempt)
            try:
                made = self.model.generate(**inputs, max_new_tokens=self.max_length, **sampling)
            except Exception as error:
                if memory_is_full(error) or not isinstance(error, RuntimeError | ValueError | TypeError | IndexError):
                    raise
                raise MovaError(f"{self.folder} fails as it writes ({first_line(error)}); name another.") from error
        new = made[0, inputs["input_ids"].shape[1] :]
        return str(self.reader.decode(new, skip_special_tokens=True))

    def inputs(self, request: Request) -> Any:
        """A request as the model's own template has it; without one, as plain text."""
        try:
            text = self.templated(request.system, request.user)
        except Exception:  # templates without a system's turn refuse it, each in its own way
            try:
                text = self.templated("", f"{request.system}\n\n{request.user}")
            except Exception:
                text = f"{request.system}\n\n{request.user}\n\n"
        if self.sees:
            return self.reader(text=[text], images=self.pictures, return_tensors="pt", add_special_tokens=False)
        return self.reader(text, return_tensors="pt", add_special_tokens=False)

    def templated(self, system: str, user: str) -> str:
        content: Any = user
        if self.sees:
            content = [*({"type": "image"} for _ in self.pictures), {"type": "text", "text": user}]
            system_content: Any = [{"type": "text", "text": system}]
        else:
            system_content = system
        turns = [{"role": "system", "content": system_content}] * bool(system) + [{"role": "user", "content": content}]
        return str(
            self.reader.apply_chat_template(turns, tokenize=False, add_generation_prompt=True, enable_thinking=False)
        )


def load(folder: Path, sees: bool, device: torch.device, dtype: torch.dtype) -> tuple[Any, Any]:
    """What turns text and pictures into tokens, and the model."""
    import transformers

    own: dict[str, Any] = {"local_files_only": True, "trust_remote_code": False}
    reader = (transformers.AutoProcessor if sees else transformers.AutoTokenizer).from_pretrained(folder, **own)
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    kind = transformers.AutoModelForImageTextToText if "vision_config" in config else transformers.AutoModelForCausalLM
    model: Any = kind.from_pretrained(folder, dtype=dtype, use_safetensors=True, **own)
    return reader, model.to(device).eval()
