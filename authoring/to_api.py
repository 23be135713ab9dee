"""From the canvas form of a workflow to the API form, with the node definitions of a ComfyUI server."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

NOTES = ("Note", "MarkdownNote")
PAGE_ONLY = ("MOVAGetModels",)  # a program that posts a workflow does not mean a download
OUTPUT = -20  # the number of a subgraph's end
MUTED, BYPASSED = 2, 4  # a node's mode
WIDGET_TYPES = ("INT", "FLOAT", "STRING", "BOOLEAN", "COMBO")
# A choice that brings inputs of its own. The files have it as the plain choice that it was before v0.30, which newer
# pages open, too; of what is told twice each version reads one.
DYNAMIC = "COMFY_DYNAMICCOMBO_V3"
ALSO = {("SaveVideo", "codec"): "format.codec"}


@dataclass(frozen=True)
class Input:
    """An input of a node definition."""

    name: str
    type: str
    options: dict[str, Any]
    is_widget: bool  # else a socket
    optional: bool
    values: int  # in the canvas form's widgets_values; above 1 for what only the canvas has (buttons, seed control)


def inputs_of(definition: dict[str, Any]) -> Iterator[Input]:
    """The inputs of a node in /object_info, in the order of the canvas."""
    for group in ("required", "optional"):
        for name in definition["input_order"].get(group, []):
            kind, options = [*definition["input"][group][name], {}][:2]
            # The list is what nodes of the first schema can choose.
            kind, dynamic = "COMBO" if isinstance(kind, list) or kind == DYNAMIC else kind, kind == DYNAMIC
            is_widget = kind in WIDGET_TYPES and not options.get("forceInput")
            values = 1 + bool(options.get("control_after_generate") or name in ("seed", "noise_seed"))
            values += bool(options.get("image_upload") or options.get("video_upload"))
            values += 2 * bool(options.get("audio_upload"))  # a player, and the button
            optional = group == "optional" and not dynamic
            yield Input(name, kind, options, is_widget, optional, values if is_widget else 0)


def widget_values(node: dict[str, Any], definition: dict[str, Any]) -> dict[str, Any]:
    """The values of a node's widgets by name. Raises ValueError if there are not as many as the definition asks for."""
    inputs, given = list(inputs_of(definition)), node["widgets_values"]
    if len(given) != sum(i.values for i in inputs):
        wanted = sum(i.values for i in inputs)
        raise ValueError(f"node {node['id']} ({node['type']}) has {len(given)} widget values, not {wanted}")
    values, at = {}, 0
    for found in inputs:
        if found.is_widget:
            values[found.name] = given[at]
            if (node["type"], found.name) in ALSO:
                values[ALSO[node["type"], found.name]] = given[at]
        at += found.values
    return values


def to_api(canvas: dict[str, Any], definitions: dict[str, Any]) -> dict[str, Any]:
    """A workflow as /prompt takes it. `definitions` is what /object_info answers.

    Notes and muted nodes are left out; links go past Reroute, PrimitiveNode and bypassed nodes to what is behind them.
    """
    nodes, links = unfolded(canvas)
    api = {}
    for node in nodes.values():
        kind = node["type"]
        if kind in (*NOTES, *PAGE_ONLY, "Reroute", "PrimitiveNode") or node["mode"] in (MUTED, BYPASSED):
            continue
        if kind not in definitions:
            raise ValueError(f"node {node['id']} is of the type {kind}, which this ComfyUI does not know")
        inputs = widget_values(node, definitions[kind])
        for slot in node["inputs"]:
            if slot["link"] is not None and (behind := source(slot["link"], nodes, links)) is not None:
                inputs[slot["name"]] = behind
        title = node.get("title") or definitions[kind]["display_name"] or kind
        api[str(node["id"])] = {"class_type": kind, "_meta": {"title": title}, "inputs": inputs}
    return api


def unfolded(canvas: dict[str, Any]) -> tuple[dict[Any, Any], dict[Any, Any]]:
    """Nodes and links by their numbers, those in subgraphs as "node:number"; one level, as our workflows have."""
    nodes = {node["id"]: node for node in canvas["nodes"]}
    links = {link[0]: link for link in canvas["links"]}
    for subgraph in canvas.get("definitions", {}).get("subgraphs", []):
        for outer in [node for node in nodes.values() if node["type"] == subgraph["id"]]:
            del nodes[outer["id"]]
            given = {
                id_: slot["link"]
                for slot, own in zip(outer["inputs"], subgraph["inputs"], strict=True)
                for id_ in own["linkIds"]
            }
            for inner in subgraph["nodes"]:
                slots = [
                    {**slot, "link": given.get(slot["link"], slot["link"] and f"{outer['id']}:{slot['link']}")}
                    for slot in inner["inputs"]
                ]
                number = f"{outer['id']}:{inner['id']}"
                nodes[number] = {**inner, "id": number, "inputs": slots, "mode": outer["mode"] or inner["mode"]}
            for link in subgraph["links"]:
                origin = f"{outer['id']}:{link['origin_id']}", link["origin_slot"]
                number = f"{outer['id']}:{link['id']}"
                links[number] = [number, *origin, link["target_id"], link["target_slot"], link["type"]]
                if link["target_id"] == OUTPUT:
                    for out in outer["outputs"][link["target_slot"]]["links"]:
                        links[out] = [out, *origin, *links[out][3:]]
    return nodes, links


def source(link: int, nodes: dict[int, Any], links: dict[int, Any]) -> Any:
    """Where a link comes from, as [node, output]; a PrimitiveNode's value; or None if nothing is behind it."""
    _, origin, slot, _, _, kind = links[link]
    node = nodes[origin]
    if node["type"] == "PrimitiveNode":
        return node["widgets_values"][0]
    if node["mode"] == MUTED:
        return None
    if node["type"] == "Reroute" or node["mode"] == BYPASSED:
        # The input at the output's own place if it is of the same type, else the first that is.
        slots = node["inputs"][slot : slot + 1] + node["inputs"]
        through = [s for s in slots if s["type"] in (kind, "*") and s["link"] is not None]
        return source(through[0]["link"], nodes, links) if through else None
    return [str(origin), slot]
