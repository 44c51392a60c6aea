"""Alarms at every threshold, held against the tracker that raises them."""

from fractions import Fraction

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings
from pipeline.evaluation.actev import Instance
from pipeline.evaluation.alarms import EARLY_S, merged_stretches
from pipeline.evaluation.openings import Openings
from pipeline.evaluation.sweep import clip_sweep, instances, recall_at
from pipeline.scoring.event_span import first_index
from pipeline.scoring.events import EventTracker
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import FrameHeader, Prediction

CLOSING = 2.0
STEP_S = 0.125  # exact in binary, as all times here are


@st.composite
def footage(draw):
    """Smoothed scores, labels and times of a clip whose frames come when they like, some of them late."""
    count = draw(st.integers(1, 40))
    scores = np.array(draw(st.lists(st.integers(0, 6), min_size=count, max_size=count)), float)
    labels = np.array(draw(st.lists(st.booleans(), min_size=count, max_size=count)))
    steps = draw(st.lists(st.sampled_from([1, 1, 1, 2, 5]), min_size=count, max_size=count))
    return scores, labels, np.cumsum(steps) * STEP_S


RULES = st.builds(
    lambda frames, opens, close: AlertSettings(
        open_frames=frames, open_s=opens * STEP_S, close_s=close * STEP_S, cooldown_s=0.0, update_s=1e9
    ),
    st.integers(1, 4),
    st.integers(0, 6),
    st.integers(1, 6),
)


def tracked(scores, times, threshold: float, rule: AlertSettings) -> list[tuple[int, int]]:
    """First frame of each event, and that of its first alert, as the tracker opens them."""
    tracker = EventTracker("a", rule, Thresholds(threshold, CLOSING, CLOSING))
    events = []
    for index, (score, time_s) in enumerate(zip(scores, times, strict=True)):
        header = FrameHeader("a", 0, index, round(time_s / STEP_S), Fraction(1, 8), 1000.0 + time_s)
        for alert in tracker.update(Prediction(header, score, None), score, 0.0):
            if alert.kind == "new":
                events.append((first_index(alert.event.event_id), index))
    return events


def openings(scores, times, threshold: float, rule: AlertSettings) -> Openings:
    return Openings(scores, np.full(scores.size, threshold), np.full(scores.size, CLOSING), times, rule)


def sweep(scores, labels, times, threshold, rule):
    about_until = np.searchsorted(times, times + EARLY_S, side="right") - 1
    anomalies = merged_stretches(labels, times)
    return clip_sweep(openings(scores, times, threshold, rule), labels, anomalies, about_until, 3600.0)


@given(footage(), RULES)
@settings(deadline=None)
def test_at_every_threshold_the_events_are_those_that_the_tracker_opens(clip, rule):
    scores, labels, times = clip
    swept = sweep(scores, labels, times, 4.0, rule)
    anomalies = merged_stretches(labels, times)
    for threshold in (2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 7.0):
        events = tracked(scores, times, threshold, rule)
        state = np.searchsorted(-swept.levels, -(threshold - 4.0), side="right")
        false = sum(
            not any(labels[i] for i in range(scores.size) if i >= first and times[i] <= times[opened] + EARLY_S)
            for first, opened in events
        )
        found = sum(any(first <= opened <= last for _, opened in events) for first, last in anomalies)
        assert (swept.false_events[state], swept.found[state]) == (false, found)
        assert openings(scores, times, 4.0, rule).opened(threshold - 4.0) == [opened for _, opened in events]


@given(footage(), RULES)
@settings(deadline=None)
def test_an_instance_is_as_sure_as_the_highest_threshold_that_the_tracker_opens_it_at(clip, rule):
    scores, _, times = clip
    found = instances(openings(scores, times, 4.0, rule))
    for threshold in (2.0, 3.0, 4.0, 5.0, 6.0):
        opened = [at for _, at in tracked(scores, times, threshold, rule)]
        sure = [of for of in found if of.confidence >= threshold - 4.0]
        assert len(sure) == len(opened)
        assert all(of.first <= at <= of.last for of, at in zip(sure, opened, strict=True))
    assert all(scores[[of.first, of.last]].min() >= CLOSING for of in found)


def test_recall_is_the_best_that_no_more_false_events_allow_over_all_clips():
    rule, times = AlertSettings(open_frames=1, open_s=0.0, close_s=0.5), np.arange(30) * 0.5
    labels = np.zeros(30, bool)
    labels[[4, 12, 20, 28]] = True
    one, other = np.zeros(30), np.zeros(30)
    one[[4, 8, 12, 16]] = 9.0, 8.0, 7.0, 6.0  # found, false, found, false
    other[[4, 8, 20]] = 9.5, 5.0, 4.0
    clips = [sweep(scores, labels, times, 3.0, rule) for scores in (one, other)]
    assert [clip.anomalies for clip in clips] == [4, 4]
    # Two hours: none is false from 8 on, one of 7 or more is, two of 6, three of 5 (and of 4, which finds one more).
    assert [recall_at(clips, rate) for rate in (0.0, 0.5, 1.0, 1.5)] == [2 / 8, 3 / 8, 3 / 8, 4 / 8]


def test_recall_without_anomalies_or_events():
    rule, times = AlertSettings(), np.arange(5) * 0.5
    assert recall_at([sweep(np.zeros(5), np.zeros(5, bool), times, 3.0, rule)], 1.0) is None
    assert recall_at([sweep(np.zeros(5), np.ones(5, bool), times, 3.0, rule)], 1.0) == 0.0
    assert recall_at([], 1.0) is None


def test_close_thresholds_may_differ_from_frame_to_frame():
    scores, times = np.array([5.0, 3.0, 5.0, 3.0, 5.0]), np.arange(5.0)
    closings = np.array([2.0, 4.0, 2.0, 2.0, 2.0])  # the second frame has no pair, say
    found = Openings(scores, np.full(5, 4.0), closings, times, AlertSettings(open_frames=1, open_s=0.0, close_s=1.0))
    assert instances(found) == [Instance(0, 0, 1.0), Instance(2, 4, 1.0)]
