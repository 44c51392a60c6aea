"""Metrics against sklearn, brute force, and cases that can be worked out by hand."""

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from scipy import ndimage
from sklearn.metrics import roc_auc_score

from pipeline.errors import ScoresError
from pipeline.evaluation.metrics import (
    PixelHistogram,
    frame_auroc,
    frame_auroc_macro,
    perfect_frames_floors,
    quantise,
    ramp_score,
    random_padded_macro,
    upsample,
)
from tests.shared import shared_path

FLOATS = st.floats(width=32, allow_nan=False, allow_infinity=False)
PED2_LENGTHS = (180, 180, 150, 180, 150, 180, 180, 180, 120, 150, 180, 180)
PED2_ANOMALOUS = (
    (61, 180),
    (95, 180),
    (1, 146),
    (31, 180),
    (1, 129),
    (1, 159),
    (46, 180),
    (1, 180),
    (1, 120),
    (1, 150),
)
PED2_ANOMALOUS += ((1, 180), (88, 180))  # 1-based and inclusive, as UCSD's .m file has them


def ped2_labels() -> list[np.ndarray]:
    return [
        (np.arange(1, frames + 1) >= first) & (np.arange(1, frames + 1) <= last)
        for frames, (first, last) in zip(PED2_LENGTHS, PED2_ANOMALOUS, strict=True)
    ]


def brute_force_aupro(labels: np.ndarray, scores: np.ndarray, limit: float) -> float:
    """Threshold by threshold, region by region, as the definition reads."""
    regions = []
    for frame, mask in enumerate(labels):
        named, count = ndimage.label(mask, structure=np.ones((3, 3)))
        regions += [scores[frame][named == name] for name in range(1, count + 1)]
    normal = scores[~labels]
    curve = [(0.0, 0.0)]
    for threshold in np.unique(scores)[::-1]:
        overlap = np.mean([(region >= threshold).mean() for region in regions])
        curve.append(((normal >= threshold).mean(), overlap))
    area = 0.0
    for (x0, y0), (x1, y1) in itertools.pairwise(curve):
        if x0 < limit:
            end = min(x1, limit)
            y_end = y1 if x1 <= limit else y0 + (y1 - y0) * (limit - x0) / (x1 - x0)
            area += (end - x0) * (y0 + y_end) / 2
    return area / limit


@st.composite
def labelled_pixels(draw):
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 7), st.integers(1, 7)))
    labels = draw(hnp.arrays(np.bool_, shape))
    # Few distinct values make ties, any floats make few, and a narrow band makes different ones share a bin.
    values = draw(
        st.sampled_from(
            [
                st.sampled_from([-1.5, -0.0, 0.0, 0.25, 3.0]),
                st.floats(0.25, 4.0, width=32),
                st.floats(1.0, 1.0 + 2**-14, width=32),
            ]
        )
    )
    return labels, draw(hnp.arrays(np.float32, shape, elements=values))


def counted(labels: np.ndarray, scores: np.ndarray) -> PixelHistogram:
    histogram = PixelHistogram()
    histogram.add(labels, scores)
    return histogram


def test_frame_auroc_counts_ordered_pairs_and_half_of_ties():
    labels = np.array([False, False, True, True])
    assert frame_auroc(labels, np.array([0.1, 0.2, 0.3, 0.4])) == 1.0
    assert frame_auroc(labels, np.array([0.4, 0.3, 0.2, 0.1])) == 0.0
    assert frame_auroc(labels, np.array([0.5, 0.5, 0.5, 0.5])) == 0.5
    assert frame_auroc(labels, np.array([0.1, 0.5, 0.5, 0.9])) == 0.875


def test_one_class_has_no_auroc():
    assert frame_auroc(np.ones(3, dtype=bool), np.arange(3.0)) is None
    assert frame_auroc(np.zeros(3, dtype=bool), np.arange(3.0)) is None
    assert frame_auroc(np.zeros(0, dtype=bool), np.zeros(0)) is None


