"""RBDC and TBDC against implementations written in other ways: flood fill and sets of pixels, and scored boxes."""

from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from pipeline.evaluation.regions import OVERLAP, TRACK_SHARE, RegionCounter, area_to_one, cut_heights

CELL = 4  # pixels of the ground truth that a cell of the map is wide


def flood(mask: np.ndarray) -> list[set[tuple[int, int]]]:
    """Connected regions as sets of pixels."""
    left, regions = {(int(row), int(column)) for row, column in np.argwhere(mask)}, []
    while left:
        region, edge = set(), {min(left)}
        while edge:
            left -= edge
            region |= edge
            edge = {(r + i, c + j) for r, c in edge for i in (-1, 0, 1) for j in (-1, 0, 1)} & left
        regions.append(region)
    return sorted(regions, key=min)


def box(region: set[tuple[int, int]], scale: int = 1) -> set[tuple[int, int]]:
    """All pixels of the box around a region."""
    (top, bottom), (left, right) = ((min(side), max(side) + 1) for side in zip(*region, strict=True))
    return {(r, c) for r in range(top * scale, bottom * scale) for c in range(left * scale, right * scale)}


def overlap(one: set, other: set) -> float:
    return len(one & other) / len(one | other)


def tracks_of(frames: list[list[set]]) -> list[list[int]]:
    """The track of each region of each frame: pairs that share most go first, each region in one pair a side."""
    tracks, count = [], 0
    for before, regions in zip([[], *frames], frames, strict=False):
        mine: dict[int, int] = {}
        pairs = [(-len(a & b), i, j) for i, a in enumerate(before) for j, b in enumerate(regions) if a & b]
        for _, i, j in sorted(pairs):
            if j not in mine and tracks[-1][i] not in mine.values():
                mine[j] = tracks[-1][i]
        for j in range(len(regions)):
            if j not in mine:
                mine[j], count = count, count + 1
        tracks.append([mine[j] for j in range(len(regions))])
    return tracks


def by_hand(masks: np.ndarray, maps: np.ndarray, thresholds: np.ndarray) -> tuple[list, list, list, int]:
    """False regions a frame, shares of regions and of tracks found, by threshold; and how many tracks."""
    truth = [flood(mask) for mask in masks]
    tracks = tracks_of(truth)
    sizes = np.bincount([track for of in tracks for track in of])
    false_rates, regions, of_tracks = [], [], []
    for threshold in thresholds:
        false, found = 0, np.zeros(len(sizes), int)
        for frame, anomaly_map in enumerate(maps):
            seen = [box(region, CELL) for region in flood(anomaly_map >= threshold)]
            real = [box(region) for region in truth[frame]]
            false += sum(all(overlap(one, other) < OVERLAP for other in real) for one in seen)
            for track, other in zip(tracks[frame], real, strict=True):
                found[track] += any(overlap(one, other) >= OVERLAP for one in seen)
        false_rates.append(false / len(masks))
        regions.append(found.sum() / sizes.sum())
        of_tracks.append(np.mean(found / sizes >= TRACK_SHARE))
    return false_rates, regions, of_tracks, len(sizes)


def staircase(rates: list[float], found: list[float]) -> float:
    """Area to 1 by the shapes it is made of: at each rate the best that no higher rate reaches."""
    points = sorted({(r, max(f for q, f in zip(rates, found, strict=True) if q <= r)) for r in rates if r <= 1.0})
    points = [(0.0, 0.0), *points, (1.0, max([f for _, f in points], default=0.0))]
    return sum((b[0] - a[0]) * (a[1] + b[1]) / 2 for a, b in pairwise(points))


def footage(seed: int, frames: int = 12) -> tuple[np.ndarray, np.ndarray]:
    """Masks of squares that move, part, meet and vanish, and maps that see some of them, and other things."""
    rng = np.random.default_rng(seed)
    masks = np.zeros((frames, 6 * CELL, 8 * CELL), bool)
    maps = rng.integers(0, 4, (frames, 6, 8)).astype(np.float16)
    for _ in range(3):
        first, row, column = rng.integers(0, 5), rng.integers(0, 14), rng.integers(0, 20)
        for frame in range(first, min(frames, first + rng.integers(2, 9))):
            masks[frame, row : row + 7, column + frame : column + frame + 6] = True
    seen = masks.reshape(frames, 6, CELL, 8, CELL).mean(axis=(2, 4)) > 0.5
    return masks, (maps + 3 * seen * rng.integers(0, 2, (frames, 1, 1))).astype(np.float16)


