"""What `python -m mova info` says of each kind of file."""

import json
import sys

import av
import gguf
import pytest
import torch
from gguf_files import write_gguf
from safetensors.torch import load_file, save_file

from mova import JointModel
from mova.__main__ import main
from mova.checkpoint import quantize
from mova.checkpoint.formats import QUANTISED
from mova.checkpoint.weights import open_weights
from mova.clip.media import write_clip
from mova.model.wan_vae_names import wan_name
from mova.tools import tiny


@pytest.fixture
def info(capsys):
    """What is printed for a path, by line; of an error, the one sentence."""

    def run(path) -> list[str]:
        status = main(["info", str(path)])
        out, err = capsys.readouterr()
        if status == 0:
            assert not err
            return out.splitlines()
        lines = err.splitlines()
        assert status == 1 and not out and len(lines) == 1 and lines[0].startswith("error: ")
        return lines

    return run


@pytest.fixture(scope="module")
def state():
    return tiny.random_state(JointModel(tiny.CONFIG, device="meta"), torch.Generator().manual_seed(0))


def metadata(expert: str) -> dict[str, str]:
    return {"config": json.dumps({"transformer": {**tiny.CONFIG.to_dict(), "expert": expert}}), "source": "MOVA-tiny"}


@pytest.mark.parametrize(
    ("expert", "told"), [("high_noise", "high-noise expert"), ("low_noise", "low-noise expert"), (None, "one expert (")]
)
def test_an_expert_s_file(state, tmp_path, info, expert, told):
    path = tmp_path / "x.safetensors"
    save_file(state, path, metadata(expert) if expert else None)
    lines = info(path)
    assert lines[0].startswith(f"MOVA joint model, {told}") and "3 video and 2 audio layers" in lines[0]
    count = sum(tensor.numel() for tensor in state.values())
    assert lines[1] == f"213 tensors, {count / 1e6:,.1f} M parameters, {count * 2 / 2**20:.2f} MiB, BF16 (213)"
    parts = [sum(v.numel() for k, v in state.items() if k.startswith(p)) for p in ("audio_dit", "dual_tower_bridge")]
    video, audio, bridge = (f"{n / 1e6:,.1f} M" for n in (count - sum(parts), *parts))
    assert lines[2] == f"video tower {video}, audio tower {audio}, bridge {bridge}"
    assert ("source: MOVA-tiny" in lines) == bool(expert)


@pytest.mark.parametrize("format_name", QUANTISED)
def test_quantised_files(state, tmp_path, info, format_name):
    stored, shapes = {}, {name: tuple(tensor.shape) for name, tensor in state.items()}
    for name, tensor in state.items():
        stored |= quantize.encode(format_name, name, tensor, "high_noise")
    extra = quantize.metadata(format_name, shapes, "high_noise")
    layers = len(json.loads(extra["_quantization_metadata"])["layers"])
    save_file(stored, tmp_path / "x.safetensors", {**metadata("high_noise"), **extra})
    lines = info(tmp_path / "x.safetensors")
    assert "high-noise expert" in lines[0] and layers > 0
    held = f"int8 ({layers - 3}), fp8_e4m3_scaled (3)" if format_name == "int8" else f"{format_name} ({layers})"
    assert f"quantised layers: {held}" in lines
    # As many weights as before, however they are packed, and without their scales.
    assert f" {sum(tensor.numel() for tensor in state.values()) / 1e6:,.1f} M parameters" in lines[1]
    assert not any("_quantization_metadata" in line for line in lines)


def test_layers_marked_by_tensors_of_their_own(state, tmp_path, info):
    mark = torch.tensor(list(json.dumps({"format": "mxfp8"}).encode()), dtype=torch.uint8)
    broken = torch.tensor([255, 0, 1], dtype=torch.uint8)
    marks = {f"blocks.{i}.ffn.0.comfy_quant": mark.clone() for i in range(2)} | {"blocks.2.ffn.0.comfy_quant": broken}
    save_file({**state, **marks}, tmp_path / "x.safetensors")
    assert "quantised layers: mxfp8 (2), ? (1)" in info(tmp_path / "x.safetensors")
    old = {f"blocks.{i}.ffn.0.scale_weight": torch.ones(()) for i in range(3)}
    scaled = torch.zeros(2, dtype=torch.float8_e4m3fn)
    save_file({**state, **old, "scaled_fp8": scaled}, tmp_path / "old.safetensors")
    assert any(
        line.startswith("quantised layers: fp8") and line.endswith("(3)") for line in info(tmp_path / "old.safetensors")
    )


