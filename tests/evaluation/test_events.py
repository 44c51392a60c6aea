"""Events read from rows are those that were emitted while the rows were made."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.alerts import Alert
from pipeline.camera_settings import AlertSettings
from pipeline.errors import ScoresError
from pipeline.evaluation.events import events_of
from pipeline.scoring.camera import CameraScoring
from pipeline.scoring.camera_state import CameraState
from pipeline.scoring.light import LightMonitor
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.types import FrameHeader, Prediction
from tests.evaluation.footage import score_rows, write_scores
from tests.scoring.footage import calibrated

NORMAL = [i / 100 for i in range(100)]
UNPAIRED = [i / 30 for i in range(100)]


def spot(place, height):
    """A map of sixteen cells with one spot, or none."""
    anomaly_map = np.zeros((2, 8), np.float16)
    if place is not None:
        anomaly_map[0, place : place + 2] = np.nan_to_num(height) + 0.5
    return anomaly_map


def camera_of(alert_settings, state=None):
    light = LightMonitor("gate", 5.0, 10.0, pause_s=0.5, settles_s=0.2)
    calibration = calibrated(NORMAL, alert_settings, unpaired=UNPAIRED)
    return CameraScoring("gate", calibration, alert_settings, state, light=light)


def told_by_rows(event):
    """What rows tell of an event; their smoothed scores are of the whole image, beside a thing that stays, too."""
    names = ("event_id", "camera_id", "session", "start_s", "end_s", "started_at_s", "stretches", "threshold")
    return [getattr(event, name) for name in (*names, "peak_score", "peak_at_s", "peak_index", "peak_p_value")]


@st.composite
def runs(draw):
    """Settings, and a camera's frames: gaps, sessions, times that go back, scores that are no numbers, light."""
    alerts = AlertSettings(
        quantile=0.9,
        close_quantile=draw(st.sampled_from([0.3, 0.9])),
        smoothing_s=draw(st.sampled_from([0.0, 0.2])),
        open_frames=draw(st.integers(1, 4)),
        open_s=draw(st.sampled_from([0.0, 0.2])),
        close_s=draw(st.sampled_from([0.1, 0.4])),
        update_s=0.2,
        cooldown_s=draw(st.sampled_from([0.0, 0.5, 60.0])),
        still_after_s=draw(st.sampled_from([None, 0.5])),
    )
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0] * 9 + [1]),  # a new session
                st.integers(1, 3),
                st.sampled_from([1] * 9 + [-2]),  # ticks of media time
                st.sampled_from([0.0, 0.5, 0.95, 2.0, 3.0, float("nan")]),
                st.sampled_from([None, 0, 0, 0, 5]),  # where
                st.sampled_from([0.0] * 9 + [9.0]),  # of the light
            ),
            min_size=1,
            max_size=80,
        )
    )
    session, index, pts, frames = 0, -1, 0, []
    for rise, further, ticks, score, place, common in steps:
        session, index = session + rise, (-1 if rise else index) + further
        pts = max(0, pts + ticks)
        header = FrameHeader("gate", session, index, pts, Fraction(1, 10), 1000.0 + len(frames) / 8)
        frames.append(Prediction(header, score, spot(place, score), draw(st.booleans()), common))
    return alerts, frames, draw(st.integers(0, len(frames)))


@given(runs())
@settings(max_examples=150)
def test_rows_tell_exactly_the_events_that_were_emitted_and_their_decisions(tmp_path_factory, run):
    alert_settings, frames, killed_after = run
    camera = camera_of(alert_settings)
    scores, alerts = [], []
    for number, frame in enumerate(frames):
        if number == killed_after:  # another process goes on from what was remembered
            state = CameraState.of_json(camera.state.as_json())
            camera = camera_of(alert_settings, state)
        score, raised = camera.update(frame, 2000.0)
        scores += [score] if score is not None else []
        alerts += [alert for alert in raised if isinstance(alert, Alert)]
    alerts += [alert for alert in camera.finish(2000.0) if isinstance(alert, Alert)]
    root = tmp_path_factory.mktemp("run") / "scores"
    sink = ParquetSink(root, maps=False, rotate_s=60.0)
    sink.write(scores)
    sink.close()
    if not scores:
        return
    rows = read_clip_scores(root)["gate"]
    last = {alert.event.event_id: alert for alert in alerts}
    assert list(map(told_by_rows, events_of(rows))) == [told_by_rows(alert.event) for alert in last.values()]
    assert all(alert.kind == "end" for alert in last.values())
    assert list(last) == [alert.event.event_id for alert in alerts if alert.kind == "new"]
    assert rows.is_anomalous[rows.suppressed != ""].all()
    assert not rows.event_id[rows.suppressed != ""].any()
    assert np.array_equal(rows.is_anomalous, rows.smoothed_score >= rows.threshold)


def test_the_frames_that_opened_an_event_belong_to_it_and_the_quiet_ones_within_it_do_not(tmp_path):
    alert_settings = AlertSettings(
        quantile=0.9, close_quantile=0.3, smoothing_s=0.0, open_frames=3, close_s=0.5, update_s=9.0
    )
    camera = CameraScoring("gate", calibrated(NORMAL, alert_settings), alert_settings)
    scores = []
    for index, value in enumerate([0.0, 5.0, 2.0, 2.0, 0.0, 0.5, 0.0, 0.0]):
        header = FrameHeader("gate", 0, index, index, Fraction(1, 10), 1000.0 + index)
        scores.append(camera.update(Prediction(header, value), 2000.0)[0])
    sink = ParquetSink(tmp_path / "scores", maps=False, rotate_s=60.0)
    sink.write(scores)
    sink.close()
    rows = read_clip_scores(tmp_path / "scores")["gate"]
    told = "gate-1001000-0-1"
    assert rows.event_id.tolist() == [None, None, None, told, None, told, None, None]
    (event,) = events_of(rows)
    assert (event.event_id, event.start_s, event.end_s) == (told, 0.1, 0.5)
    assert (event.peak_score, event.peak_index, event.peak_at_s, event.started_at_s) == (5.0, 1, 1001.0, 1001.0)


@pytest.mark.parametrize("foreign", ["gate-of-another-program", ""])
def test_an_event_of_another_program_is_told_in_one_line_with_its_folder(tmp_path, foreign):
    (row,) = score_rows("gate", [1.0])
    root = write_scores(tmp_path / "scores", [replace(row, event_id=foreign, event_start_s=0.0)])
    with pytest.raises(ScoresError) as caught:
        events_of(read_clip_scores(root)["gate"])
    said = f"{root / 'camera=gate'}: event_id: expected CAMERA-MS-SESSION-INDEX, got {foreign!r}"
    assert str(caught.value) == said
