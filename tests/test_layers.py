import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mova import layers
from mova.layers import gelu_, timestep_sinusoid


def test_compiled_element_wise_work_is_in_few_pieces_and_gives_the_same(monkeypatch):
    monkeypatch.setattr(layers, "ROWS", 2)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    x = torch.randn(1, 50, 8)
    found = torch.compile(lambda x: gelu_(x.clone()), backend=backend)(x)
    torch.testing.assert_close(found, gelu_(x.clone()))
    (graph,) = graphs
    assert sum("gelu" in str(node.target) for node in graph.graph.nodes) == 4


class NoFloat64(TorchDispatchMode):
    """Refuses float64 anywhere but on the CPU."""

    def __torch_dispatch__(self, function, types, args=(), kwargs=None):
        made = function(*args, **(kwargs or {}))
        if isinstance(made, torch.Tensor) and made.device.type != "cpu":
            assert made.dtype != torch.float64, f"{function} made float64 on {made.device}"
        return made


def test_the_timesteps_need_no_float64_on_a_device_that_may_lack_it():
    with FakeTensorMode(), NoFloat64():  # tensors of any device, without their values
        found = timestep_sinusoid(torch.zeros(3, device="xpu"), 256)
    assert found.shape == (3, 256) and found.dtype == torch.float32 and found.device.type == "xpu"