def test_the_parts_of_a_release_and_of_comfyui_s_folders(tiny_checkpoint, tmp_path, info):
    parts = {
        "video_dit": "Wan transformer or MOVA tower",
        "audio_dit": "MOVA audio tower",
        "dual_tower_bridge": "MOVA bridge",
        "audio_vae": "MOVA audio VAE",
        "video_vae": "Wan video VAE",
        "text_encoder": "UMT5 encoder",
    }
    for part, kind in parts.items():
        assert (
            info(tiny_checkpoint / part)[0]
            == f"{kind}{' (video)' if part == 'video_dit' else ''}: {tiny_checkpoint / part}"
        )
    (vae,) = (tiny_checkpoint / "video_vae").glob("*.safetensors")
    save_file({wan_name(name): tensor for name, tensor in load_file(vae).items()}, tmp_path / "wan_vae.safetensors")
    assert info(tmp_path / "wan_vae.safetensors")[0].startswith("Wan video VAE: ")
    assert info(tiny_checkpoint)[0] == f"MOVA checkpoint folder {tiny_checkpoint}"


def test_a_release_is_described_also_without_the_library_of_its_video_vae(tiny_checkpoint, info, monkeypatch):
    whole = info(tiny_checkpoint)
    monkeypatch.setitem(sys.modules, "diffusers", None)  # as in ComfyUI's Python
    lines = info(tiny_checkpoint)
    assert [line.split(", not checked")[0] for line in lines] == whole
    assert [line.split()[0] for line in lines if "not checked" in line] == ["video_vae", "text_encoder"]


def test_a_clip_that_comfyui_saved_tells_what_our_nodes_were_set_to(tmp_path, info):
    prompt = {
        "3": {"class_type": "MOVAJointSampler", "inputs": {"seed": 7, "latent": ["2", 0], "sampler": "a\x1b[31mb"}},
        "4": {"class_type": "SaveVideo", "inputs": {"codec": "auto"}},
        "5": {"class_type": "MOVATextEncode", "inputs": ["odd"]},
        "6": "odd",
        "7": {"class_type": ["MOVA"]},
    }
    with av.open(tmp_path / "clip.mp4", "w", options={"movflags": "use_metadata_tags"}) as container:
        container.metadata["prompt"] = json.dumps(prompt)
        stream = container.add_stream("libx264", rate=24)
        stream.width, stream.height = 32, 32
        container.mux([*stream.encode(av.VideoFrame(32, 32, "yuv420p")), *stream.encode(None)])
    lines = [line for line in info(tmp_path / "clip.mp4") if "MOVA" in line or "codec: auto" in line]
    assert lines == ["MOVAJointSampler (3), seed: 7", "MOVAJointSampler (3), sampler: a [31mb"]


def test_a_clip_tells_each_value_once(tmp_path, info):
    settings = {"frames": 1, "width": 32, "height": 32, "fps": 23.976, "prompt": "a rocket"}
    frames = torch.zeros(1, 32, 32, 3, dtype=torch.uint8)
    write_clip(tmp_path / "clip.mp4", frames, settings["fps"], None, settings=settings)
    names = [line.split(":")[0] for line in info(tmp_path / "clip.mp4")[1:]]
    assert len(set(names)) == len(names) and set(settings) <= set(names)


@pytest.fixture(scope="module")
def gguf_path(state, tmp_path_factory):
    folder = tmp_path_factory.mktemp("info")
    save_file(state, folder / "x.safetensors")
    write_gguf(folder / "x_Q5_1.gguf", open_weights(folder / "x.safetensors"), metadata("low_noise"), "gguf_q5_1")
    return folder / "x_Q5_1.gguf"


def test_gguf_files(state, gguf_path, info):
    lines = info(gguf_path)
    assert lines[0].startswith("MOVA joint model, low-noise expert") and f" in GGUF: {gguf_path}" in lines[0]
    assert f"{sum(tensor.numel() for tensor in state.values()) / 1e6:,.1f} M parameters" in lines[1]
    size = float(lines[1].split(" MiB")[0].split()[-1]) * 2**20
    assert 0.99 < size / gguf_path.stat().st_size < 1  # all but the header
    assert lines[1].endswith("F32 (135), Q5_1 (66), BF16 (12)")
    assert "general.architecture: wan" in lines and "source: MOVA-tiny" in lines


