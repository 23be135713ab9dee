"""A page of ComfyUI's canvas being written: columns of groups, in each group the nodes from top to bottom.

Heights are those of ComfyUI's "Nodes 2.0", whose widgets and notes are higher than the canvas's own. As ComfyUI opens
a template it fits all nodes into three quarters of the window, and below a scale of 0.57 it draws no text: to be read
at once in a window of 1366 x 768, the nodes take at most 1770 in width and 985 in height.
"""

import math
import re
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

from .routes import reroutes
from .to_api import Input, inputs_of

GAP, PADDING, SPACE, TITLE, GROUP_TITLE = 30, 10, 8, 30, 36  # pixels; a node's title stands above its position
SLOT, WIDGET, TEXT = 20, 24, 78  # heights of a socket, a widget, a multiline text
EDGE, FOOT = 26, 24  # heights of what is around them; of a line with the name of the pack, or a button
LINE, ROW, PARAGRAPH, LETTER = 18, 26, 10, 6.6  # of a note: heights of a line, a row, a gap; width of a letter
NOTE_COLOUR, NOTE_BACK = "#2f3a45", "#1f272f"
# What a node shows below its widgets: pictures, players, previews of samplers, notices of two lines.
PREVIEW = {"LoadImage": 212, "LoadVideo": 214, "LoadAudio": 60, "SaveVideo": 280}
PREVIEW |= {"MOVAJointSampler": 280, "SamplerCustomAdvanced": 236, "MOVAConditioning": 96}
PREVIEW |= {"MOVASize": 64, "MOVAGetModels": 100, "MOVALoraLoader": 68, "MOVAFitVideo": 72}
PREVIEW |= {"MOVAEnhancePrompt": 64}  # the prompt, which scrolls
PREVIEW |= {"MOVATrainingClip": 150, "MOVATrainLoRA": 160, "LoraModelLoader": 28}
MORE_OUTPUTS = {"SaveVideo": 1, "LoadImage": 2}  # rows that other versions of ComfyUI have
COLOURS = ["#3f789e", "#88714a", "#5a7a4e", "#8a4f6b", "#6a5a8c", "#4f7f80"]
CORE_VERSION = "0.20.1"  # the oldest that has all of these nodes
PROJECT = (Path(__file__).parents[1] / "pyproject.toml").read_text(encoding="utf-8")
PACK, PACK_VERSION = (re.search(rf'^{key} = "([^"]+)"', PROJECT, re.MULTILINE)[1] for key in ("name", "version"))


class Output(NamedTuple):
    """An output of a node on the page, to be given to inputs of others."""

    node: dict[str, Any]
    slot: int

    @property
    def kind(self) -> str:
        return self.node["outputs"][self.slot]["type"]


