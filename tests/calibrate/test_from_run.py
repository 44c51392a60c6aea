"""What a run's Parquet files, written by the real scorer and sink, give as normal footage."""

from fractions import Fraction

import numpy as np
import pytest

from pipeline.calibrate.from_run import MARGIN_S, run_footage
from pipeline.camera_settings import CameraSettings
from pipeline.errors import ScoresError
from pipeline.evaluation.events import event_rows
from pipeline.models.normal_store import NormalStore
from pipeline.run_folder import RunFolder
from pipeline.scoring.scorer import Scorer
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.types import FrameHeader, Prediction
from tests.models.tiny import READ_OUT, tiny_model
from tests.sinks.data_set import make

FPS = 10
NOON = 1.8e9
NORMAL = tuple(np.random.default_rng(0).normal(size=3000).tolist())
CARD = tiny_model()[0].model_copy(
    update={"normal_scores": {"gate": (NORMAL,)}, "normal_fps": 10.0, "fingerprint": "a" * 64}
)


def camera(**settings):
    return CameraSettings.model_validate({"id": "gate-1", "url": "rtsp://host/1", "scene": "gate", **settings})


def run(folder, scores, *, card=CARD, settings=None, session=0, start_s=0.0, paired=None, first_serial=0):
    """Score frames at 10 per second as a run does, and close its files; gives the alerts."""
    settings = settings or camera()
    scorer = Scorer(card)
    scorer.configure([settings], NOON)
    headers = [
        FrameHeader("gate-1", session, at, at, Fraction(1, FPS), NOON + start_s + at / FPS, serial=first_serial + at)
        for at in range(len(scores))
    ]
    paired = np.ones(len(scores), bool) if paired is None else paired
    predictions = [
        Prediction(header, float(score), None, bool(has_pair))
        for header, score, has_pair in zip(headers, scores, paired, strict=True)
    ]
    outcome = scorer.update(predictions, card.fingerprint, NOON + start_s + 1e4)
    sink = make(RunFolder(folder).stream_scores)
    sink.write(outcome.scores)
    assert sink.close(10.0) is None
    return outcome.alerts


def quiet(seconds, seed=1):
    return np.random.default_rng(seed).normal(size=round(seconds * FPS))


def with_event(seconds, start_s, stop_s):
    scores = quiet(seconds)
    scores[round(start_s * FPS) : round(stop_s * FPS)] = 40.0
    return scores


EMPTY = NormalStore()


def found(folder, store=EMPTY, settings=None, **how):
    (footage,) = run_footage(folder, [settings or camera()], how.pop("card", CARD), store, **how)
    return footage


def spans(footage):
    return [(round(one.since_s - NOON, 1), round(one.until_s - NOON, 1)) for one in footage.added]


def test_all_is_taken_but_an_event_and_what_is_near_to_it(tmp_path):
    scores = with_event(120, 40, 45)
    run(tmp_path, scores)
    (event,) = event_rows(read_clip_scores(RunFolder(tmp_path).stream_scores)["gate-1"])
    footage = found(tmp_path)
    assert footage.left_out == 1
    assert footage.hours == pytest.approx(120 / 3600)
    before, after = spans(footage)
    assert before == (0.0, pytest.approx(event.rows[0] / FPS - MARGIN_S - 1 / FPS))
    assert after == (pytest.approx(event.rows[-1] / FPS + MARGIN_S + 1 / FPS), 119.9)
    first = footage.added[0]
    assert (first.scene, first.camera_id, first.zones, first.stretch.kind) == ("gate", "gate-1", "", "own")
    assert first.stretch.scores == pytest.approx(scores[: len(first.stretch.scores)])
    assert first.stretch.fps == pytest.approx(FPS)
    assert sum(one.stretch.hours for one in footage.added) < footage.hours


def test_what_the_operator_says_of_events_decides_of_their_frames(tmp_path):
    run(tmp_path, with_event(120, 40, 45))
    (event,) = event_rows(read_clip_scores(RunFolder(tmp_path).stream_scores)["gate-1"])
    whole = [(0.0, 119.9)]
    assert spans(found(tmp_path, unconfirmed_are_normal=True)) == whole
    assert spans(found(tmp_path, normal=[event.event_id])) == whole
    confirmed = found(tmp_path, unconfirmed_are_normal=True, confirmed=[event.event_id])
    assert spans(confirmed) == spans(found(tmp_path))
    assert confirmed.left_out == 1


def test_no_frame_is_taken_twice_and_later_ones_are(tmp_path):
    run(tmp_path, quiet(60))
    store = NormalStore().with_added(found(tmp_path).added)
    assert found(tmp_path, store).added == ()
    run(tmp_path, quiet(30, seed=2), session=1, start_s=100.0, first_serial=600)
    assert spans(found(tmp_path, store)) == [(100.0, 129.9)]


def test_events_left_out_earlier_are_told_with_the_hours_in_which_they_came(tmp_path):
    run(tmp_path, with_event(120, 40, 45))
    first = found(tmp_path)
    again = found(tmp_path, NormalStore().with_added(first.added))
    assert (again.added, again.left_out, again.hours) == ((), 1, first.hours)


def test_a_stretch_ends_where_frames_do_not_follow_each_other(tmp_path):
    run(tmp_path, quiet(20))
    run(tmp_path, quiet(20, seed=2), session=1, start_s=20.0, first_serial=200)
    assert spans(found(tmp_path)) == [(0.0, 19.9), (20.0, 39.9)]


def test_frames_without_a_pair_are_taken_only_where_motion_is_not_looked_at(tmp_path):
    paired = np.arange(400) >= 200
    run(tmp_path, quiet(40), paired=paired)
    assert spans(found(tmp_path)) == [(0.0, 39.9)]
    assert spans(found(tmp_path, card=CARD.model_copy(update={"read_out": READ_OUT}))) == [(20.0, 39.9)]


def test_scores_under_zones_are_kept_apart_and_none_are_taken_while_the_camera_is_not_armed(tmp_path):
    half = [[0, 0], [0.5, 0], [0.5, 1], [0, 1]]
    settings = camera(zones=[{"name": "left", "watch": half}])
    run(tmp_path, quiet(20), settings=settings)
    footage = found(tmp_path, settings=settings)
    assert [one.zones for one in footage.added] == [settings.zoning.regimes[0].key]
    never = {"name": "left", "watch": half, "active": [{"hours": "03:00-03:01"}]}
    assert found(tmp_path, settings=camera(zones=[never], time_zone="UTC")).added == ()


def test_scores_of_another_model_or_no_such_camera_are_one_line(tmp_path):
    run(tmp_path, quiet(20))
    other = CARD.model_copy(update={"fingerprint": "b" * 64})
    with pytest.raises(ScoresError, match="expected scores by the model bbbbbbbbbbbb, found those of aaaaaaaaaaaa"):
        found(tmp_path, card=other)
    with pytest.raises(ScoresError, match="expected scores of gate-9, found those of gate-1"):
        found(tmp_path, settings=camera(id="gate-9"))


def test_of_two_models_the_rows_of_one_are_taken(tmp_path):
    run(tmp_path, quiet(20))
    other = CARD.model_copy(update={"fingerprint": "b" * 64})
    run(tmp_path, quiet(30, seed=2), card=other, session=1, start_s=20.0, first_serial=200)
    assert spans(found(tmp_path)) == [(0.0, 19.9)]
    assert spans(found(tmp_path, card=other)) == [(20.0, 49.9)]
