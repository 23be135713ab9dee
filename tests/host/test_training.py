"""The model in the host's own training: its checkpointing must not change gradients, which nobody would see."""

import json

import pytest
from inside import run_inside

TRAINED = """
import json
import comfy.ops
from comfy_extras import nodes_train
from pack.nodes.host.model import HostModel
from pack.mova.model import attention
from pack.mova.tools import tiny

if arguments[0] == "long":
    attention.LONG = 1  # sequences are done in blocks
torch.manual_seed(0)
model = HostModel(tiny.CONFIG, torch.float32, "cpu", comfy.ops.manual_cast).eval().requires_grad_(False)
for parameter in model.parameters():
    parameter.data.normal_(0, 0.05)
trained = {name: p for name, p in model.named_parameters() if name.endswith(("q.weight", "ffn.2.weight", "o.weight"))}
for parameter in trained.values():
    parameter.requires_grad_()


def gradients():
    torch.manual_seed(1)
    video, audio = model(
        [torch.randn(1, 16, 2, 4, 4), torch.randn(1, 128, 10)], torch.tensor([500.0]),
        context=torch.ones(1, 7, 4096) * 0.1, control=None, transformer_options={},
        condition=torch.ones(1, 20, 2, 4, 4),
    )
    (video.square().mean() + audio.square().mean()).backward()
    found = {name: parameter.grad for name, parameter in trained.items()}
    for parameter in trained.values():
        parameter.grad = None
    return found


with torch.inference_mode():  # a clip was generated before: what is remembered of it must do no harm
    model([torch.zeros(1, 16, 2, 4, 4), torch.zeros(1, 128, 10)], torch.tensor([500.0]),
          context=torch.ones(1, 7, 4096), control=None, transformer_options={}, condition=torch.ones(1, 20, 2, 4, 4))
with torch.inference_mode(False), torch.enable_grad():
    wanted, told = gradients(), {}
    for depth in (1, 2, 3, 4):
        modules = nodes_train.find_modules_at_depth(model, depth=depth)
        for module in modules:
            nodes_train.patch(module)
        found = gradients()
        for module in modules:
            nodes_train.unpatch(module)
        errors = [float((found[n] - wanted[n]).abs().max() / wanted[n].abs().max()) for n in wanted]
        told[depth] = [len(modules), max(errors)]
print(json.dumps(told))
"""


@pytest.mark.parametrize("length", ["short", "long"])
def test_the_host_s_checkpointing_gives_the_gradients_that_there_are_without_it(host_place, length):
    found = json.loads(run_inside(host_place, TRAINED, length).splitlines()[-1])
    assert found.keys() == {"1", "2", "3", "4"}
    for modules, error in found.values():
        assert modules > 0 and error < 1e-5
