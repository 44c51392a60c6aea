"""Counting events for every threshold at once is what the real smoother and the real tracker do, one by one."""

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.event_counting import Peaks, sustained_peaks
from pipeline.scoring.smoothed import smoothed
from tests.scoring.footage import busy_scores, really_opened, stretch

FPS = 8.0  # times of frames are exact in binary
LEVELS = st.integers(0, 8)
lives = st.lists(st.tuples(LEVELS, st.integers(1, 6)), max_size=40).map(
    lambda runs: [level / 4 for level, frames in runs for _ in range(frames)]
)


def settings(**changes) -> AlertSettings:
    return AlertSettings(**{"smoothing_s": 0.0, "open_frames": 3, "close_s": 0.5, **changes})


@given(
    lives,
    st.fixed_dictionaries(
        {
            "smoothing_s": st.sampled_from([0.0, 0.3]),
            "open_frames": st.integers(1, 5),
            "open_s": st.sampled_from([0.0, 0.2, 0.25, 0.5]),
            "close_s": st.integers(1, 12).map(lambda frames: frames / FPS),
        }
    ),
    LEVELS,
    LEVELS,
)
def test_as_many_peaks_are_at_or_above_a_threshold_as_events_open_there(scores, rule, closing, rise):
    alerts = settings(**rule)
    closing, opening = (closing + 0.1) / 4, (closing + rise + 0.1) / 4  # no score, so that rounding decides nothing
    seen = smoothed([stretch(scores, FPS)], None, alerts.smoothing_s)
    found = Peaks.of(seen, closing, alerts)
    assert found.counted(opening) == really_opened(scores, FPS, alerts, opening, closing)
    assert (found.levels >= closing).all()


@given(st.lists(lives, min_size=1, max_size=3), st.integers(0, 6))
def test_the_threshold_for_some_events_opens_no_more_of_them_and_the_next_lower_one_does(clips, events):
    alerts = settings()
    found = Peaks.of(smoothed([stretch(clip) for clip in clips], None, 0.0), 0.25, alerts)
    threshold = found.threshold_for(events, 0.25)
    assert (
        sum(really_opened(clip, FPS, alerts, threshold, 0.25) for clip in clips) == found.counted(threshold) <= events
    )
    lower = found.levels[found.levels < threshold]
    assert threshold == 0.25 if not lower.size else (found.levels >= lower.max()).sum() > events


def test_thinned_footage_counts_every_minute_once_whatever_the_rate():
    scores = busy_scores(0.5, 10.0, seed=1)
    alerts = AlertSettings(open_frames=2)
    whole = smoothed([stretch(scores, 10.0)], None, alerts.smoothing_s)
    thinned = smoothed([stretch(scores, 10.0)], 2.0, alerts.smoothing_s)
    assert [len(thinned), sum(one.hours for one in thinned)] == [5, sum(one.hours for one in whole)]
    peaks = Peaks.of(thinned, 1.0, alerts)
    opened = [really_opened(scores[offset::5], 2.0, alerts, 3.0, 1.0) for offset in range(5)]
    assert min(opened) > 5
    np.testing.assert_allclose(peaks.counted(3.0), sum(opened) / 5)


def test_footage_without_a_frame_or_shorter_than_an_event_has_no_peak():
    assert Peaks.of([], 0.0, settings()).levels.size == 0
    assert sustained_peaks(np.array([9.0, 9.0]), FPS, 0.0, settings())[0].size == 0