def test_macro_leaves_one_class_clips_out_and_says_so():
    both = (np.array([False, True]), np.array([0.0, 1.0]))
    reversed_ = (np.array([True, False]), np.array([0.0, 1.0]))
    one = (np.array([True, True]), np.array([0.0, 1.0]))
    result = frame_auroc_macro([both, reversed_, one])
    assert (result.value, result.clips, result.left_out) == (0.5, 2, 1)
    assert frame_auroc_macro([one]).value is None


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_scores_that_are_not_finite_are_refused_with_their_place(bad):
    with pytest.raises(ScoresError, match=r"1 of 3 .* first at \(1,\)"):
        frame_auroc(np.array([True, False, True]), np.array([0.0, bad, 1.0]))
    pixels = np.zeros((1, 2, 2), dtype=np.float32)
    pixels[0, 1, 0] = bad
    with pytest.raises(ScoresError, match=r"first at \(0, 1, 0\)"):
        counted(np.zeros((1, 2, 2), dtype=bool), pixels)


@given(hnp.arrays(np.float32, st.integers(2, 40), elements=FLOATS))
def test_quantising_keeps_the_order(values):
    order = np.argsort(values, kind="stable")
    assert (np.diff(quantise(values)[order]) >= 0).all()


def test_quantising_tells_neighbouring_float16_values_apart():
    every = np.arange(1 << 16, dtype=np.uint16).view(np.float16)
    finite = np.unique(every[np.isfinite(every)].astype(np.float32))
    assert len(np.unique(quantise(finite))) == len(finite)


@given(labelled_pixels())
def test_pixel_auroc_agrees_with_sklearn_within_its_stated_error(case):
    labels, scores = case
    histogram = counted(labels, scores)
    if labels.all() or not labels.any():
        assert histogram.auroc() is None and histogram.auroc_error() is None
    else:
        assert abs(histogram.auroc() - roc_auc_score(labels.ravel(), scores.ravel())) <= histogram.auroc_error() + 1e-12


@given(labelled_pixels(), st.sampled_from([0.05, 0.3, 1.0]))
def test_aupro_agrees_with_brute_force_within_its_stated_error(case, limit):
    labels, scores = case
    histogram = counted(labels, scores)
    if labels.all() or not labels.any():
        assert histogram.aupro(limit) is None and histogram.aupro_error(limit) is None
    else:
        expected = brute_force_aupro(labels, scores, limit)
        assert abs(histogram.aupro(limit) - expected) <= histogram.aupro_error(limit) + 1e-12


@given(hnp.arrays(np.bool_, (3, 6, 6)), hnp.arrays(np.int8, (3, 6, 6), elements=st.integers(0, 9)))
def test_scores_that_bins_tell_apart_are_scored_exactly(labels, ranks):
    scores = ranks.astype(np.float32)
    histogram = counted(labels, scores)
    if labels.any() and not labels.all():
        assert histogram.auroc() == pytest.approx(roc_auc_score(labels.ravel(), scores.ravel()), abs=1e-12)
        assert histogram.aupro() == pytest.approx(brute_force_aupro(labels, scores, 0.3), abs=1e-12)


@given(labelled_pixels(), st.integers(0, 3))
def test_counting_in_parts_or_merging_changes_nothing(case, cut):
    labels, scores = case
    whole, parts, other = counted(labels, scores), PixelHistogram(), PixelHistogram()
    parts.add(labels[:cut], scores[:cut])
    other.add(labels[cut:], scores[cut:])
    parts.merge(other)
    assert parts.auroc() == whole.auroc()
    assert parts.regions == whole.regions
    assert parts.aupro() == pytest.approx(whole.aupro(), abs=1e-12)


@given(hnp.arrays(np.bool_, (4, 3, 3), elements=st.sampled_from([False, False, True])), st.integers(0, 3))
def test_the_floor_of_perfect_frames_is_what_their_labels_score_as_maps(labels, normal_frames):
    labels[:normal_frames] = False
    perfect = np.broadcast_to(labels.any(axis=(1, 2), keepdims=True), labels.shape).astype(np.float32)
    histogram = counted(labels, perfect)
    if labels.any() and not labels.all():
        expected = perfect_frames_floors(histogram.normal_share_beside)
        assert (histogram.auroc(), histogram.aupro()) == pytest.approx(expected)


def test_a_random_map_has_an_aupro_of_half_the_limit():
    generator = np.random.default_rng(0)
    labels = np.zeros((40, 64, 64), dtype=bool)
    labels[:, 10:30, 10:30] = True
    histogram = counted(labels, generator.random(labels.shape, dtype=np.float32))
    assert histogram.aupro() == pytest.approx(0.15, abs=0.01)
    assert histogram.auroc() == pytest.approx(0.5, abs=0.01)