def test_gguf_files_of_another_model_and_damaged_ones(gguf_path, tmp_path, info):
    writer = gguf.GGUFWriter(tmp_path / "other.gguf", "llama")
    writer.add_array("tokenizer.ggml.tokens", ["a", "b"])
    writer.add_tensor("blk.0.attn_q.weight", torch.zeros(4, 32).numpy())
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    lines = info(tmp_path / "other.gguf")
    assert lines[0].startswith("another kind of model in GGUF") and "general.architecture: llama" in lines
    (tmp_path / "cut.gguf").write_bytes(gguf_path.read_bytes()[:-100_000])
    assert "cut.gguf is a GGUF file that is damaged or cut off" in info(tmp_path / "cut.gguf")[0]


def test_loras(tmp_path, info):
    pair = {"lora_A.weight": torch.randn(4, 256), "lora_B.weight": torch.randn(256, 4)}
    lora = {
        f"diffusion_model.blocks.{i}.self_attn.q.{part}": tensor.clone()
        for i in range(3)
        for part, tensor in pair.items()
    }
    save_file(lora, tmp_path / "lora.safetensors")
    lines = info(tmp_path / "lora.safetensors")
    assert lines[0].startswith("LoRA ") and any("3 layers, rank 4" in line for line in lines)
    assert any(line.startswith("6 tensors, ") for line in lines)
    folder = tmp_path / "trained"
    folder.mkdir()
    torch.save({f"audio_dit.blocks.0.self_attn.q.{part}": t for part, t in pair.items()}, folder / "lora_weights.pt")
    torch.save({"alpha": 16, "rank": 4}, folder / "lora_config.pt")
    for path in (folder, folder / "lora_weights.pt"):
        lines = info(path)
        assert lines[0].startswith("LoRA ") and any("audio" in line and "rank 4" in line for line in lines)
    (folder / "lora_weights.pt").rename(folder / "adapter_model.bin")  # PEFT's older name
    assert info(folder)[0] == f"LoRA {folder / 'adapter_model.bin'}"


def test_a_lora_with_no_layer_of_mova_is_one_for_another_model(tmp_path, info):
    halves = {"lora_down.weight": torch.ones(4, 8), "lora_up.weight": torch.ones(8, 4)}
    for layer, ours in (("double_blocks_0_img_attn_qkv", False), ("blocks_0_self_attn_q", True)):
        lora = {f"lora_unet_{layer}.{half}": tensor for half, tensor in halves.items()}
        save_file(lora, tmp_path / "lora.safetensors")
        told = info(tmp_path / "lora.safetensors")[1]
        assert ("a LoRA for another model" in told) != ours and ("video tower of Wan's kind" in told) == ours


def test_a_pickle_that_is_no_lora_is_told_in_a_sentence(tmp_path, info):
    torch.save({"conv1.weight": torch.zeros(2)}, tmp_path / "vae.pth")
    (tmp_path / "no.pt").write_text("not a pickle")
    for name in ("vae.pth", "no.pt"):
        assert name in info(tmp_path / name)[0]


def test_what_a_file_says_cannot_command_the_terminal(state, tmp_path, info):
    save_file({"x": torch.zeros(1)}, tmp_path / "x.safetensors", {"title": "a\x1b[2Jb\nc"})
    lines = info(tmp_path / "x.safetensors")
    assert lines[0].startswith("safetensors of another kind") and lines[-1] == "title: a [2Jb c"


def test_what_is_nothing_that_mova_knows_is_told(tmp_path, info):
    (tmp_path / "notes.txt").write_text("text")
    assert "notes.txt is neither a model folder, weights" in info(tmp_path / "notes.txt")[0]
    assert "gone.gguf" in info(tmp_path / "gone.gguf")[0]
    assert info(tmp_path / "gone.pt") == [f"error: {tmp_path / 'gone.pt'} is not there; check the path."]


def test_what_a_clip_or_a_file_says_cannot_command_the_terminal(state, tmp_path, info):
    settings = {"prompt": "rain\x1b[2J\x07", "na\x1bme": "x", "list": ["\x9b"]}
    write_clip(tmp_path / "clip.mp4", torch.zeros(1, 32, 32, 3, dtype=torch.uint8), 24, None, settings=settings)
    save_file(state, tmp_path / "x.safetensors", {"note": "\x1b]0;title\x07"})
    for name in ("clip.mp4", "x.safetensors"):
        lines = info(tmp_path / name)
        assert all(line.isprintable() for line in lines) and len(lines) > 3
