import numpy as np
import pytest
import torch
from scipy.ndimage import gaussian_filter

from pipeline.baselines.maps import smoothed, stack_levels
from tests.baselines.made import levels, repeated


def test_coarse_levels_are_repeated_beside_the_finest():
    parts = levels(2)
    torch.testing.assert_close(stack_levels(parts).double(), repeated(parts))


@pytest.mark.parametrize("chosen", [[0, 3, 6, 11, 12, 20], [1, 2], [13, 14, 15], list(range(21))])
def test_chosen_channels_are_those_of_all_levels_counted_on(chosen):
    parts = levels(2)
    torch.testing.assert_close(stack_levels(parts, torch.tensor(chosen)).double(), repeated(parts)[:, chosen])


@pytest.mark.parametrize("sigma", [0.1, 0.5, 1.0, 3.0])
def test_smoothing_is_scipys(sigma):
    maps = torch.randn(2, 9, 14, generator=torch.Generator().manual_seed(0))
    expected = [gaussian_filter(one.numpy(), sigma, mode="nearest") for one in maps]
    if sigma >= 0.5:
        np.testing.assert_allclose(smoothed(maps, sigma).numpy(), np.stack(expected), rtol=1e-4, atol=1e-5)
    else:
        np.testing.assert_allclose(smoothed(maps, sigma).numpy(), maps.numpy(), rtol=1e-4, atol=1e-5)


def test_no_smoothing_leaves_the_map_alone():
    maps = torch.randn(1, 3, 3)
    assert smoothed(maps, 0.0) is maps
