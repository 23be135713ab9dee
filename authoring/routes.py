"""Links that pass behind no node: where ComfyUI's curve from output to input would, it gets reroutes to go around it.

A link leaves its output to the right and comes to its input from the left. The curves here are those that the page
draws, in both of its renderers, so that a way is known to be free before anybody sees it;
tests/host/test_browser_layout.py asks the page.
"""

from collections.abc import Iterable, Iterator
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

TITLE, TOP = 30, 36  # pixels: of a node, above its position; of the groups, whose titles are to be seen
# Of each renderer: where the first socket is, how far it is to the next, from the last to the first widget, to the next
# widget, and how far inside the node a socket is.
SOCKETS = {"canvas": (14, 20, 16, 24, 10), "nodes 2.0": (12, 20, 18, 28, 0)}
MARGIN = 5  # between a link and a node
LANE, EDGE = 8, 9  # between two ways in a gutter, and from its edge to the first
PULL, MOST_PULL = 0.25, 20.0  # of a length, how far its control points are; at most that at a reroute (a setting)
SAMPLES = 24  # points at which a curve is looked at
TURNS = (40, 80, 140)  # how far from a socket a link may turn
SHARED = 30.0  # what a point on another link costs, in pixels of length
CELL, CELLS = 6, 1000  # links that are closer look like one
# Where the reroutes are: where a link leaves the gutter behind its output, where it comes into the one before its
# input, and near both sockets.
PARTS = {
    2: (("out", "in"), ("before", "out"), ("in", "after")),
    3: (("out", "in", "after"), ("before", "out", "in")),
    4: (("before", "out", "in", "after"),),
}
Point = tuple[float, float]
Points = NDArray[np.float64]  # [..., points, 2]


class Box(NamedTuple):
    left: float
    top: float
    right: float
    bottom: float


def box_of(node: dict[str, Any]) -> Box:
    (x, y), (width, height) = node["pos"], node["size"]
    return Box(x, y - TITLE, x + width, y + height)


def socket_of(node: dict[str, Any], side: str, at: int, renderer: str) -> Point:
    """Where a socket is drawn, as measured on the page; a widget's is in the widget's row."""
    (x, y), slots = node["pos"], node[side]
    first, every, below, high, inside = SOCKETS[renderer]
    if side == "outputs":
        return x + node["size"][0] - inside, y + first + at * every
    name, widgets = slots[at]["name"], [slot["name"] for slot in slots if "widget" in slot]
    rows = [slot["name"] for slot in slots if "widget" not in slot]
    if name in widgets:
        most = max(len(rows), len(node["outputs"]))
        return x + inside, y + most * every + below + widgets.index(name) * high
    if {"model_high", "model_low"} <= set(rows):  # the page has both experts side by side (web/page.js)
        rows.insert(rows.index("model_high") + 1, rows.pop(rows.index("model_low")))
    return x + inside, y + first + rows.index(name) * every


def curves(points: Points) -> Points:
    """The page's curves from the first of [ways, points, 2] over reroutes to the last: [ways, samples, 2]."""
    steps = np.diff(points, axis=1)
    length = np.hypot(steps[..., 0], steps[..., 1])
    angle = np.arctan2(steps[..., 1], steps[..., 0])
    turn = (angle[:, :-1] - angle[:, 1:]) / 2  # at a reroute the curve has the mean of both directions
    mean = angle[:, :-1] - np.where(np.abs(turn) > np.pi / 2, turn + np.pi, turn)
    directions = np.zeros(points.shape)
    directions[:, (0, -1), 0] = 1
    directions[:, 1:-1] = np.stack([np.cos(mean), np.sin(mean)], -1)
    at = np.linspace(0, 1, SAMPLES)[:, None]
    weights = (1 - at) ** 3, 3 * (1 - at) ** 2 * at, 3 * (1 - at) * at**2, at**3
    last, found = steps.shape[1] - 1, []
    for k in range(last + 1):
        pull = PULL * length[:, k, None]
        ahead, back = (pull if is_socket else np.minimum(pull, MOST_PULL) for is_socket in (k == 0, k == last))
        begin, end = points[:, k], points[:, k + 1]
        bezier = begin, begin + ahead * directions[:, k], end - back * directions[:, k + 1], end
        found.append(np.sum([w * p[:, None] for w, p in zip(weights, bezier, strict=True)], axis=0))
    return np.concatenate(found, axis=1)


def clear_of(boxes: list[Box], drawn: Points) -> NDArray[np.bool_]:
    """Which of these curves stay out of all boxes."""
    x, y = drawn[..., 0], drawn[..., 1]
    clear = np.ones(len(drawn), dtype=bool)
    for box in boxes:
        across = (x > box.left - MARGIN) & (x < box.right + MARGIN)
        clear &= ~(across & (y > box.top - MARGIN) & (y < box.bottom + MARGIN)).any(axis=1)
    return clear


def gutters(boxes: Iterable[Box]) -> list[list[float]]:
    """Of each gap between two columns of nodes, the places where links may run up and down."""
    boxes = sorted(boxes)
    found, right = [], boxes[0].right
    for box in boxes:
        if box.left - right >= 2 * EDGE:
            first, last = right + EDGE, box.left - EDGE
            found.append([float(round(x)) for x in np.linspace(first, last, 1 + round((last - first) / LANE))])
        right = max(right, box.right)
    return found


