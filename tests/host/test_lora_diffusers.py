"""LoRAs in diffusers' names, and files of which a part does not fit: the rest is applied, and it is told."""

import torch
from bench import differ
from client import refusal
from graphs import Graph, golden_model, numbers, ref
from loras import VIDEO, by_hand, forwards, halves, loader, merged, write

TO_Q = "blocks.1.attn1.to_q"


def test_diffusers_names_change_the_layer_that_wan_s_names_change(server, files):
    names = [
        write(files, "diffusers.safetensors", halves(VIDEO, f"transformer.{TO_Q}")),
        write(
            files,
            "simpletuner.safetensors",
            halves(VIDEO, f"lycoris_{TO_Q.replace('.', '_')}", ".lora_down.weight", ".lora_up.weight"),
        ),
    ]
    graph = Graph()
    model = graph.model("mova_high")
    plain, *found = forwards(server, graph, model, *(ref(loader(graph, name, model)) for name in names))
    for one in found:
        assert differ(one, by_hand("high", merged(VIDEO))) < 1e-5 < 1e-3 < differ(one, plain)


def test_lokr_of_lycoris_in_diffusers_names(server, files):
    key, w1, w2 = f"lycoris_{TO_Q.replace('.', '_')}", numbers("w1", 8, 8) / 4, numbers("w2", 32, 32) / 4
    name = write(
        files, "lokr.safetensors", {f"{key}.lokr_w1": w1, f"{key}.lokr_w2": w2, f"{key}.alpha": torch.ones(())}
    )
    graph = Graph()
    (found,) = forwards(server, graph, ref(loader(graph, name, graph.model("mova_high"))))
    assert differ(found, by_hand("high", {f"{VIDEO}.weight": torch.kron(w1, w2)})) < 1e-5


def test_one_layer_that_does_not_fit_is_left_out_named_and_nothing_else_is(server, files):
    """As in a LoRA for Wan's text-to-video model."""
    rows, _, *kernel = golden_model("high").state_dict()["patch_embedding.weight"].shape
    patch = {"diffusion_model.patch_embedding.diff": torch.ones(rows, 16, *kernel)}
    name = write(files, "t2v.safetensors", halves(VIDEO, f"diffusion_model.{VIDEO}") | patch)
    graph = Graph()
    node = loader(graph, name, graph.model("mova_high"), graph.model("mova_low"))
    found, report = forwards(server, graph, ref(node), report=node)
    assert differ(found, by_hand("high", merged(VIDEO))) < 1e-5
    assert report.count("left out") == 1, "once, though both experts lack it"
    assert "1 layers are left out, as they do not fit MOVA: 'diffusion_model.patch_embedding.diff' is for" in report


def test_metadata_says_which_expert_a_renamed_file_is_for(server, files):
    from safetensors.torch import save_file

    metadata = {"modelspec.timestep_range": "0,900", "modelspec.title": "style"}
    save_file(halves(VIDEO, f"diffusion_model.{VIDEO}"), files / "models/loras/renamed.safetensors", metadata)
    graph = Graph()
    node = loader(graph, "renamed.safetensors", graph.model("mova_high"), graph.model("mova_low"))
    *_, report = forwards(server, graph, ref(node), report=node)
    assert "the file's metadata (modelspec.timestep_range) says low-noise, but it is on the high-noise" in report


def test_nan_in_a_lora_is_told_by_the_loader(server, files):
    tensors = halves(VIDEO, f"diffusion_model.{VIDEO}")
    tensors[f"diffusion_model.{VIDEO}.lora_B.weight"] = tensors[f"diffusion_model.{VIDEO}.lora_B.weight"] / 0
    name = write(files, "burst.safetensors", tensors)
    graph = Graph()
    graph.add("PreviewAny", source=ref(loader(graph, name, graph.model("mova_high")), 2))
    assert "burst.safetensors holds NaN or infinite values" in refusal(server, graph)
