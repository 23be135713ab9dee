"""A page of ComfyUI's canvas being written: columns of groups, in each group the nodes from top to bottom.

Heights are those of ComfyUI's "Nodes 2.0", whose widgets and notes are higher than the canvas's own. As ComfyUI opens
a page it fits it into three quarters of the window, and below a scale of 0.57 it draws no text: to be read at once in
a window of 1920 x 1080, a page is at most 2520 wide and 1430 high.
"""

import math
import re
import uuid
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .to_api import Input, inputs_of

GAP, PADDING, TITLE, GROUP_TITLE = 40, 20, 30, 50  # pixels; a node's title stands above its position
SLOT, WIDGET, TEXT = 24, 28, 110  # heights of a socket, a widget, a multiline text
EDGE, BADGE = 28, 32  # heights of what is around them, and of the name of a pack below them
LINE, LETTER, NOTE = 20, 7, 88  # of a note: height of a line, width of a letter, least height
# What a node shows below its widgets: pictures, players, previews of samplers, notices.
PREVIEW = {"LoadImage": 220, "LoadVideo": 270, "LoadAudio": 60, "SaveVideo": 280, "PreviewAny": 160}
PREVIEW |= {
    "MOVAJointSampler": 120,
    "SamplerCustomAdvanced": 160,
    "MOVAConditioning": 20,
    "MOVALoraLoader": 20,
    "MOVAFitVideo": 40,
}
COLOURS = ["#3f789e", "#88714a", "#5a7a4e", "#8a4f6b", "#6a5a8c", "#4f7f80"]
CORE_VERSION = "0.20.1"  # the oldest that has all of these nodes
PROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
PACK, PACK_VERSION = (re.search(rf'^{key} = "([^"]+)"', PROJECT, re.MULTILINE)[1] for key in ("name", "version"))


class Output(NamedTuple):
    """An output of a node on the page, to be given to inputs of others."""

    node: dict[str, Any]
    slot: int


