"""Zones on maps, from the mask to what is read under it."""

from functools import partial

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.models.anomaly_model import AnomalyMaps
from pipeline.models.masks import Masks
from pipeline.models.read_out import read
from pipeline.scoring.regimes import scores_under
from pipeline.scoring.regions import anomalous_region
from pipeline.zone_settings import ZoneSettings
from pipeline.zoning import Regime
from tests.models.tiny import READ_OUT

TOP, SIZE = 0.05, (8, 12)
PLAIN = READ_OUT.model_copy(update={"common_share": 0.0})  # what is left out then moves nothing at all
ALL = ((0, 0), (1, 0), (1, 1), (0, 1))


def box(left, top, right, bottom):
    return ((left, top), (right, top), (right, bottom), (left, bottom))


def watch(polygon, name="yard", sensitivity=1.0):
    return ZoneSettings(name=name, watch=polygon, sensitivity=sensitivity)


def ignore(polygon, name="tree"):
    return ZoneSettings(name=name, ignore=polygon)


LINES = st.lists(st.integers(0, 12), min_size=2, max_size=2, unique=True).map(sorted)
BOXES = st.tuples(LINES, LINES).map(lambda at: box(*(line / 12 for line in (at[0][0], at[1][0], at[0][1], at[1][1]))))
ZONES = st.lists(
    st.builds(watch, BOXES, st.just("w"), st.sampled_from([0.5, 1.0, 3.0])) | st.builds(ignore, BOXES), max_size=3
)
REGIMES = ZONES.map(Regime.of).filter(lambda regime: regime.watched_share > 0.0)


def made(count, seed=0):
    """Maps, speeds and pairs of some frames."""
    random = torch.Generator().manual_seed(seed)
    maps = torch.randn(count, *SIZE, generator=random) * 3.0
    return maps, torch.rand(count, *SIZE, generator=random) * 9.0, torch.rand(count, generator=random) > 0.3


def reading(maps, speeds, paired, regimes, constants=READ_OUT):
    return read(AnomalyMaps(maps, maps), speeds, paired, constants, TOP, regimes and partial(Masks().of, regimes))


def assert_same(one, other):
    for name in ("shown", "scores", "common_surprise", "motion_share"):
        assert torch.equal(getattr(one, name), getattr(other, name)), name


@given(st.integers(0, 999), st.lists(st.sampled_from([None, Regime.of([]), Regime.of([watch(ALL)])]), min_size=1))
def test_a_mask_of_the_whole_image_is_none_to_the_last_bit(seed, regimes):
    frames = made(len(regimes), seed)
    assert_same(reading(*frames, regimes), reading(*frames, None))


@given(st.lists(REGIMES, min_size=1, max_size=5), st.integers(0, 999))
@settings(max_examples=40)
def test_a_frame_reads_the_same_under_its_mask_alone_and_among_others(regimes, seed):
    frames = made(len(regimes), seed)
    found = reading(*frames, regimes)
    for at, regime in enumerate(regimes):
        alone = reading(*(part[[at]] for part in frames), [regime])
        assert_same(alone, type(found)(*(getattr(found, name)[[at]] for name in found.__slots__)))


@given(REGIMES, st.integers(0, 999))
@settings(max_examples=40)
def test_whatever_happens_where_nothing_counts_has_no_influence_at_all(regime, seed):
    maps, speeds, paired = made(3, seed)
    left_out = torch.from_numpy(regime.weights(*SIZE) == 0.0)
    other_maps, other_speeds, _ = made(3, seed + 1)
    before = reading(maps, speeds, paired, [regime] * 3, PLAIN)
    maps, speeds = torch.where(left_out, 99.0 * other_maps, maps), torch.where(left_out, other_speeds * 99.0, speeds)
    after = reading(maps, speeds, paired, [regime] * 3, PLAIN)
    for name in ("shown", "scores", "motion_share"):
        assert torch.equal(getattr(after, name), getattr(before, name)), name