def ways(dots: int, start: Point, end: Point, boxes: list[Box], others: list[Box]) -> Iterator[Points]:
    """Places for so many reroutes, [ways, dots, 2]: in the gutters behind the first node and before the last."""
    between = gutters(boxes)
    first = next((lanes for lanes in between if lanes[-1] > start[0]), None)
    last = next((lanes for lanes in reversed(between) if lanes[0] < end[0]), None)
    if not first or not last:
        return
    edges = {y for box in boxes for k in range(1, 6) for y in (box.top - 10 * k, box.bottom + 10 * k)}
    turns = {y + turn for y in (start[1], end[1]) for high in (0, *TURNS) for turn in (high, -high)}
    heights = sorted({10.0 * round(y / 10) for y in edges | turns if y > TOP})
    if dots == 1:
        yield np.stack(grid(sorted({*first, *last}), heights), -1)[:, None]
        return
    left, right = sorted((first[0], last[0]))
    passed = [box for box in others if box.left < right and box.right > left]
    heights = [y for y in heights if not any(box.top - MARGIN < y < box.bottom + MARGIN for box in passed)]
    for parts in PARTS[dots]:
        turning = [TURNS if part in parts else (0,) for part in ("before", "after")]
        y, one, other, before, after = grid(heights, first, last, *turning)
        places = {
            "before": (one, start[1] + np.sign(y - start[1]) * before),
            "out": (one, y),
            "in": (other, y),
            "after": (other, end[1] + np.sign(y - end[1]) * after),
        }
        yield np.stack([np.stack(places[part], -1) for part in parts], axis=1)


def grid(*axes: Iterable[float]) -> list[NDArray[np.float64]]:
    """All combinations, a column for each axis."""
    return [axis.ravel() for axis in np.meshgrid(*map(np.array, axes), indexing="ij")]


class Sheet:
    """Which outputs' links run where."""

    def __init__(self) -> None:
        self.cells = np.zeros((CELLS, CELLS), dtype=np.int64)

    def at(self, drawn: Points) -> tuple[NDArray[np.int64], ...]:
        return tuple(np.moveaxis(drawn // CELL + CELLS // 4, -1, 0).astype(np.int64).clip(0, CELLS - 1))

    def draw(self, curve: Points, output: int) -> None:
        between = np.linspace(0, 1, 12)[:, None]
        self.cells[self.at(curve[:-1, None] + np.diff(curve, axis=0)[:, None] * between)] = output

    def shared(self, drawn: Points, output: int) -> NDArray[np.int64]:
        """How many of each curve's points lie on links that come from elsewhere."""
        found = self.cells[self.at(drawn)]
        return ((found > 0) & (found != output)).sum(axis=1)


def way(output: int, ends: list[tuple[Point, Point]], boxes: list[Box], others: list[Box], sheet: Sheet) -> Points:
    """The best places for as few reroutes as will do, [reroutes, 2]. Raises ValueError where none will."""
    direct = np.zeros((1, 0, 2))
    for dots in range(5):
        found = []
        for places in ways(dots, *ends[0], boxes, others) if dots else [direct]:
            for start, end in ends:
                drawn = curves(with_ends(places, start, end))
                clear = clear_of(others, drawn)
                places, drawn = places[clear], drawn[clear]
            if len(places):
                length = np.hypot(*np.moveaxis(np.diff(drawn, axis=1), -1, 0)).sum(axis=1)
                cost = length + SHARED * sheet.shared(drawn, output)
                found.append((cost.min(), places[cost.argmin()]))
        if found:
            return min(found, key=lambda one: one[0])[1]
    raise ValueError("there is no way past the other nodes")


def with_ends(places: Points, start: Point, end: Point) -> Points:
    first, last = (np.broadcast_to(np.array(point), (len(places), 1, 2)) for point in (start, end))
    return np.concatenate([first, places, last], axis=1)


def reroutes(nodes: list[dict[str, Any]], links: list[list[Any]]) -> dict[str, Any]:
    """What a file's `extra` says of reroutes; nothing where no link needs one. Raises ValueError where none will do."""
    by_id = {node["id"]: node for node in nodes}
    boxes = {id_: box_of(node) for id_, node in by_id.items()}
    sheet, made, ends_at = Sheet(), [], []
    for number, origin, slot, target, at, _ in links:
        others = [box for id_, box in boxes.items() if id_ not in (origin, target)]
        ends = [
            (socket_of(by_id[origin], "outputs", slot, renderer), socket_of(by_id[target], "inputs", at, renderer))
            for renderer in SOCKETS
        ]
        try:
            places = way(100 * origin + slot, ends, list(boxes.values()), others, sheet)
        except ValueError as error:
            names = [by_id[id_].get("title") or by_id[id_]["type"] for id_ in (origin, target)]
            raise ValueError(f"From {names[0]} to {names[1]}: {error}") from None
        sheet.draw(curves(with_ends(places[None], *ends[0]))[0], 100 * origin + slot)
        parent: dict[str, Any] = {}
        for x, y in places.tolist():
            made.append({"id": len(made) + 1, **parent, "pos": [x, y], "linkIds": [number]})
            parent = {"parentId": len(made)}
        if parent:
            ends_at.append({"id": number, **parent})
    return {"reroutes": made, "linkExtensions": ends_at} if made else {}
