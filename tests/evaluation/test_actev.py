"""nAUDC against NIST's own test vectors, and against frames counted one by one."""

from itertools import combinations, permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.evaluation.actev import Instance, area_below, clip_instances, missed_at, naudc

TENTH = np.full(200, 0.1)


def curve(*points: tuple[float, float]) -> tuple[np.ndarray, np.ndarray]:
    return np.array([rate for rate, _ in points]), np.array([missed for _, missed in points])


@pytest.mark.parametrize(
    ("points", "expected"),
    [
        (
            [
                (0, 6 / 7),
                (0, 5 / 7),
                (1, 5 / 7),
                (2, 5 / 7),
                (2, 4 / 7),
                (3, 4 / 7),
                (4, 3 / 7),
                (4, 3 / 7),
                (4, 2 / 7),
            ],
            {0: 5 / 7, 1: 5 / 7, 1.5: 5 / 7, 2: 4 / 7, 2.5: 4 / 7, 3: 4 / 7, 3.5: 3.5 / 7, 4: 2 / 7, 5: 2 / 7},
        ),
        ([(1, 1), (1, 5 / 6), (2, 5 / 6), (2, 4 / 6), (3, 4 / 6), (3, 3 / 6)], {0: 1, 2: 4 / 6, 3: 3 / 6, 4: 3 / 6}),
        ([(0, 5 / 6), (0, 4 / 6), (1, 4 / 6), (3, 3 / 6)], {0: 4 / 6, 2: 3.5 / 6, 2.5: 3.25 / 6, 3: 3 / 6, 4: 3 / 6}),
        ([(0, 5 / 6), (0, 4 / 6)], {1: 4 / 6, 2: 4 / 6}),
        ([(0.2, 6 / 30)], {0.033: 1.0, 0.1: 1.0, 0.2: 6 / 30, 0.5: 6 / 30}),
    ],
)
def test_curves_are_read_as_in_the_tests_of_nists_scorer(points, expected):
    """``test/test_metrics.py`` of usnistgov/ActEV_Scorer, ``TestGetPointsAlongConfidenceCurve``."""
    assert missed_at(*curve(*points), np.array(list(expected), float)) == pytest.approx(list(expected.values()))


def test_without_points_all_is_missed():
    nothing = np.zeros(0)
    assert missed_at(nothing, nothing, np.array([0.0, 1.0])).tolist() == [1.0, 1.0]
    assert area_below(nothing, nothing, 0.2) == 0.2


def test_the_area_by_hand():
    # All is missed up to .05, a straight line from .5 to .25 at .15, level from there on.
    area = 0.05 * 1.0 + 0.1 * 0.375 + 0.05 * 0.25
    assert area_below(*curve((0.05, 0.5), (0.15, 0.25)), 0.2) == pytest.approx(area)
    # Beyond the limit is a point, and the line to it is cut.
    assert area_below(*curve((0.0, 0.5), (0.4, 0.1)), 0.2) == pytest.approx(0.2 * 0.4)


def test_a_clip_by_hand():
    anomalies = [(50, 89), (150, 154)]  # four seconds, and half a second
    instances = [Instance(40, 59, 3.0), Instance(100, 109, 2.0), Instance(152, 161, 1.0)]
    found = clip_instances(anomalies, instances, TENTH)
    assert found.false_s == pytest.approx([1.0, 1.0, 0.7])
    assert (found.anomalies, found.normal_s) == (2, pytest.approx(15.5))
    assert sorted(found.found_with) == [1.0, 3.0]  # a second of the one, half of the other's half second
    # Missed: .5 at 1 s of false alarm of 15.5, .5 at 2 s, none at 2.7 s.
    area = (1 + 0.5 * 1.0 + 0.25 * 0.7 + 0.0) / 15.5
    assert naudc([found]) == pytest.approx(area / 0.2)


