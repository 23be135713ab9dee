"""Nodes folded into one: a subgraph of ComfyUI's, as it stands in a workflow's file.

ComfyUI shows no previews and no notices of what is in it, so only plumbing is folded.
"""

import uuid
from collections.abc import Callable
from typing import Any

from .canvas import EDGE, FOOT, PACK, SLOT, TEXT, WIDGET, Output, Page
from .to_api import OUTPUT

INPUT = -10  # the number of a subgraph's beginning


def fold(page: Page, title: str, build: Callable[..., dict[str, Output]], **given: Output) -> list[Output]:
    """A node that holds what `build` writes, which gets a page of its own and the inputs, and names its outputs."""
    node = folded(page, title, build, {name: output.kind for name, output in given.items()})
    for output, slot in zip(given.values(), node["inputs"], strict=True):
        page.link(output, node, slot)
    return [Output(node, slot) for slot in range(len(node["outputs"]))]


def folded(
    page: Page, title: str, build: Callable[..., dict[str, Output]], kinds: dict[str, str], **more: Any
) -> dict[str, Any]:
    """The node, with inputs of these types that nothing is linked to; `more` goes into the subgraph's definition."""
    definition, made = definition_of(page, title, build, kinds)
    page.subgraphs.append(definition | more)
    widgets = {slot["name"] for slot in definition["inputs"] if slot.pop("is_widget")}
    rows = max(len(kinds) - len(widgets), len(made))
    high = sum(TEXT if kinds[name] == "STRING" else WIDGET for name in widgets)
    node = page.place(definition["id"], title, EDGE + FOOT + rows * SLOT + high, {})
    node["outputs"] = [{"name": name, "type": output.kind, "links": []} for name, output in made.items()]
    node["inputs"] = [
        {"name": name, "type": kind, "link": None} | ({"widget": {"name": name}} if name in widgets else {})
        for name, kind in kinds.items()
    ]
    return node


def definition_of(
    page: Page, title: str, build: Callable[..., dict[str, Output]], kinds: dict[str, str]
) -> tuple[dict[str, Any], dict[str, Output]]:
    """A subgraph's definition, with inputs of these types, and its outputs by name."""
    inner = Page(f"{page.name}/{title}", page.definitions, page.say)
    end: dict[str, Any] = {
        "id": INPUT,
        "outputs": [{"name": n, "type": kind, "links": []} for n, kind in kinds.items()],
    }
    made = build(inner, **{name: Output(end, at) for at, name in enumerate(kinds)})
    last: dict[str, Any] = {"id": OUTPUT, "inputs": []}
    for name, output in made.items():
        last["inputs"].append({"name": name, "type": output.kind, "link": None})
        inner.link(output, last, last["inputs"][-1])
    nodes = {node["id"]: node for node in inner.nodes}
    names = ("id", "origin_id", "origin_slot", "target_id", "target_slot", "type")
    links = [dict(zip(names, link, strict=True)) for link in inner.links]

    def into_widget(slot: dict[str, Any]) -> bool:
        return any(
            "widget" in nodes[link["target_id"]]["inputs"][link["target_slot"]]
            for link in links
            if link["id"] in slot["links"]
        )

    def own(slot: dict[str, Any], numbers: list[int], side: str, row: int) -> dict[str, Any]:
        number = str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{inner.name}/{side}/{slot['name']}"))
        x = -200 if side == "in" else len(nodes) * 400
        return {"id": number, "name": slot["name"], "type": slot["type"], "linkIds": numbers, "pos": [x, 20 * row]}

    definition = {
        "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{inner.name}")),
        "version": 1,
        "state": {"lastGroupId": 0, "lastNodeId": len(nodes), "lastLinkId": len(links), "lastRerouteId": 0},
        "revision": 0,
        "config": {},
        "name": page.say(title),
        "inputNode": {"id": INPUT, "bounding": [-220, 0, 120, 40 + 20 * len(kinds)]},
        "outputNode": {"id": OUTPUT, "bounding": [len(nodes) * 400, 0, 120, 40 + 20 * len(made)]},
        "inputs": [
            own(slot, slot["links"], "in", row) | {"is_widget": into_widget(slot)}
            for row, slot in enumerate(end["outputs"])
        ],
        "outputs": [own(slot, [slot["link"]], "out", row) for row, slot in enumerate(last["inputs"])],
        "widgets": [],
        "nodes": inner.nodes,
        "groups": [],
        "links": links,
        "extra": {},
    }
    return definition, made
