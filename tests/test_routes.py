"""authoring/routes.py: which links get reroutes. What the page makes of them: tests/host/test_browser_layout.py."""

import numpy as np
import pytest

from authoring.routes import box_of, clear_of, curves, reroutes, socket_of

WIDTH, GAP = 200, 50


def node(id_, column, top, height):
    x = column * (WIDTH + GAP)
    return {
        "id": id_,
        "type": f"Node {id_}",
        "pos": [x, top + 30],
        "size": [WIDTH, height],
        "inputs": [{"name": "a"}, {"name": "b"}],
        "outputs": [{"name": "c"}],
    }


def points(nodes, link, extra, renderer):
    """From output over its reroutes to input."""
    by_id = {one["id"]: one for one in nodes}
    number, origin, slot, target, at, _ = link
    between = [tuple(one["pos"]) for one in extra.get("reroutes", []) if one["linkIds"] == [number]]
    ends = socket_of(by_id[origin], "outputs", slot, renderer), socket_of(by_id[target], "inputs", at, renderer)
    return np.array([[ends[0], *between, ends[1]]])


def test_a_link_that_has_a_free_way_gets_no_reroute():
    nodes = [node(1, 0, 40, 200), node(2, 1, 40, 200)]
    assert reroutes(nodes, [[1, 1, 0, 2, 1, "X"]]) == {}


@pytest.mark.parametrize("renderer", ["canvas", "nodes 2.0"])
def test_links_go_around_what_is_between_their_ends_in_chains_that_the_page_reads(renderer):
    nodes = [node(1, 0, 40, 200), node(2, 1, 40, 500), node(3, 2, 40, 200)]
    links = [[1, 1, 0, 3, 0, "X"], [2, 1, 0, 3, 1, "X"]]
    extra = reroutes(nodes, links)
    for link in links:
        straight = curves(points(nodes, link, {}, renderer))
        assert not clear_of([box_of(nodes[1])], straight)[0]
        assert clear_of([box_of(nodes[1])], curves(points(nodes, link, extra, renderer)))[0]
    by_id = {one["id"]: one for one in extra["reroutes"]}
    for end in extra["linkExtensions"]:
        chain = [by_id[end["parentId"]]]
        while "parentId" in chain[-1]:
            chain.append(by_id[chain[-1]["parentId"]])
        mine = [one for one in extra["reroutes"] if one["linkIds"] == [end["id"]]]
        assert chain[::-1] == mine and len(mine) >= 2


def test_a_link_without_any_way_is_told_with_both_its_ends():
    nodes = [node(id_, column, 40, 600) for column, id_ in enumerate((1, 2, 3))]
    for column, one in enumerate(nodes):
        one["pos"][0] = column * (WIDTH + 8)
    with pytest.raises(ValueError, match=r"From Node 1 to Node 3: there is no way past the other nodes"):
        reroutes(nodes, [[1, 1, 0, 3, 0, "X"]])