def test_what_shares_too_little_time_has_not_found_it():
    found = clip_instances([(50, 89)], [Instance(80, 199, 1.0)], TENTH)
    assert found.found_with.tolist() == [1.0]  # exactly a second
    found = clip_instances([(50, 89)], [Instance(81, 199, 1.0)], TENTH)
    assert found.found_with.size == 0 and naudc([found]) == 1.0
    # Of an anomaly of exactly a second, half is too little, however its frames' times add up.
    assert all(clip_instances([(a, a + 9)], [Instance(a, a + 8, 1.0)], TENTH).found_with.size == 0 for a in range(99))


def test_of_two_instances_the_surer_has_found_it_and_one_finds_a_single_anomaly():
    found = clip_instances([(50, 89)], [Instance(50, 64, 1.0), Instance(70, 89, 2.0)], TENTH)
    assert found.found_with.tolist() == [2.0]
    found = clip_instances([(20, 59), (80, 119)], [Instance(0, 199, 1.0)], TENTH)
    assert found.found_with.size == 1


def test_without_anomalies_or_normal_time_there_is_none():
    assert naudc([clip_instances([], [Instance(0, 5, 1.0)], TENTH)]) is None
    assert naudc([clip_instances([(0, 199)], [], TENTH)]) is None
    assert naudc([clip_instances([(0, 9)], [], TENTH)]) == 1.0
    assert naudc([]) is None


@st.composite
def clips(draw):
    """Anomalies and instances of 4 s at 10 frames per second."""
    cuts = st.lists(st.integers(0, 40), unique=True, min_size=4, max_size=8).map(sorted)
    stretches = [[(a, b - 1) for a, b in zip(of[::2], of[1::2], strict=False)] for of in (draw(cuts), draw(cuts))]
    confidences = st.integers(0, 3)
    return stretches[0], [Instance(*stretch, float(draw(confidences))) for stretch in stretches[1]]


def counted(footage) -> float | None:
    """The same frame by frame, all pairings tried, the curve walked in small steps."""
    truth = [{f for first, last in anomalies for f in range(first, last + 1)} for anomalies, _ in footage]
    normal = sum(40 - len(frames) for frames in truth)
    total = sum(len(anomalies) for anomalies, _ in footage)
    if not total or not normal:
        return None
    given_to = []
    for anomalies, instances in footage:
        fits = {
            (a, i)
            for a, (first, last) in enumerate(anomalies)
            for i, of in enumerate(instances)
            if len(set(range(first, last + 1)) & set(range(of.first, of.last + 1)))
            >= (10 if last - first >= 9 else (last - first + 1) / 2)
        }
        best: tuple[int, list[float]] = (0, [])
        for size in range(min(len(anomalies), len(instances)) + 1):
            for some in combinations(range(len(anomalies)), size):
                for order in permutations(range(len(instances)), size):
                    if set(zip(some, order, strict=True)) <= fits:
                        sure = sorted((instances[i].confidence for i in order), reverse=True)
                        best = max(best, (size, sure))
        given_to += best[1]
    points = []
    for level in sorted({i.confidence for _, instances in footage for i in instances}, reverse=True):
        false = sum(
            frame not in frames
            for frames, (_, instances) in zip(truth, footage, strict=True)
            for of in instances
            if of.confidence >= level
            for frame in range(of.first, of.last + 1)
        )
        points.append((false / normal, 1 - sum(confidence >= level for confidence in given_to) / total))
    area, steps = 0.0, 1000
    for x in (np.arange(steps) + 0.5) / steps * 0.2:
        before, after = [p for p in points if p[0] <= x], [p for p in points if p[0] > x]
        if not before:
            area += 1.0
        elif not after:
            area += before[-1][1]
        else:
            (x0, y0), (x1, y1) = before[-1], after[0]
            area += y0 + (y1 - y0) * (x - x0) / (x1 - x0)
    return area / steps


@given(st.lists(clips(), min_size=1, max_size=2))
@settings(max_examples=60, deadline=None)
def test_the_area_is_that_of_frames_counted_one_by_one(footage):
    found = naudc([clip_instances(anomalies, instances, np.full(40, 0.1)) for anomalies, instances in footage])
    assert found == (None if (expected := counted(footage)) is None else pytest.approx(expected, abs=2e-3))
