"""The nodes in Chinese: names and tooltips that ComfyUI sends to the browser, and the help pages in both languages."""

import re

import pytest

PACK = "comfyui-mova"
CHINESE = re.compile(r"[\u4e00-\u9fff]")
# The browser compiles names and descriptions as messages (vue-i18n), in which these have a meaning of their own.
MESSAGE_SYNTAX = re.compile(r"[{}@|]")
NAMES_THAT_STAY = {"Latent"}  # as ComfyUI's own Chinese texts call it


@pytest.fixture(scope="module")
def ours(server):
    infos = server.get_json("/object_info")
    found = {name: info for name, info in infos.items() if info["python_module"] == f"custom_nodes.{PACK}"}
    assert len(found) >= 14
    return found


@pytest.fixture(scope="module")
def chinese(server):
    return {k: v for k, v in server.get_json("/i18n")["zh"]["nodeDefs"].items() if k.startswith("MOVA")}


def inputs_of(info):
    """Each input's name, and its options."""
    inputs = {**info["input"].get("required", {}), **info["input"].get("optional", {})}
    return {name: options[0] if options else {} for name, (_, *options) in inputs.items()}


def own_output_names(info):
    """Outputs whose name is not just their type, which ComfyUI translates itself."""
    pairs = zip(info["output_name"], info["output"], strict=True)
    return {str(i) for i, (name, kind) in enumerate(pairs) if name != kind}


def texts(value):
    return [t for v in value.values() for t in texts(v)] if isinstance(value, dict) else [value]


def test_every_node_of_the_pack_and_no_other_is_translated(ours, chinese):
    assert set(chinese) == set(ours)


def test_every_input_and_no_other_has_a_chinese_name_and_its_tooltip_a_chinese_text(ours, chinese):
    for node, info in ours.items():
        inputs, translated = inputs_of(info), chinese[node]["inputs"]
        assert set(translated) == set(inputs), node
        for name, options in inputs.items():
            assert translated[name]["name"], (node, name)
            assert "tooltip" in translated[name] or not options.get("tooltip"), (node, name)


def test_every_output_with_a_name_of_its_own_and_no_other_has_a_chinese_name(ours, chinese):
    for node, info in ours.items():
        translated = chinese[node].get("outputs", {})
        assert set(translated) == own_output_names(info), node
        for index, tooltip in enumerate(info.get("output_tooltips") or []):
            assert not tooltip or "tooltip" in translated[str(index)], (node, index)


def test_names_and_descriptions_of_nodes_are_chinese(ours, chinese):
    for node in ours:
        for key in ("display_name", "description"):
            assert CHINESE.search(chinese[node][key]), (node, key)


def test_all_texts_are_chinese_and_plain(chinese):
    for text in texts(chinese):
        assert CHINESE.search(text) or text in NAMES_THAT_STAY, text
        assert not MESSAGE_SYNTAX.search(text), text
        assert text == text.strip(), text


def test_an_english_help_page_names_node_inputs_and_outputs(server, ours):
    """The browser asks for NODE/LANGUAGE.md, and for NODE.md (English) if there is none."""
    for node, info in ours.items():
        text = server.get(f"/extensions/{PACK}/docs/{node}.md").decode()
        assert text.startswith(f"# {info['display_name']}\n"), node
        assert {*inputs_of(info), *info["output_name"]} <= set(re.findall(r"\w+", text)), node


def test_a_chinese_help_page_names_node_inputs_and_outputs(server, ours, chinese):
    for node, info in ours.items():
        text = server.get(f"/extensions/{PACK}/docs/{node}/zh.md").decode()
        assert text.startswith(f"# {chinese[node]['display_name']}\n"), node
        assert {*inputs_of(info), *info["output_name"]} <= set(re.findall(r"`(\w+)`", text)), node


def test_a_chinese_help_page_calls_inputs_and_outputs_as_the_node_shows_them(server, ours, chinese):
    for node, info in ours.items():
        text = server.get(f"/extensions/{PACK}/docs/{node}/zh.md").decode()
        shown = {name: entry["name"] for name, entry in chinese[node]["inputs"].items()}
        outputs = chinese[node].get("outputs", {})
        shown |= {info["output_name"][int(index)]: entry["name"] for index, entry in outputs.items()}
        for name, label in shown.items():
            assert f"{label} `{name}`" in text, (node, name)
