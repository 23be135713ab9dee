"""A server that is killed while it trains loses the steps since the last save, and no more."""

import contextlib
import os
import signal
from pathlib import Path

from client import Server, ran
from graphs import Graph
from safetensors.torch import load_file
from slow import slow
from training_graphs import by_command, trained, write_files

from mova.train.output import read_state
from mova.train.run import state_path

STEPS = 12


@slow("a ComfyUI that is started twice")
def test_a_killed_server_goes_on_bit_for_bit(host_place, place, tmp_path):
    server = Server(*host_place, tmp_path / "comfyui")
    server.add_pack("comfyui-mova", Path(__file__).parents[2])
    write_files(server, place)
    graph = Graph()
    node = trained(graph, "killed", steps=STEPS, save_every=2)
    out = server.base / "output/loras/killed.safetensors"

    def kill(kind, data):
        if kind == "progress" and data["node"] == node and data["value"] == 7:
            os.killpg(server.process.pid, signal.SIGKILL)

    try:
        server.start()
        with contextlib.suppress(OSError, ValueError):  # the connection ends
            server.run(graph.nodes, kill)
        server.process.wait(10)
        assert 4 <= read_state(state_path(out)).step < STEPS
        server.start()
        assert min(value for one, value, _ in ran(server, graph).progress if one == node) >= 4
        wanted = load_file(by_command(place / "cache", tmp_path / "wanted.safetensors", "--steps", str(STEPS)))
        found = load_file(out)
        assert found.keys() == wanted.keys() and all(found[name].equal(wanted[name]) for name in wanted)
        graph.nodes[node]["inputs"]["save_every"] = 3  # after another start it is still known to be finished
        server.stop()
        server.start()
        assert "trained already" in ran(server, graph).outputs[node]["mova_notice"][0]
    finally:
        server.stop()
