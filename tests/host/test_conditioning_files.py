"""MOVA Save Conditioning and MOVA Load Conditioning, and the files between them."""

import itertools
import json
import pickle
from pathlib import Path

import pytest
import torch
from client import ran, refusal
from graphs import GIVEN, Graph, ref
from safetensors.torch import load_file, save_file

from mova.files import whole_file

SUFFIX = ".conditioning.safetensors"
numbers = itertools.count(1)


@pytest.fixture
def prefix():
    """A name that no other test uses."""
    return f"conditioning/kept/{next(numbers)}/prompt"


def encoded(graph, prompt="a cat sings"):
    clip = ref(graph.add("ProbeClip"))
    return graph.add("MOVATextEncode", clip=clip, prompt=prompt, negative_prompt="a dog")


def save(graph, conditioning, prefix):
    return graph.add("MOVASaveConditioning", conditioning=conditioning, filename_prefix=prefix)


def load(graph, file):
    return ref(graph.add("MOVALoadConditioning", file=file))


def saved(server, prefix, prompt="a cat sings"):
    """Save the features of a prompt: the name that the user is shown."""
    graph = Graph()
    node = save(graph, ref(encoded(graph, prompt)), prefix)
    (name,) = ran(server, graph).outputs[node]["text"]
    return name


def place(server, name):
    return server.base / "output" / name.removesuffix(" [output]")


def everything(folder: Path):
    return sorted(str(path) for path in folder.rglob("*"))


def test_what_is_loaded_is_bit_for_bit_what_was_saved(server, files, prefix):
    graph = Graph()
    given = ref(graph.add("ProbeGiven", **GIVEN))  # text features and the tensors of an image condition
    timed = ref(graph.add("ConditioningSetTimestepRange", conditioning=given, start=0.1, end=0.7))
    node = save(graph, timed, prefix)
    before = graph.add("ProbeSaveConditioning", conditioning=ref(node), name="before.st")
    first = ran(server, graph)
    graph = Graph()
    after = graph.add(
        "ProbeSaveConditioning", conditioning=load(graph, first.outputs[node]["text"][0]), name="after.st"
    )
    second = ran(server, graph)
    wanted, found = server.tensors(first, before), server.tensors(second, after)
    assert set(found) == set(wanted) >= {"text_features", "concat_mask", "concat_latent_image"}
    assert all(torch.equal(found[name], wanted[name]) and found[name].dtype == wanted[name].dtype for name in wanted)
    assert second.outputs[after]["entries"] == first.outputs[before]["entries"]
    assert first.outputs[before]["entries"][0] == {"start_percent": 0.1, "end_percent": 0.7}


def test_several_conditionings_in_one_are_kept_with_their_own_entries(server, files, prefix):
    graph = Graph()
    texts = encoded(graph)
    both = graph.add("ConditioningCombine", conditioning_1=ref(texts), conditioning_2=ref(texts, 1))
    node = save(graph, ref(both), prefix)
    (first,) = ran(server, graph).outputs[node]["text"]
    graph = Graph()
    node = save(graph, load(graph, first), prefix)
    (second,) = ran(server, graph).outputs[node]["text"]
    assert second != first
    assert place(server, second).read_bytes() == place(server, first).read_bytes()
    assert set(load_file(place(server, first))) == {"0", "1"}


def test_what_is_connected_is_passed_on_and_no_file_is_read_until_its_source_is_muted(server, files, prefix):
    graph = Graph()
    texts = encoded(graph)
    node = graph.add("MOVALoadConditioning", file="not there yet", conditioning=ref(save(graph, ref(texts), prefix)))
    after = graph.add("ProbeSaveConditioning", conditioning=ref(node), name="connected.st")
    assert ran(server, graph).outputs[after]["entries"][0]["text"] == "a cat sings"
    for kept in (saved(server, prefix, "two"), saved(server, prefix, "three")):  # there, and chosen: still not read
        graph.nodes[node]["inputs"]["file"] = kept
        assert ran(server, graph).outputs[after]["entries"][0]["text"] == "a cat sings"
    del graph.nodes[node]["inputs"]["conditioning"]  # as the page does it with a link from a muted node
    assert ran(server, graph).outputs[after]["entries"][0]["text"] == "three"


def test_a_sampler_takes_a_loaded_conditioning_as_the_encoder_s_own(server, files, prefix):
    graph, latents = Graph(), []
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    nodes = [save(graph, ref(given, i), f"{prefix}{i}") for i in range(2)]
    node = graph.save(ref(graph.ksampler(model, given)))
    result = ran(server, graph)
    latents.append(server.tensors(result, node))
    graph = Graph()
    given, model = graph.add("ProbeGiven", **GIVEN), graph.model("mova_high")
    texts = [load(graph, result.outputs[n]["text"][0]) for n in nodes]
    sampler = graph.ksampler(model, given)
    graph.nodes[sampler]["inputs"] |= {"positive": texts[0], "negative": texts[1]}
    node = graph.save(ref(sampler))
    latents.append(server.tensors(ran(server, graph), node))
    assert all(torch.equal(latents[0][name], latents[1][name]) for name in ("video", "audio"))


