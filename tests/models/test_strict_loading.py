import pytest
import torch

from dinotools.models.strict_loading import load_strictly
from dinotools.runtime.errors import DinotoolsError


def test_a_bad_load_leaves_the_module_alone():
    module = torch.nn.Linear(2, 2)
    before = {name: tensor.clone() for name, tensor in module.state_dict().items()}
    with pytest.raises(DinotoolsError, match="here: its weights do not fit a layer: missing bias"):
        load_strictly(module, {"weight": torch.ones(2, 2)}, "a layer", "here")
    assert all(torch.equal(tensor, before[name]) for name, tensor in module.state_dict().items())
