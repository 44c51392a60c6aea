"""Alarms against labels, each number checked by hand."""

from dataclasses import fields
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings
from pipeline.evaluation.alarms import (
    ClipAlarms,
    ClipAnomaly,
    ClipEvent,
    all_alarms,
    clip_alarms,
    frame_durations_s,
    merged_stretches,
    poisson_interval,
)
from pipeline.sinks.parquet_reader import CameraScores
from tests.shared import shared_path


def rows(smoothed, *, threshold=1.0, events=(), fps=10.0) -> CameraScores:
    """A clip's rows; ``events`` are (first frame, frame of the first alert, last frame)."""
    smoothed = np.asarray(smoothed, np.float64)
    count = smoothed.size
    event_id, event_start_s = np.full(count, None, object), np.full(count, np.nan)
    for first, opened, last in events:
        event_id[opened : last + 1], event_start_s[opened : last + 1] = f"a-1000-0-{first}", first / fps
    columns = dict.fromkeys(field.name for field in fields(CameraScores))  # alarms read few of them
    columns |= {
        "threshold": np.full(count, threshold), "close_threshold": np.full(count, threshold),
        "session": np.zeros(count, np.int64), "index": np.arange(count), "media_time_s": np.arange(count) / fps,
        "smoothed_score": smoothed, "is_anomalous": smoothed >= threshold, "event_id": event_id,
        "event_start_s": event_start_s, "event_stretch": np.ones(count), "suppressed": np.full(count, "", object),
    }  # fmt: skip
    return CameraScores(**columns)


def alarms_of(truth: np.ndarray, clip: CameraScores) -> ClipAlarms:
    return clip_alarms(truth, clip, AlertSettings())


def labels(text: str) -> np.ndarray:
    return np.array([letter == "#" for letter in text])


def test_normal_frames_above_the_threshold_are_a_share_of_the_normal_ones():
    found = all_alarms([alarms_of(labels("...##."), rows([0, 2, 0, 2, 0, 1]))])
    assert found.normal_above_threshold == 2 / 4
    assert found.normal_hours == pytest.approx(0.4 / 3600)


@pytest.mark.parametrize(
    ("first", "opened", "last", "false", "hit"),
    [
        (0, 2, 19, True, False),  # six frames before what it would be about, and still open then
        (1, 3, 19, False, False),  # half a second before
        (6, 8, 9, False, True),
        (9, 11, 13, False, True),
        (15, 17, 19, False, False),  # its first frame is the anomaly's last
        (16, 18, 19, True, False),
    ],
)
def test_an_event_is_false_where_nothing_is_anomalous_up_to_half_a_second_after_it_opened(
    first, opened, last, false, hit
):
    truth = labels("." * 8 + "#" * 8 + "." * 4)
    found = alarms_of(truth, rows(np.zeros(20), events=[(first, opened, last)]))
    assert found.events == (ClipEvent(first, opened, last, ((opened, last),), false, hit),)
    precision = all_alarms([found]).event_precision
    assert precision == float(hit)


def test_false_events_are_counted_per_hour_of_normal_frames():
    found = alarms_of(labels("." * 20 + "##"), rows(np.zeros(22), events=[(0, 2, 3), (8, 9, 9), (19, 20, 21)]))
    both = all_alarms([found, found])
    assert (both.events, both.false_events) == (6, 4)
    assert both.normal_hours == pytest.approx(4.0 / 3600)
    assert both.false_events_per_hour == pytest.approx(4 / 4.0 * 3600)
    assert both.false_events_interval == pytest.approx((1.0899 / 4 * 3600, 10.2416 / 4 * 3600), rel=1e-4)


def test_an_anomaly_is_found_by_an_alert_that_opens_during_it_and_late_by_the_time_until_then():
    truth = labels("..####......####......####......####")
    #               2 to 5      12 to 15  22 to 25  32 to 35
    events = [(1, 4, 6), (10, 11, 13), (20, 22, 23), (26, 27, 28)]  # late; open before; at once; after its end
    found = alarms_of(truth, rows(np.zeros(36), events=events))
    assert found.anomalies == (
        ClipAnomaly(2, 5, pytest.approx(0.2), True),
        ClipAnomaly(12, 15, None, True),
        ClipAnomaly(22, 25, 0.0, True),
        ClipAnomaly(32, 35, None, False),
    )
    together = all_alarms([found])
    assert (together.anomalies, together.anomalies_found, together.anomalies_under_alarm) == (4, 2, 3)
    assert (together.event_recall, together.event_precision) == (0.5, 0.5)
    assert together.delay_median_s == pytest.approx(0.1)
    assert together.delay_p90_s == pytest.approx(0.2)


def test_an_alarm_that_never_ends_has_found_nothing():
    found = all_alarms([alarms_of(labels("." * 8 + "##......##"), rows(np.full(18, 2.0), events=[(0, 2, 17)]))])
    assert (found.anomalies_found, found.anomalies_under_alarm, found.false_events) == (0, 2, 1)
    assert found.normal_above_threshold == 1.0