def test_a_file_gets_the_next_number_and_is_in_the_list(server, files, prefix):
    first, second = saved(server, prefix, "one"), saved(server, prefix, "two")
    assert first == f"{prefix}_00001_{SUFFIX} [output]" and second == f"{prefix}_00002_{SUFFIX} [output]"
    moved = server.base / "input" / f"mine{SUFFIX}"
    moved.write_bytes(place(server, first).read_bytes())
    info = server.get_json("/object_info/MOVALoadConditioning")["MOVALoadConditioning"]
    kind, options = info["input"]["required"]["file"]
    options = kind if isinstance(kind, list) else options["options"]
    assert {first, second, moved.name} <= set(options)
    graph = Graph()
    node = graph.add("ProbeSaveConditioning", conditioning=load(graph, moved.name), name="moved.st")
    assert ran(server, graph).outputs[node]["entries"][0]["text"] == "one"


def test_what_a_killed_server_left_half_written_is_removed_and_what_another_is_writing_stays(server, files, prefix):
    folder = place(server, saved(server, prefix)).parent
    left = folder / ".prompt.mova-0123abcd.part"
    left.write_bytes(b"half")
    with whole_file(folder / f"other{SUFFIX}") as growing:  # in this process
        names = [saved(server, prefix, prompt) for prompt in ("a bird", "a fish")]
        assert not left.exists() and growing.exists()
        assert all(place(server, name).is_file() for name in names)


def test_all_are_in_one_folder_and_only_that_is_looked_through(server, files, prefix):
    name = saved(server, prefix.removeprefix("conditioning/"))
    assert name == f"{prefix}_00001_{SUFFIX} [output]"
    elsewhere = server.base / f"output/clips/elsewhere{SUFFIX}"
    elsewhere.parent.mkdir(exist_ok=True)
    elsewhere.write_bytes(place(server, name).read_bytes())
    graph = Graph()
    graph.add("ProbeSaveConditioning", conditioning=load(graph, f"clips/{elsewhere.name} [output]"), name="x.st")
    assert "There is no saved conditioning" in refusal(server, graph)


def test_a_file_that_was_replaced_is_read_again(server, files, prefix):
    first, second = saved(server, prefix, "one"), saved(server, prefix, "two")
    graph = Graph()
    node = graph.add("ProbeSaveConditioning", conditioning=load(graph, first), name="again.st")
    assert ran(server, graph).outputs[node]["entries"][0]["text"] == "one"
    place(server, second).replace(place(server, first))
    assert ran(server, graph).outputs[node]["entries"][0]["text"] == "two"


def test_an_entry_that_cannot_be_saved_is_named_and_nothing_is_left(server, files, prefix):
    graph = Graph()
    area = graph.add(
        "ConditioningSetAreaPercentage", conditioning=ref(encoded(graph)), width=0.5, height=0.5, x=0, y=0, strength=1.0
    )
    save(graph, ref(area), prefix)
    before = everything(server.base / "output")
    assert "The conditioning's 'area' is a tuple, which cannot be saved" in refusal(server, graph)
    assert everything(server.base / "output") == before


@pytest.mark.parametrize("name", ["../escaped", "a/../../escaped", "{base}/escaped", "", "a/..", ".", "nul\0byte"])
def test_a_name_that_is_not_in_the_output_folder_is_refused(server, files, name):
    graph = Graph()
    save(graph, ref(encoded(graph)), name.format(base=server.base))
    before = everything(server.base)
    assert "is no name in the output folder" in refusal(server, graph)
    assert everything(server.base) == before


def test_a_name_under_a_file_is_refused(server, files):
    (server.base / "output/conditioning").mkdir(exist_ok=True)
    (server.base / "output/conditioning/taken").write_text("not a folder")
    for name in ("taken/prompt", "n" * 300):
        graph = Graph()
        save(graph, ref(encoded(graph)), name)
        before = everything(server.base)
        assert "filename_prefix" in (error := refusal(server, graph)) or "could not be written" in error
        assert everything(server.base) == before


class Trap:
    def __reduce__(self):
        return Path.touch, (Path("trap_was_sprung"),)


