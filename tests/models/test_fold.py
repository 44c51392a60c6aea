import pytest
import timm
import torch
from torch import nn

from pipeline.models.fold import fold_batch_norms


def model(name: str) -> nn.Module:
    """A pyramid whose batch norms do something."""
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        made = timm.create_model(name, pretrained=False, features_only=True, out_indices=(1, 2)).eval()
        for module in made.modules():
            if isinstance(module, nn.BatchNorm2d):
                assert module.running_mean is not None
                assert module.running_var is not None
                module.running_mean.normal_(0.0, 0.1)
                module.running_var.uniform_(0.5, 2.0)
                nn.init.uniform_(module.weight, 0.5, 1.5)
                nn.init.normal_(module.bias, 0.0, 0.1)
    return made.requires_grad_(False)


def norms(module: nn.Module) -> int:
    return sum(isinstance(part, nn.BatchNorm2d) for part in module.modules())


@pytest.mark.parametrize("name", ["mobilenetv2_050", "mobilenetv3_small_050", "resnet18", "test_efficientnet"])
def test_a_folded_encoder_gives_the_same_features_without_batch_norms(name):
    folded = model(name)
    images = torch.randn(2, 3, 64, 64, generator=torch.Generator().manual_seed(0))
    before, count = folded(images), norms(folded)
    assert fold_batch_norms(folded) == count - norms(folded) > 0
    assert name == "resnet18" or norms(folded) == 0  # a resnet cut short keeps those it does not run
    for expected, got in zip(before, folded(images), strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-4, atol=1e-5 * float(expected.abs().max()))


class Branching(nn.Module):
    """Its way depends on values, so it cannot be traced."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.conv(x)) if x.mean() > 0 else x


class Shared(nn.Module):
    """Its convolution is read twice."""

    def __init__(self) -> None:
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 4, 1), nn.BatchNorm2d(4)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        convolved = self.conv(x)
        return self.norm(convolved) + convolved


@pytest.mark.parametrize("kind", [Branching, Shared])
def test_a_batch_norm_that_cannot_be_folded_stays(kind):
    made = kind().eval()
    assert fold_batch_norms(made) == 0
    assert norms(made) == 1
