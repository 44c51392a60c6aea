import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import roc_auc_score

from pipeline.inference.anomaly_map import anomaly_maps, combine, level_constants
from pipeline.model_settings import ScoreSettings
from pipeline.models.card import LevelConstants


def constants(stride, mean=0.0, std=1.0):
    return LevelConstants(stride=stride, channels=4, mean=mean, std=std)


def levels(count=3, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return [torch.randn(count, size, 2 * size, generator=generator) - 2.0 for size in (8, 4, 2)]


def test_a_single_level_is_the_distance_from_its_normal_mean_in_deviations():
    got = combine([torch.tensor([[[-3.0, -1.0]]])], [constants(8, mean=-1.0, std=0.5)])
    assert got.tolist() == [[[4.0, 0.0]]]


def test_levels_are_added_at_the_finest_levels_size():
    fine, coarse = torch.zeros(1, 4, 4), torch.full((1, 2, 2), -2.0)
    got = combine([fine, coarse], [constants(8, mean=1.0), constants(16, mean=0.0, std=2.0)])
    assert got.shape == (1, 4, 4)
    torch.testing.assert_close(got, torch.full((1, 4, 4), 2.0))


def test_a_coarse_level_is_upsampled_bilinearly():
    coarse = torch.tensor([[[0.0, -4.0]]])
    got = combine([torch.zeros(1, 1, 4), coarse], [constants(8), constants(16)])
    assert got[0, 0].tolist() == pytest.approx([0.0, 1.0, 3.0, 4.0])  # centres of cells, not corners


@given(offset=st.floats(-50, 50), scale=st.floats(0.01, 100))
def test_the_map_does_not_depend_on_a_levels_units(offset, scale):
    parts = levels()
    plain = combine(parts, [level_constants(part, 8, 4) for part in parts])
    moved = [offset + scale * part for part in parts]
    torch.testing.assert_close(
        combine(moved, [level_constants(part, 8, 4) for part in moved]), plain, rtol=1e-3, atol=1e-2
    )


def test_a_less_likely_frame_never_has_a_lower_map_anywhere():
    parts = levels()
    of = [level_constants(part, 8, 4) for part in parts]
    worse = [part - 0.5 for part in parts]
    assert (combine(worse, of) > combine(parts, of)).all()


@given(count=st.integers(1, 9), seed=st.integers(0, 99))
def test_maps_of_frames_do_not_depend_on_their_neighbours(count, seed):
    parts = levels(count, seed)
    of = [constants(stride, mean=-1.5, std=0.3) for stride in (8, 16, 32)]
    for name in ("all", "finest"):
        chosen = ScoreSettings(levels=name)
        together = anomaly_maps(parts, of, chosen)
        alone = [anomaly_maps([part[at : at + 1] for part in parts], of, chosen) for at in range(count)]
        torch.testing.assert_close(together.shown, torch.cat([maps.shown for maps in alone]), rtol=1e-6, atol=1e-6)
        torch.testing.assert_close(together.scored, torch.cat([maps.scored for maps in alone]), rtol=1e-6, atol=1e-6)


def test_the_scored_map_is_of_the_levels_that_the_settings_name_and_the_shown_one_of_all():
    parts = levels()
    of = [constants(stride, mean=-1.5, std=0.3) for stride in (8, 16, 32)]
    every = anomaly_maps(parts, of, ScoreSettings(levels="all"))
    finest = anomaly_maps(parts, of, ScoreSettings(levels="finest"))
    assert every.scored is every.shown
    assert torch.equal(finest.shown, every.shown)
    assert torch.equal(finest.scored, combine(parts[:1], of[:1]))
    assert not torch.allclose(finest.scored, finest.shown)


def test_float16_maps_rank_pixels_as_float32_maps_do():
    generator = torch.Generator().manual_seed(3)
    parts = [torch.randn(40, size, 2 * size, generator=generator) - 2.0 for size in (16, 8, 4)]
    truth = np.zeros((40, 16, 32), dtype=bool)
    truth[::2, 4:9, 10:18] = True
    parts[0][torch.from_numpy(truth)] -= 1.5
    maps = combine(parts, [level_constants(part, 8, 4) for part in parts])
    exact = roc_auc_score(truth.ravel(), maps.numpy().ravel())
    assert 0.6 < exact < 0.99
    assert roc_auc_score(truth.ravel(), maps.half().numpy().ravel()) == pytest.approx(exact, abs=1e-4)


@pytest.mark.parametrize(("strides", "finest"), [((8, 16, 32), 1), ((4, 4, 8), 2), ((16, 16, 16), 3)])
def test_the_finest_levels_are_all_of_the_finest_stride(strides, finest):
    parts = [torch.full((1, 32 // stride, 32 // stride), -1.0 - level) for level, stride in enumerate(strides)]
    found = anomaly_maps(parts, [constants(stride) for stride in strides], ScoreSettings(levels="finest"))
    assert found.shown.unique().tolist() == [6.0]
    assert found.scored.unique().tolist() == [float(sum(range(1, finest + 1)))]
    assert (found.scored is found.shown) is (finest == 3)  # a compiled model then gives one map, and not two


def test_constants_are_mean_and_deviation_over_frames_and_positions():
    values = torch.tensor([[[1.0, 3.0]], [[5.0, 7.0]]])
    found = level_constants(values, 16, 96)
    assert (found.stride, found.channels, found.mean) == (16, 96, 4.0)
    assert found.std == pytest.approx(np.std([1, 3, 5, 7]))


def test_a_level_without_any_spread_still_gives_a_finite_map():
    flat = torch.full((2, 3, 3), -1.25)
    assert torch.isfinite(combine([flat - 1.0], [level_constants(flat, 8, 4)])).all()
