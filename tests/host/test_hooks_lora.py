"""ComfyUI's bypass LoRA loaders, which leave the weights alone and add beside each layer."""

from bench import Bench, differ
from graphs import golden_model, numbers, ref
from safetensors.torch import save_file

BRIDGE = [
    f"dual_tower_bridge.{direction}_conditioners.0.inner.{layer}"
    for direction, layer in (("audio_to_video", "q"), ("video_to_audio", "v"), ("audio_to_video", "o"))
]
TOWERS = ["blocks.1.self_attn.q", "blocks.0.ffn.2", "audio_dit.blocks.0.cross_attn.k"]


def write(server, name: str, layers: list[str]) -> str:
    state, lora = golden_model("high").state_dict(), {}
    for layer in layers:
        rows, columns = state[f"{layer}.weight"].shape
        lora[f"diffusion_model.{layer}.lora_A.weight"] = numbers(f"{layer} a", 4, columns) / 16
        lora[f"diffusion_model.{layer}.lora_B.weight"] = numbers(f"{layer} b", rows, 4) / 2
    folder = server.base / "models/loras"
    folder.mkdir(exist_ok=True)
    save_file(lora, folder / name)
    return name


def test_bypass_loaders_reach_every_layer_and_give_what_merging_gives(server, files):
    before = len(server.logged())
    for name, layers in (("bypass_bridge", BRIDGE), ("bypass_all", BRIDGE + TOWERS)):
        bench = Bench(server)
        inputs = {"lora_name": write(server, f"{name}.safetensors", layers), "strength_model": 0.75}
        models = [bench.plain_model] + [
            ref(bench.add(node, model=bench.plain_model, **inputs))
            for node in ("LoraLoaderModelOnly", "LoraLoaderBypassModelOnly")
        ]
        plain, merged, bypassed = bench.results(*(bench.sample(model) for model in models))
        assert differ(bypassed, merged) < 1e-5 < 1e-3 < differ(merged, plain)
    assert "Failed to find module" not in server.logged()[before:]