def test_regions_touch_at_corners_but_not_across_frames():
    labels = np.zeros((2, 4, 4), dtype=bool)
    labels[0, 0, 0] = labels[0, 1, 1] = True  # a corner joins them
    labels[0, 3, 3] = labels[1, 3, 3] = True  # the same place in the next frame is another region
    assert counted(labels, np.zeros(labels.shape, dtype=np.float32)).regions == 3


def test_small_regions_weigh_as_much_as_large_ones():
    labels = np.zeros((1, 20, 20), dtype=bool)
    labels[0, 0, 0] = True
    labels[0, 5:15, 5:15] = True
    scores = np.zeros(labels.shape, dtype=np.float32)
    scores[0, 5:15, 5:15] = 1.0  # all of the large region found, nothing of the small one
    # At no false positive half the overlap; then straight to all at a rate of 1.
    assert counted(labels, scores).aupro() == pytest.approx(0.5 + 0.5 * 0.3 / 2)


def test_memory_does_not_grow_with_the_number_of_pixels():
    generator = np.random.default_rng(0)
    histogram, sizes = PixelHistogram(), []
    for _ in range(20):
        labels = generator.random((4, 100, 100)) < 0.1
        histogram.add(labels, (1 + generator.random(labels.shape)).astype(np.float32))
        sizes.append(histogram.held_bytes)
    assert sizes[0] == sizes[-1] < 1_000_000
    assert histogram.normal_pixels + histogram.anomalous_pixels == 800_000


def test_the_widest_spread_of_scores_stays_below_the_stated_memory():
    extreme = np.finfo(np.float32).max
    scores = np.array([[[-extreme, 0.0, extreme]]], dtype=np.float32)
    histogram = counted(np.array([[[False, False, True]]]), scores)
    assert histogram.held_bytes <= 3 * 8 * 2**24
    assert histogram.auroc() == 1.0


def test_upsampling_is_half_pixel_bilinear_with_clamped_edges():
    maps = np.array([[[0.0, 1.0]]], dtype=np.float16)
    assert upsample(maps, (2, 4))[0].tolist() == [[0.0, 0.25, 0.75, 1.0]] * 2


@given(
    hnp.arrays(
        np.float32,
        st.tuples(st.integers(1, 2), st.integers(1, 6), st.integers(1, 6)),
        elements=st.floats(0, 9, width=32),
    ),
    st.integers(1, 5),
    st.integers(1, 5),
)
def test_upsampling_agrees_with_interpolation_written_out(maps, up, across):
    _, h, w = maps.shape
    y = np.clip((np.arange(h * up) + 0.5) / up - 0.5, 0, h - 1)
    x = np.clip((np.arange(w * across) + 0.5) / across - 0.5, 0, w - 1)
    rows = np.maximum(0.0, 1 - np.abs(y[:, None] - np.arange(h)))
    columns = np.maximum(0.0, 1 - np.abs(x[:, None] - np.arange(w)))
    expected = rows @ maps.astype(np.float64) @ columns.T
    np.testing.assert_allclose(upsample(maps, (h * up, w * across)), expected, atol=1e-5)


def test_a_ramp_through_each_ped2_clip_scores_three_quarters():
    labels = ped2_labels()
    assert sum(map(len, labels)) == 2010
    score = frame_auroc(np.concatenate(labels), np.concatenate([ramp_score(len(clip)) for clip in labels]))
    assert score == pytest.approx(0.750, abs=5e-4)


def test_a_ramp_through_each_stc_clip_scores_056():
    files = sorted((shared_path("data/stc_labels") / "test_frame_mask").glob("*.npy"))
    labels = [np.load(file, allow_pickle=False).astype(bool) for file in files]
    assert (len(labels), sum(map(len, labels))) == (107, 40_791)
    score = frame_auroc(np.concatenate(labels), np.concatenate([ramp_score(len(clip)) for clip in labels]))
    assert score == pytest.approx(0.560, abs=5e-4)


def test_random_scores_reach_what_the_padded_macro_formula_says():
    clips, generator, draws = ped2_labels(), np.random.default_rng(0), []
    for _ in range(40):
        values = []
        for clip in clips:
            labels = np.concatenate([[False], clip, [True]])
            values.append(frame_auroc(labels, np.concatenate([[0.0], generator.random(clip.size), [1.0]])))
        draws.append(np.mean(values))
    assert random_padded_macro(clips) == pytest.approx(np.mean(draws), abs=0.01)
    assert random_padded_macro(clips) > 0.65  # far above the 0.5 that "random" suggests
    assert random_padded_macro([]) is None