@dataclass
class Page:
    """A workflow in canvas form. `definitions` is what a ComfyUI answers at /object_info."""

    name: str
    definitions: dict[str, Any]
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    width: int = 0  # of the nodes in the group that is being filled

    def group(self, title: str, width: int = 380, below: bool = False) -> None:
        """Begin the next group, to the right of the last or below it; what is added goes into it.

        Below, it has the width of the last.
        """
        x, y, taken, used = self.groups[-1]["bounding"] if self.groups else (-GAP, 0, 0, 0)
        colour = COLOURS[len(self.groups) % len(COLOURS)]
        if below:
            width, bounding = self.width, [x, y + used + GAP, taken, GROUP_TITLE]
        else:
            bounding = [x + taken + GAP, 0, width + 2 * PADDING, GROUP_TITLE]
        number = len(self.groups) + 1
        self.groups.append(
            {"id": number, "title": title, "bounding": bounding, "color": colour, "font_size": 24, "flags": {}}
        )
        self.width = width

    def note(self, title: str, text: str) -> None:
        """A note in Markdown, as high as its text needs."""
        lines = sum(self.lines(shown(line)) for line in text.split("\n"))
        node = self.place("MarkdownNote", title, max(NOTE, 60 + lines * LINE), {})
        node.update(widgets_values=[text], color="#432", bgcolor="#653")

    def lines(self, line: str) -> int:
        """How many lines a line of Markdown takes: items of lists are indented, headings higher."""
        item = line.startswith("- ") or line[:1].isdigit()
        letters = self.width / LETTER - 6 * item
        code = sum(map(len, line.split("`")[1::2]))  # of wider letters, and in long words, which break lines early
        return max(1, math.ceil((len(line) + code // 2) / letters)) + line.startswith("#")

    def add(
        self, kind: str, title: str | None = None, download: dict[str, str] | None = None, **values: Any
    ) -> list[Output]:
        """A node, with links from outputs and values for widgets; `download` is where to get the file it loads.

        Raises ValueError if there is no such input, or if one without a default is left out.
        """
        definition = self.definitions[kind]
        inputs = sorted(inputs_of(definition), key=lambda i: i.is_widget)  # on the canvas the sockets come first
        unknown = set(values) - {i.name for i in inputs}
        needed = {i.name for i in inputs if ("default" not in i.options if i.is_widget else not i.optional)}
        lacking = needed - set(values)
        if unknown or lacking:
            raise ValueError(f"{self.name}: {kind} has no input {unknown or '-'}, and lacks {lacking or '-'}")
        rows = max(sum(not i.is_widget for i in inputs), len(definition["output"]))
        mine = kind.startswith("MOVA")
        if not mine:
            rows += rows % 2  # so that one output more, in another version of ComfyUI, moves nothing
        height = (
            EDGE
            + BADGE * mine
            + rows * SLOT
            + sum(TEXT if i.options.get("multiline") else WIDGET for i in inputs if i.is_widget)
        )
        height += PREVIEW.get(kind, 0) + WIDGET * any(i.values > 1 for i in inputs)
        node = self.place(kind, title, height, {"models": [download]} if download else {})
        node["outputs"] = [
            {"name": name, "type": kind, "links": []}
            for kind, name in zip(definition["output"], definition["output_name"], strict=True)
        ]
        for i in inputs:
            slot: dict[str, Any] = {"name": i.name, "type": i.type, "link": None}
            if i.is_widget:
                slot["widget"] = {"name": i.name}
            if i.optional:
                slot["shape"] = 7  # a hollow circle
            node["inputs"].append(slot)
            if isinstance(values.get(i.name), Output):
                self.link(values.pop(i.name), node, slot)
            if i.is_widget:
                node["widgets_values"] += widget_entries(i, values)
        return [Output(node, slot) for slot in range(len(node["outputs"]))]

    def place(self, kind: str, title: str | None, height: int, extra: dict[str, Any]) -> dict[str, Any]:
        """A node without its slots, below the last one of the group."""
        x, y, _, used = self.groups[-1]["bounding"]
        properties: dict[str, Any] = {}
        if kind in self.definitions:
            mine = kind.startswith("MOVA")
            cnr = {"cnr_id": PACK, "ver": PACK_VERSION} if mine else {"cnr_id": "comfy-core", "ver": CORE_VERSION}
            properties = {**cnr, "Node name for S&R": kind, **extra}
        node: dict[str, Any] = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": [x + PADDING, y + used + TITLE],
            "size": [self.width, height],
            "flags": {},
            "order": len(self.nodes),  # outputs are given to nodes that come after them
            "mode": 0,
            "inputs": [],
            "outputs": [],
            "properties": properties,
            "widgets_values": [],
        }
        if title:
            node["title"] = title
        self.groups[-1]["bounding"][3] += TITLE + height + PADDING
        self.nodes.append(node)
        return node

    def link(self, output: Output, node: dict[str, Any], slot: dict[str, Any]) -> None:
        number, origin = len(self.links) + 1, output.node["outputs"][output.slot]
        origin["links"].append(number)
        slot["link"] = number
        at = len(node["inputs"]) - 1
        self.links.append([number, output.node["id"], output.slot, node["id"], at, origin["type"]])

    def to_json(self) -> dict[str, Any]:
        """The file that ComfyUI opens."""
        return {
            "id": str(uuid.uuid5(uuid.NAMESPACE_URL, f"{PACK}/{self.name}")),
            "revision": 0,
            "last_node_id": len(self.nodes),
            "last_link_id": len(self.links),
            "nodes": self.nodes,
            "links": self.links,
            "groups": self.groups,
            "config": {},
            "extra": {"ds": {"scale": 0.55, "offset": [60, 120]}},
            "version": 0.4,
        }


def widget_entries(i: Input, values: dict[str, Any]) -> list[Any]:
    """A widget's value in the file, and those of what the canvas puts beside it."""
    value = values.get(i.name, i.options.get("default", {"INT": 0, "FLOAT": 0.0}.get(i.type)))  # the last: if linked
    if i.options.get("audio_upload"):
        return [value, None, None]
    if i.options.get("image_upload") or i.options.get("video_upload"):
        return [value, "image"]
    if i.values == 2:
        return [value, "fixed" if i.options.get("control_after_generate") == "fixed" else "randomize"]
    return [value]


def shown(line: str) -> str:
    """What a line of Markdown looks like: of a link, its text."""
    parts = line.split("](")
    return parts[0] + "".join(part.partition(")")[2] for part in parts[1:])