def test_what_other_thresholds_would_give_is_that_of_the_smoothed_scores():
    smoothed = np.zeros(60)
    smoothed[[10, 11, 12, 13]], smoothed[[40, 41, 42, 43]] = 3.0, 2.0  # nothing is there; half of what is
    clip = rows(smoothed, threshold=1.0)
    truth = labels("." * 41 + "####" + "." * 15)
    found = all_alarms([alarms_of(truth, clip)])
    assert (found.anomalies_found, found.recall_at_1_per_hour) == (
        0,
        0.0,
    )  # no event was written; the false one is higher
    # Nobody is found before .4 s of 5.6 s are false alarm, and everybody from half a second on.
    assert found.naudc == pytest.approx((0.4 / 5.6 + (0.1 / 5.6) / 2) / 0.2)
    smoothed[10:14] = 1.5
    assert all_alarms([alarms_of(truth, rows(smoothed, threshold=1.0))]).recall_at_1_per_hour == 1.0


def test_what_does_not_exist_is_none():
    anomalous = all_alarms([alarms_of(labels("##"), rows([0.0, 0.0]))])
    assert (
        anomalous.normal_above_threshold is anomalous.false_events_per_hour is anomalous.false_events_interval is None
    )
    assert anomalous.delay_median_s is anomalous.delay_p90_s is anomalous.event_precision is anomalous.naudc is None
    assert (anomalous.event_recall, anomalous.recall_at_1_per_hour) == (0.0, 0.0)
    normal = all_alarms([alarms_of(labels(".."), rows([0.0, 0.0]))])
    assert (normal.anomalies, normal.false_events_per_hour) == (0, 0.0)
    assert normal.event_recall is normal.recall_at_1_per_hour is normal.naudc is None
    one_frame = all_alarms([alarms_of(labels("."), rows([0.0]))])
    assert (one_frame.normal_hours, one_frame.false_events_per_hour) == (0.0, None)


@given(st.lists(st.tuples(st.booleans(), st.integers(0, 20)), min_size=1, max_size=40), st.integers(0, 19))
def test_a_higher_threshold_leaves_no_larger_share_above_it(frames, threshold):
    truth, smoothed = np.array([label for label, _ in frames]), [score for _, score in frames]
    shares = [
        all_alarms([alarms_of(truth, rows(smoothed, threshold=height))]).normal_above_threshold
        for height in (threshold, threshold + 1)
    ]
    assert shares == [None, None] if truth.all() else 0.0 <= shares[1] <= shares[0] <= 1.0


@pytest.mark.parametrize(("count", "interval"), [(0, (0.0, 3.6889)), (1, (0.0253, 5.5716)), (10, (4.7954, 18.3904))])
def test_the_interval_of_a_poisson_mean_is_garwoods(count, interval):
    assert poisson_interval(count) == pytest.approx(interval, abs=1e-4)


def test_time_that_goes_back_does_not_pass_and_the_last_frame_lasts_as_long_as_most():
    assert frame_durations_s(np.array([0.0, 0.1, 0.05, 0.15, 0.25])) == pytest.approx([0.1, 0.0, 0.1, 0.1, 0.1])
    assert frame_durations_s(np.array([3.0])).tolist() == [0.0]


def test_stretches_with_half_a_second_of_normal_frames_between_them_are_one_anomaly():
    ten_fps = np.arange(20) / 10
    assert merged_stretches(labels(".##.....##......#..."), ten_fps) == [(1, 9), (16, 16)]
    assert merged_stretches(labels("." * 20), ten_fps) == []
    assert merged_stretches(labels("#" * 20), ten_fps) == [(0, 19)]


@given(st.lists(st.booleans(), min_size=1, max_size=60))
def test_anomalies_begin_and_end_anomalous_and_leave_no_anomalous_frame_out(frames):
    truth, times = np.array(frames), np.arange(len(frames)) / 10
    found = merged_stretches(truth, times)
    assert all(truth[first] and truth[last] for first, last in found)
    inside = np.zeros_like(truth)
    for first, last in found:
        inside[first : last + 1] = True
    assert not (truth & ~inside).any()
    assert all(after - last > 6 for (_, last), (after, _) in pairwise(found))


def test_the_real_labels_of_shanghaitech_hold_126_anomalies():
    folder = shared_path("data/stc_labels/test_frame_mask")
    clips = [np.load(path).astype(bool) for path in sorted(folder.glob("*.npy"))]
    assert sum(len(merged_stretches(clip, np.arange(clip.size) / 24)) for clip in clips) == 126


def test_no_clips_have_no_alarms():
    nothing = all_alarms([])
    assert (nothing.events, nothing.anomalies, nothing.normal_above_threshold) == (0, 0, None)
