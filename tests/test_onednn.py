import pytest
import torch
from golden import CASES, KINDS, error, expected, joint_inputs, joint_model

from mova.model import onednn
from mova.model.attention import onednn_attention
from mova.model.kernels import Kernels

pytestmark = pytest.mark.skipif(not onednn.available(), reason="this build of torch has no oneDNN")


@pytest.mark.parametrize("kind", KINDS)
def test_the_faster_layers_of_the_cpu_equal_the_published_code_too(kind):
    model = joint_model(kind, layers=(onednn.Operations, Kernels(onednn_attention)))
    inputs, wanted = joint_inputs(kind), expected(f"joint_{kind}")
    time = torch.tensor([CASES[f"joint_{kind}"]["cases"][0]["video_timestep"]])
    video, audio = model(inputs["video"], inputs["audio"], time, time, inputs["text"])
    assert error(video, wanted["case0.video_velocity"]) < 1e-5
    assert error(audio, wanted["case0.audio_velocity"]) < 1e-5
