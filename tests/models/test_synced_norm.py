"""Two ranks with a part of the batch each are compared with one process and torch's own batch norm."""

import copy
import os
from pathlib import Path

import pytest
import torch
import torch.distributed as dist
from torch import Tensor, nn

from dinotools.models.convnets import build_convnet
from dinotools.models.head import DINOHead
from dinotools.models.synced_norm import SyncedBatchNorm, synchronize_norms
from tests.golden import official

RANKS = (slice(0, 3), slice(3, 8))  # of unequal size
CASES = ("vectors", "maps", "plain", "cumulative", "head", "timm")


def build(case: str) -> tuple[nn.Module, tuple[int, ...]]:
    """A module and the shape of its input."""
    if case == "timm":
        layers = pytest.importorskip("timm.layers")
        return nn.Sequential(layers.BatchNormAct2d(5, act_layer=nn.SiLU)), (8, 5, 4, 3)
    return {
        "vectors": lambda: (nn.BatchNorm1d(5), (8, 5)),
        "maps": lambda: (nn.Sequential(nn.Conv2d(3, 5, 2), nn.BatchNorm2d(5), nn.ReLU()), (8, 3, 4, 3)),
        "plain": lambda: (nn.BatchNorm2d(5, affine=False, track_running_stats=False), (8, 5, 2, 2)),
        "cumulative": lambda: (nn.BatchNorm1d(5, momentum=None), (8, 5)),
        "head": lambda: (DINOHead(6, 10, use_bn=True, hidden_dim=7, bottleneck_dim=4), (8, 6)),
    }[case]()


def results(case: str, rows: slice, synchronize: bool) -> dict[str, Tensor]:
    """Outputs of two training steps and one in eval mode, gradients of the two, and buffers, for part of a batch."""
    module, shape = build(case)
    module = official.fill(module).double().train()
    if synchronize:
        module = synchronize_norms(module, torch.device("cpu"))
    found: dict[str, Tensor] = {}
    for step in range(2):
        x = (2 + 3 * official.normal(step, shape)).double()[rows].requires_grad_()
        out = module(x)
        (out * official.normal(9, (shape[0], *out.shape[1:])).double()[rows]).sum().backward()
        found |= {f"out{step}": out.detach(), f"grad{step}": x.grad}
    if case != "plain":  # which has no running statistics
        found["eval"] = module.eval()(x).detach()
    found |= {f"parameter {name}": p.grad for name, p in module.named_parameters() if p.grad is not None}
    return found | {f"buffer {name}": buffer for name, buffer in module.named_buffers()}


def a_rank(rank: int, folder: str, cases: tuple[str, ...]) -> None:
    torch.set_num_threads(1)
    os.environ |= {"RANK": str(rank), "WORLD_SIZE": str(len(RANKS))}
    dist.init_process_group("gloo", init_method=f"file://{folder}/meeting", rank=rank, world_size=len(RANKS))
    torch.save({case: results(case, RANKS[rank], synchronize=True) for case in cases}, f"{folder}/{rank}.pth")
    dist.destroy_process_group()


@pytest.fixture(scope="module")
def two_ranks(tmp_path_factory) -> list[dict[str, dict[str, Tensor]]]:
    folder: Path = tmp_path_factory.mktemp("ranks")
    try:
        import timm  # noqa: F401
    except ImportError:
        cases = CASES[:-1]
    else:
        cases = CASES
    torch.multiprocessing.spawn(a_rank, (str(folder), cases), nprocs=len(RANKS))
    return [torch.load(folder / f"{rank}.pth") for rank in range(len(RANKS))]


@pytest.mark.parametrize("case", CASES)
def test_two_ranks_equal_one_process(two_ranks, case):
    whole = results(case, slice(None), synchronize=False)
    parts = [ranks[case] for ranks in two_ranks]
    assert parts[0].keys() == parts[1].keys() == whole.keys()
    assert any(name.startswith("buffer") for name in whole) is (case != "plain")
    for name, expected in whole.items():
        if name.startswith("parameter"):
            seen = parts[0][name] + parts[1][name]
        elif name.startswith("buffer"):
            assert torch.equal(parts[0][name], parts[1][name])
            seen = parts[0][name]
        else:
            seen = torch.cat([part[name] for part in parts])
        torch.testing.assert_close(seen, expected, rtol=1e-6, atol=1e-9)


def test_a_part_alone_would_differ(two_ranks):
    alone = results("vectors", RANKS[0], synchronize=False)
    assert not torch.allclose(two_ranks[0]["vectors"]["out0"], alone["out0"], atol=1e-2)


def test_every_batch_norm_is_replaced_under_its_name_and_shares_its_tensors():
    backbone, _ = build_convnet("resnet18")
    names = list(backbone.state_dict())
    norms = [name for name, module in backbone.named_modules() if isinstance(module, nn.BatchNorm2d)]
    weight = backbone.bn1.weight
    assert synchronize_norms(backbone, torch.device("cpu")) is backbone
    assert [name for name, module in backbone.named_modules() if isinstance(module, SyncedBatchNorm)] == norms
    assert list(backbone.state_dict()) == names
    assert backbone.bn1.weight is weight
    assert not backbone.eval().layer1[0].bn1.training


@torch.no_grad()
def test_alone_and_in_half_precision_it_is_an_ordinary_batch_norm():
    plain = official.fill(nn.BatchNorm2d(4))
    synced = synchronize_norms(copy.deepcopy(plain), torch.device("cpu"))
    x = official.normal(1, (6, 4, 3, 3)).bfloat16()
    out = synced(x)
    assert out.dtype == torch.bfloat16
    torch.testing.assert_close(out, plain(x), rtol=0.02, atol=0.02)
    torch.testing.assert_close(synced.running_var, plain.running_var)


@torch.no_grad()
def test_without_running_statistics_it_goes_by_the_batch():
    plain = nn.BatchNorm1d(4, track_running_stats=False).eval()
    synced = synchronize_norms(copy.deepcopy(plain), torch.device("cpu"))
    x = official.normal(1, (6, 4))
    assert torch.equal(synced(x), plain(x))


def test_on_a_gpu_they_are_torchs_own():
    head = synchronize_norms(DINOHead(6, 10, use_bn=True, hidden_dim=7, bottleneck_dim=4), torch.device("cuda"))
    assert sum(isinstance(module, nn.SyncBatchNorm) for module in head.modules()) == 2


def test_on_a_gpu_timms_norms_keep_their_activation():
    layers = pytest.importorskip("timm.layers")
    norm = synchronize_norms(nn.Sequential(layers.BatchNormAct2d(4, act_layer=nn.SiLU)), torch.device("cuda"))[0]
    assert isinstance(norm, nn.SyncBatchNorm) and isinstance(norm.act, nn.SiLU)


def test_runs_on_fake_cuda(fake_cuda):
    with fake_cuda:
        norm, x = SyncedBatchNorm(nn.BatchNorm2d(4)), torch.empty(2, 4, 3, 3)
    assert (norm(x).device.type, norm(x).shape) == ("cuda", (2, 4, 3, 3))
