"""Files of PyTorch's (.pt) whose tensors are not what they seem: PyTorch's reader lets them pass."""

import pytest
import torch

from mova import MovaError
from mova.checkpoint.pickled import Pickle, infos
from mova.lora.reading import read_lora

LAYER = "video_dit.blocks.0.self_attn.q.lora_{}.weight"
ODD = {
    "without values": torch.empty(2, 8, device="meta"),
    "one value, shown often": torch.zeros(1, 1).expand(2, 8),
    "larger than any memory": torch.zeros(1, 1).expand(2**20, 2**30),
    "with signs to turn": torch._neg_view(torch.ones(2, 8)),
    "sparse": torch.eye(4).to_sparse(),
    "several in one": torch.nested.nested_tensor([torch.zeros(2), torch.zeros(3)], layout=torch.jagged),
    "several in one, strided": torch._nested_tensor_from_tensor_list([torch.zeros(2), torch.zeros(3)]),
}


@pytest.mark.parametrize("odd", ODD)
def test_a_tensor_whose_values_are_not_all_in_the_file_is_refused_by_name(tmp_path, odd):
    path, name = tmp_path / "model.pt", LAYER.format("A")
    torch.save({name: ODD[odd], LAYER.format("B"): torch.zeros(8, 2)}, path)
    for read in (infos, read_lora):
        with pytest.raises(MovaError, match=r"rows and columns in '.*lora_A.*, or not all of them; save") as told:
            read(path)
        assert "lora_B" not in str(told.value)


def test_a_tensor_that_lies_across_its_file_is_read_in_rows(tmp_path):
    path, values = tmp_path / "model.pt", torch.arange(12.0).view(3, 4)
    torch.save({"across": values.T, "part": values[:, 1:3]}, path)
    assert {name: info.shape for name, info in infos(path).items()} == {"across": (4, 3), "part": (3, 2)}
    with Pickle(path) as file:
        for name, wanted in (("across", values.T), ("part", values[:, 1:3])):
            found = file.get_tensor(name)
            assert torch.equal(found, wanted) and found.is_contiguous()
