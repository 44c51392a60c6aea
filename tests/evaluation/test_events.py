"""Events read from rows are those that were emitted while the rows were made."""

from dataclasses import replace
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.camera_settings import AlertSettings
from pipeline.errors import ScoresError
from pipeline.evaluation.events import events_of
from pipeline.scoring.camera import CameraScoring, CameraState
from pipeline.sinks.parquet import ParquetSink
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.types import FrameHeader, Prediction
from tests.evaluation.footage import score_rows, write_scores
from tests.scoring.footage import calibrated

NORMAL = [i / 100 for i in range(100)]
UNPAIRED = [i / 30 for i in range(100)]


@st.composite
def runs(draw):
    """Settings, and a camera's frames: gaps, sessions, times that go back, scores that are no numbers."""
    alerts = AlertSettings(
        quantile=0.9,
        close_quantile=draw(st.sampled_from([0.3, 0.9])),
        smoothing_s=draw(st.sampled_from([0.0, 0.2])),
        open_frames=draw(st.integers(1, 4)),
        close_s=draw(st.sampled_from([0.1, 0.4])),
        update_s=0.2,
    )
    steps = draw(
        st.lists(
            st.tuples(
                st.sampled_from([0] * 9 + [1]),  # a new session
                st.integers(1, 3),
                st.sampled_from([1] * 9 + [-2]),  # ticks of media time
                st.sampled_from([0.0, 0.5, 0.95, 2.0, 3.0, float("nan")]),
            ),
            min_size=1,
            max_size=80,
        )
    )
    session, index, pts, frames = 0, -1, 0, []
    for rise, further, ticks, score in steps:
        session, index = session + rise, (-1 if rise else index) + further
        pts = max(0, pts + ticks)
        header = FrameHeader("gate", session, index, pts, Fraction(1, 10), 1000.0 + len(frames) / 8)
        frames.append(Prediction(header, score, paired=draw(st.booleans())))
    return alerts, frames, draw(st.integers(0, len(frames)))


@given(runs())
@settings(max_examples=150)
def test_rows_tell_exactly_the_events_that_were_emitted_and_their_decisions(tmp_path_factory, run):
    alert_settings, frames, killed_after = run
    calibration = calibrated(NORMAL, alert_settings, unpaired=UNPAIRED)
    camera = CameraScoring("gate", calibration, alert_settings)
    scores, alerts = [], []
    for number, frame in enumerate(frames):
        if number == killed_after:  # another process goes on from what was remembered
            state = CameraState.of_json(camera.state.as_json())
            camera = CameraScoring("gate", calibration, alert_settings, state)
        score, raised = camera.update(frame, 2000.0)
        scores += [score] if score is not None else []
        alerts += raised
    alerts += camera.finish(2000.0)
    root = tmp_path_factory.mktemp("run") / "scores"
    sink = ParquetSink(root, maps=False, rotate_s=60.0)
    sink.write(scores)
    sink.close()
    if not scores:
        return
    rows = read_clip_scores(root)["gate"]
    assert events_of(rows) == [alert.event for alert in alerts if alert.kind == "end"]
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