@given(REGIMES, st.integers(0, 999))
@settings(max_examples=40)
def test_stored_maps_score_under_a_mask_what_their_frames_would(regime, seed):
    frames = made(4, seed)
    stored = reading(*frames, None).scored.half().numpy()
    live = reading(*frames, [regime] * 4).scores.numpy()
    np.testing.assert_allclose(scores_under(stored, regime, TOP), live, rtol=2e-3, atol=2e-3)


def test_what_stands_out_in_a_sensitive_zone_counts_for_more_and_what_does_not_stays():
    regime = Regime.of([watch(box(0, 0, 0.5, 1), sensitivity=3.0), watch(box(0.5, 0, 1, 1), "door")])
    maps = torch.full((3, *SIZE), -1.0)
    maps[0, 2, 2], maps[1, 2, 9] = 5.0, 5.0
    found = Masks().of([regime] * 3, maps).weighted(maps)
    assert (found[0, 2, 2], found[1, 2, 9]) == (15.0, 5.0)
    assert (found[2] == -1.0).all()


def test_the_map_that_is_shown_stands_out_where_it_counts_however_low_that_is():
    regime = Regime.of([watch(box(0, 0, 0.5, 1))])
    maps = torch.full((1, *SIZE), -9.0)
    maps[0, 3, 2], maps[0, 3, 10] = -5.0, 50.0
    shown = Masks().of([regime], maps).shown(maps)[0].numpy().astype(np.float16)
    region = anomalous_region(shown)
    assert (region.left, region.right, region.top) == (2 / 12, 3 / 12, 3 / 8)


def test_motion_spoke_in_as_many_of_the_cells_as_it_stood_out_more_in():
    maps, speeds = torch.full((3, *SIZE), 2.0), torch.full((3, *SIZE), -50.0)
    maps[:, 0, 0], maps[:, 7, 7] = 200.0, 100.0
    speeds[:, 0, 1], speeds[:, 0, 2] = 100.0, 90.0
    paired = torch.tensor([True, False, True])
    right = Regime.of([watch(box(2 / 12, 0, 1, 1))])
    found = read(AnomalyMaps(maps, maps), speeds, paired, PLAIN, 4 / 96, partial(Masks().of, [None, None, right]))
    assert found.motion_share.tolist() == [0.5, 0.0, pytest.approx(1 / 3)]  # of 4, 4 and 3 cells


def test_a_method_that_scores_whole_frames_has_motion_left_out_and_nothing_else():
    right, whole = Regime.of([watch(box(0.5, 0, 1, 1))]), torch.full((1, 1, 1), 5.0)
    speeds = torch.zeros(1, *SIZE)
    speeds[0, 0, 0] = 70.0
    shown = made(1)[0]
    masked, all_of_it = (
        read(AnomalyMaps(shown, whole), speeds, torch.tensor([True]), PLAIN, 0.0, mask_of)
        for mask_of in (partial(Masks().of, [right]), None)
    )
    assert masked.scores.tolist() == [(5.0 - 2.0) / 1.5]
    assert (all_of_it.scores.tolist(), all_of_it.motion_share.tolist()) == ([(70.0 - 1.0) / 0.75], [1.0])


@pytest.mark.parametrize("whole", [5.0, 200.0])
def test_a_sensitive_zone_makes_as_much_of_motion_as_of_a_score_of_the_whole_frame(whole):
    speeds = torch.full((1, *SIZE), 70.0)
    maps = AnomalyMaps(made(1)[0], torch.full((1, 1, 1), whole))
    masked, plain = (
        read(maps, speeds, torch.tensor([True]), PLAIN, 0.0, partial(Masks().of, [Regime.of([zone])]))
        for zone in (watch(ALL, sensitivity=3.0), watch(ALL))
    )
    assert masked.scores.tolist() == pytest.approx([3.0 * plain.scores.item()])
    assert torch.equal(masked.motion_share, plain.motion_share)
