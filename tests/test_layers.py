import torch
from torch._subclasses.fake_tensor import FakeTensorMode
from torch.utils._python_dispatch import TorchDispatchMode

from mova.model import elementwise
from mova.model.elementwise import norm_and_rotate_
from mova.model.layers import timestep_sinusoid


def test_compiled_element_wise_work_is_in_few_pieces_and_gives_the_same(monkeypatch):
    monkeypatch.setattr(elementwise, "NUMBERS", 16)
    graphs = []

    def backend(graph, _):
        graphs.append(graph)
        return graph

    x, norm = torch.randn(1, 50, 8), torch.nn.RMSNorm(8)
    with torch.no_grad():
        found = torch.compile(lambda x: norm_and_rotate_(x.clone(), norm, 1, None), backend=backend)(x)
        torch.testing.assert_close(found, norm(x))
    (graph,) = graphs
    assert sum("rms_norm" in str(node.target) for node in graph.graph.nodes) == 4


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