def write_foreign(path, kind, good):
    text = torch.ones(1, 2, 8)
    if kind == "cut off":
        path.write_bytes(good[: len(good) // 2])
    elif kind == "empty":
        path.write_bytes(b"")
    elif kind == "pickle":
        path.write_bytes(pickle.dumps(Trap()))
    elif kind == "torch pickle":
        torch.save({"0": Trap()}, path)
    elif kind == "other kind":
        save_file({"0": text}, path)
    else:
        metadata, tensors = {
            "no json": ("{", {"0": text}),
            "not a list": ("7", {"0": text}),
            "entries that are none": ("[3]", {"0": text}),
            "a tensor of none": ("[{}]", {"0": text, "5.more": text + 1}),
            "no text": ("[{}]", {"1": text}),
            "nothing at all": ("[]", {}),
            "not numbers": ("[{}]", {"0": text * float("nan")}),
        }[kind]
        save_file(tensors, path, {"mova_conditioning": metadata})


@pytest.mark.parametrize(
    ("kind", "sentence"),
    [
        ("cut off", "is cut off"),
        ("empty", "is empty"),
        ("pickle", "pickle"),
        ("torch pickle", "pickle"),
        ("other kind", "holds no saved conditioning"),
        ("no json", "holds no saved conditioning"),
        ("not a list", "holds no saved conditioning"),
        ("entries that are none", "holds no saved conditioning"),
        ("a tensor of none", "holds no saved conditioning"),
        ("no text", "holds no saved conditioning"),
        ("nothing at all", "holds no usable text features"),
        ("not numbers", "holds no usable text features"),
    ],
)
def test_a_file_that_holds_no_conditioning_is_refused(server, files, prefix, kind, sentence):
    good = place(server, saved(server, prefix)).read_bytes()
    path = server.base / "input" / f"{kind}{SUFFIX}"
    write_foreign(path, kind, good)
    graph = Graph()
    graph.add("ProbeSaveConditioning", conditioning=load(graph, path.name), name="x.st")
    error = refusal(server, graph)
    assert f"input/{path.name}" in error and sentence in error and str(server.base) not in error
    assert not list(server.base.rglob("trap_was_sprung")) and not Path("trap_was_sprung").exists()


@pytest.mark.parametrize("name", [f"../outside{SUFFIX}", f"../outside{SUFFIX} [output]", "{outside}", "gone"])
def test_only_files_of_the_list_can_be_loaded(server, files, prefix, name):
    outside = server.base / f"outside{SUFFIX}"
    outside.write_bytes(place(server, saved(server, prefix)).read_bytes())
    graph = Graph()
    node = graph.add("MOVALoadConditioning", file=name.format(outside=outside))
    graph.add("ProbeSaveConditioning", conditioning=ref(node), name="x.st")
    assert "There is no saved conditioning" in refusal(server, graph)
    graph.nodes[node]["inputs"]["conditioning"] = None  # as a program may post it: neither left out nor a link
    assert "There is no saved conditioning" in refusal(server, graph)
    outside.unlink()


def linked(graph, text):
    """A text that comes over a link, as of a switch or of another pack's node: unknown until the graph runs."""
    given = ref(graph.add("PrimitiveString", value=text))
    return ref(graph.add("ComfySwitchNode", switch=True, on_true=given, on_false=given))


def test_a_name_from_another_node_is_read_and_checked_when_it_is_known(server, files, prefix):
    name, outside = saved(server, prefix), server.base / f"outside{SUFFIX}"
    outside.write_bytes(place(server, name).read_bytes())
    graph, before = Graph(), len(server.logged())
    node = graph.add("ProbeSaveConditioning", conditioning=load(graph, linked(graph, name)), name="linked.st")
    assert ran(server, graph).outputs[node]["entries"] == [{"text": "a cat sings"}]
    assert "NoneType" not in server.logged()[before:]
    graph = Graph()
    graph.add("ProbeSaveConditioning", conditioning=load(graph, linked(graph, f"../{outside.name}")), name="x.st")
    assert "There is no saved conditioning" in refusal(server, graph)
    outside.unlink()


def test_the_saved_file_tells_other_tools_what_it_is(server, files, prefix):
    from mova.checkpoint.header import read_header

    tensors, metadata = read_header(place(server, saved(server, prefix, "a bell rings")))
    assert json.loads(metadata["mova_conditioning"]) == [{"text": "a bell rings"}]
    assert tensors["0"].shape == (1, 20, 4096)


@pytest.mark.parametrize("prefix", ["conditioning", "conditioning/"])
def test_a_prefix_that_is_the_folder_s_name_is_a_file_in_it(server, files, prefix):
    graph = Graph()
    node = save(graph, ref(encoded(graph, "a prefix of one word")), prefix)
    (name,) = ran(server, graph).outputs[node]["text"]
    assert name.startswith("conditioning/conditioning_") and place(server, name).is_file()
    again = Graph()
    again.add("PreviewAny", source=load(again, name))
    ran(server, again)