@pytest.mark.parametrize("seed", range(6))
def test_both_criteria_are_those_of_flood_fill_and_sets_of_pixels(seed):
    masks, maps = footage(seed)
    thresholds = np.unique(maps).astype(np.float32)
    counter = RegionCounter(thresholds)
    counter.begin_clip()
    counter.add(masks[:5], maps[:5])  # a track goes on over the parts that a clip is read in
    counter.add(masks[5:], maps[5:])
    rates, regions, tracks, count = by_hand(masks, maps, thresholds)
    found = counter.criteria()
    assert found.tracks == count
    assert (found.rbdc, found.tbdc) == pytest.approx((staircase(rates, regions), staircase(rates, tracks)))
    assert 0.0 < staircase(rates, regions) < 1.0


def test_regions_with_a_score_of_their_own_give_what_sorting_by_score_gives():
    """As code of Georgescu et al. (TPAMI 2021) does: boxes by falling score, true or false one by one."""
    rng = np.random.default_rng(5)
    masks, maps = np.zeros((40, 16, 40), bool), np.zeros((40, 4, 10), np.float16)
    scores = rng.permutation(80).astype(np.float16) + 1
    boxes = []
    for frame in range(40):  # one object goes right in the upper half, and is seen in most frames; below is noise
        column = frame // 8 * 4
        masks[frame, 0:4, column : column + 8] = True
        seen = column // 4 if rng.random() < 0.7 else 8
        maps[frame, 0, seen : seen + 2], maps[frame, 3, frame % 9] = scores[2 * frame], scores[2 * frame + 1]
        boxes += [(scores[2 * frame], frame, seen * 4 == column), (scores[2 * frame + 1], frame, False)]
    false = true = 0
    curve = [(0.0, 0.0, 0.0)]
    for _, _, is_true in sorted(boxes, reverse=True):
        true, false = true + is_true, false + (not is_true)
        if false <= 40:
            curve.append((false / 40, true / 40, float(true / 40 >= 0.1)))
    x, *ys = (list(column) for column in zip(*curve, (1.0, *curve[-1][1:]), strict=True))
    counter = RegionCounter(np.sort(np.unique(scores)).astype(np.float32))
    counter.add(masks, maps)
    found = counter.criteria()
    assert found.tracks == 1
    assert (found.rbdc, found.tbdc) == pytest.approx(tuple(np.trapezoid(y, x) for y in ys))


def test_counters_of_two_scenes_together_are_one_of_both():
    clips = [footage(seed) for seed in (7, 8)]
    thresholds = cut_heights(maps for _, maps in clips)
    whole, apart = RegionCounter(thresholds), [RegionCounter(thresholds) for _ in clips]
    for counter, clip in zip(apart, clips, strict=True):
        whole.begin_clip()
        whole.add(*clip)
        counter.add(*clip)
    apart[0].merge(apart[1])
    assert apart[0].criteria() == whole.criteria()


@given(arrays(np.float16, (3, 5, 4), elements=st.floats(-100, 100, width=16)))
@settings(deadline=None)
def test_thresholds_are_the_heights_that_shares_of_all_values_reach(maps):
    heights = cut_heights([maps[:1], maps[1:]])
    every = np.sort(maps.astype(np.float32).ravel())[::-1]
    wanted = {every[max(0, int(np.ceil(share * every.size)) - 1)] for share in np.geomspace(1e-5, 0.5, 64)}
    assert heights.tolist() == sorted(wanted)


def test_the_area_takes_the_best_threshold_at_each_rate_and_nothing_beyond_one():
    rates, found = np.array([0.5, 0.2, 0.4, 3.0]), np.array([0.8, 0.6, 0.3, 1.0])
    assert area_to_one(rates, found) == pytest.approx(0.2 * 0.3 + 0.2 * 0.6 + 0.1 * 0.7 + 0.5 * 0.8)
    assert area_to_one(np.array([2.0]), np.array([1.0])) == 0.0
    assert area_to_one(np.array([0.0]), np.array([1.0])) == 1.0


def test_a_frame_that_reaches_no_threshold_has_no_region():
    counter = RegionCounter(np.array([1.0, 2.0], np.float32))
    masks, maps = np.zeros((2, 8, 8), bool), np.zeros((2, 4, 4), np.float16)
    masks[:, :4, :4] = True
    maps[1, :2, :2] = 1.5
    counter.add(masks, maps)
    assert counter.criteria().rbdc == pytest.approx(0.5)


def test_without_regions_there_are_no_criteria():
    counter = RegionCounter(np.array([0.5], np.float32))
    counter.add(np.zeros((2, 8, 8), bool), np.ones((2, 2, 2), np.float16))
    found = counter.criteria()
    assert (found.rbdc, found.tbdc, found.tracks) == (None, None, 0)
    assert cut_heights([]).size == 0