@dataclass
class Page:
    """A workflow in canvas form. `definitions` is what a ComfyUI answers at /object_info; `say` puts English texts
    into the page's language."""

    name: str
    definitions: dict[str, Any]
    say: Callable[[str], str] = str
    nodes: list[dict[str, Any]] = field(default_factory=list)
    links: list[list[Any]] = field(default_factory=list)
    groups: list[dict[str, Any]] = field(default_factory=list)
    subgraphs: list[dict[str, Any]] = field(default_factory=list)
    gap: int = GAP
    left: int = 0  # edge, width of the nodes, and height that is taken, in the column that is being filled
    width: int = 340
    used: int = 0

    def group(self, title: str, width: int = 340, below: bool = False) -> None:
        """Begin the next group, to the right of the last or below it; what is added goes into it.

        Below, it has the width of the last.
        """
        x, y, taken, high = self.groups[-1]["bounding"] if self.groups else (-self.gap, 0, 0, 0)
        if below:
            width, bounding = self.width, [x, y + high + GAP, taken, GROUP_TITLE]
        else:
            bounding = [x + taken + self.gap, 0, width + 2 * PADDING, GROUP_TITLE]
        number = len(self.groups) + 1
        colour = COLOURS[len(self.groups) % len(COLOURS)]
        self.groups.append(
            {"id": number, "title": self.say(title), "bounding": bounding, "color": colour, "font_size": 24}
            | {"flags": {}}
        )
        self.left, self.width, self.used = bounding[0] + PADDING, width, GROUP_TITLE

    def beside(self, width: int) -> None:
        """Go on in another column of the same group."""
        group = self.groups[-1]["bounding"]
        self.left, self.width, self.used = self.left + self.width + self.gap + 2 * PADDING, width, GROUP_TITLE
        group[2] += width + self.gap + 2 * PADDING

    def space(self, height: int) -> None:
        """Leave room between the last node and the next, for links that pass."""
        self.used += height

    def note(self, title: str, text: str) -> None:
        """A note in Markdown, in the page's language already; as high as its text needs."""
        node = self.place("MarkdownNote", title, 48 + sum(map(self.height_of, text.split("\n"))), {})
        node.update(widgets_values=[text], color=NOTE_COLOUR, bgcolor=NOTE_BACK)

    def height_of(self, line: str) -> int:
        """How high a line of Markdown is: items of lists are indented, rows of tables have rules."""
        if line.startswith("|"):
            return 0 if line.startswith("| ---") else ROW
        item = line.startswith("- ") or line[:1].isdigit()
        letters = sum(1 + (ord(letter) > 0x2E80) for letter in shown(line))  # Chinese ones are twice as wide
        lines = max(1, math.ceil(letters / (self.width / LETTER - 6 * item)))
        return lines * LINE if line else PARAGRAPH

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
        node = self.place(
            kind, title, height_of_node(kind, definition, inputs), {"models": [download]} if download else {}
        )
        node["outputs"] = [
            {"name": name, "type": made, "links": []}
            for made, name in zip(definition["output"], definition["output_name"], strict=True)
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
        """A node without its slots, below the last one of the group; where there are no groups, beside the last."""
        if self.groups:
            group = self.groups[-1]["bounding"]
            place = [self.left, group[1] + self.used + TITLE]
            self.used += TITLE + height + SPACE
            group[3] = max(group[3], self.used + PADDING)
        else:
            place = [len(self.nodes) * (self.width + 60), TITLE]
        properties: dict[str, Any] = {}
        if kind in self.definitions:
            mine = kind.startswith("MOVA")
            cnr = {"cnr_id": PACK, "ver": PACK_VERSION} if mine else {"cnr_id": "comfy-core", "ver": CORE_VERSION}
            properties = {**cnr, "Node name for S&R": kind, **extra}
        node: dict[str, Any] = {
            "id": len(self.nodes) + 1,
            "type": kind,
            "pos": place,
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
            node["title"] = self.say(title)
        self.nodes.append(node)
        return node

    def link(self, output: Output, node: dict[str, Any], slot: dict[str, Any]) -> None:
        """From an output to one of the node's slots."""
        number, origin = len(self.links) + 1, output.node["outputs"][output.slot]
        origin["links"].append(number)
        slot["link"] = number
        at = next(at for at, one in enumerate(node["inputs"]) if one is slot)
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
            **({"definitions": {"subgraphs": self.subgraphs}} if self.subgraphs else {}),
            "config": {},
            "extra": {"ds": {"scale": 0.57, "offset": [60, 120]}, **reroutes(self.nodes, self.links)},
            "version": 0.4,
        }


def height_of_node(kind: str, definition: dict[str, Any], inputs: Sequence[Input]) -> int:
    """With what it shows below its widgets. Nodes 2.0 folds away what is advanced, and has a line at the lower edge."""
    widgets = [(TEXT if i.options.get("multiline") else WIDGET, i) for i in inputs if i.is_widget]
    rows = max(sum(not i.is_widget for i in inputs), len(definition["output"]), MORE_OUTPUTS.get(kind, 0))
    every = sum(high for high, _ in widgets)
    plain = sum(high for high, i in widgets if not i.options.get("advanced"))
    foot = FOOT * (kind.startswith("MOVA") or plain < every)
    more = WIDGET * any(i.values > 1 for i in inputs)  # a button, or a seed's control
    return EDGE + rows * SLOT + more + max(every, plain + foot) + PREVIEW.get(kind, 0)


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
