"""Zones in scoring: footage read under them, and a camera that is held against what it sees at the time."""

import copy
import logging
from datetime import UTC, datetime
from fractions import Fraction

import numpy as np
import pytest

from pipeline.camera_settings import AlertSettings, CameraSettings
from pipeline.models.normal_file import NORMAL_FILE, StoredMaps
from pipeline.models.normal_store import NormalStore
from pipeline.normal_footage import AddedStretch, MapStretch, NormalStretch
from pipeline.scoring.calibrations import Calibrations, provisional_lines
from pipeline.scoring.run_footage import RunFootage, normal_footage
from pipeline.scoring.scorer import Scorer
from pipeline.types import FrameHeader, Prediction
from tests.models.tiny import tiny_model

MODEL = "a" * 64
CARD = tiny_model(scenes=("gate", "yard"))[0].model_copy(
    update={
        "fingerprint": MODEL,
        "normal_scores": {"gate": (tuple(n / 100 for n in range(100)),), "yard": ((1.0, 2.0),)},
        "normal_fps": 10.0,
    }
)
LEFT = {"name": "yard", "watch": [[0, 0], [0.5, 0], [0.5, 1], [0, 1]], "active": [{"hours": "22:00-06:00"}]}
RIGHT = {"name": "tree", "ignore": [[0.5, 0], [1, 0], [1, 1], [0.5, 1]]}
ALERTS = AlertSettings(quantile=0.9, close_quantile=0.5, smoothing_s=0.5, open_frames=1, open_s=0.0, close_s=60.0)
EVENING = datetime(2026, 6, 1, 21, 59, tzinfo=UTC).timestamp()


def camera(camera_id="gate", zones=(LEFT,), scene="gate", **changes):
    given = {"id": camera_id, "url": "rtsp://h/x", "scene": scene, "zones": list(zones), "time_zone": "UTC"}
    return CameraSettings.model_validate({**given, "alerts": ALERTS, **changes})


def maps_of(left, right, frames=101):
    """Of frames that score from 0 to ``left`` on the left, and to ``right`` on the right."""
    rising = np.linspace(0.0, 1.0, frames)[:, None, None]
    maps = np.concatenate([np.tile(rising * top, (1, 4, 3)) for top in (left, right)], axis=2)
    return MapStretch("own", 10.0, maps.astype(np.float16))


@pytest.fixture
def folder(tmp_path):
    store = NormalStore().with_added((), maps=[StoredMaps.of("gate", maps_of(10.0, 1000.0))])
    store.write(tmp_path, MODEL)
    return tmp_path


def test_what_maps_score_under_zones_is_read_once_for_all_cameras_of_a_scene(folder):
    footage = RunFootage()
    footage.know(CARD, folder)
    many = [camera(f"c{n}") for n in range(100)]
    told = footage.of(many)[MODEL]
    assert [(one.scene, one.zones) for one in told] == [("gate", many[0].zoning.at(0.0).key)]
    np.testing.assert_allclose(told[0].stretch.scores, np.linspace(0.0, 10.0, 101), atol=0.01)
    assert footage.of([*many, camera("other", scene="yard")])[MODEL] == told, "of another scene there are no maps"
    further = footage.of([*many, camera("other", [RIGHT])])[MODEL]
    assert further[0] is told[0]
    assert [one.stretch.scores.max().round(1) for one in further] == [10.0, 10.0]
    assert footage.of([camera(zones=[])]) == {MODEL: ()}


def test_damaged_maps_are_said_and_thresholds_are_made_without_them(folder, caplog):
    footage = RunFootage()
    footage.know(CARD, folder)
    content = bytearray((folder / NORMAL_FILE).read_bytes())
    content[-5] ^= 255
    (folder / NORMAL_FILE).write_bytes(content)
    with caplog.at_level(logging.ERROR):
        assert footage.of([camera()]) == {MODEL: ()}
    assert "scene gate has the thresholds of the whole image within zones" in caplog.text
    footage.know(CARD, folder.parent / "nothing there")
    assert footage.of([camera()]) == {MODEL: ()}


def test_within_zones_a_camera_has_thresholds_of_its_own_and_without_maps_those_of_the_image_that_prove_nothing(folder):
    key = camera().zoning.at(0.0).key
    run = AddedStretch(NormalStretch("own", 10.0, np.array([7.0] * 9)), "gate", "night", zones=key)
    made = Calibrations({MODEL: (*normal_footage(CARD, folder, [camera()])[MODEL], run)})
    known, unknown = camera(), camera(scene="yard")
    assert made.of(CARD, known, key) is made.of(CARD, camera("twin"), key)
    assert made.of(CARD, known, key).thresholds.opening == pytest.approx(8.55, abs=0.05), "smoothed"
    assert made.of(CARD, known).thresholds.opening == pytest.approx(0.855, abs=0.005)
    own = made.of(CARD, camera("night"), key).thresholds
    assert own.hours > made.of(CARD, known, key).thresholds.hours > 0.0
    stopgap = made.of(CARD, unknown, key).thresholds
    assert (stopgap.opening, stopgap.hours) == (made.of(CARD, unknown).thresholds.opening, 0.0)
    assert (made.knows_zones(CARD, known), made.knows_zones(CARD, unknown)) == (True, False)
    (line,) = provisional_lines([known, unknown], CARD, {MODEL: (run,)})
    assert line.startswith("2 cameras (gate, gate): beside the model lie no maps")


def test_calibrations_outlive_copies_of_their_footage_until_it_says_something_else_or_nobody_asks(folder):
    footage = {MODEL: normal_footage(CARD, folder, [camera()])[MODEL]}
    key, made = camera().zoning.at(0.0).key, Calibrations(footage)
    first, of_yard = made.of(CARD, camera(), key), made.of(CARD, camera(scene="yard", zones=[]))
    made.use(copy.deepcopy(footage))  # as they come from another process
    assert made.of(CARD, camera(), key) is first
    made.use({MODEL: (*footage[MODEL], AddedStretch(NormalStretch("own", 10.0, np.ones(9)), "yard"))})
    assert made.of(CARD, camera(), key) is first, "its scene is another one"
    assert made.of(CARD, camera(scene="yard", zones=[])).thresholds.hours > of_yard.thresholds.hours
    for other in ([7.0] * 9, [8.0] * 9):
        made.use({MODEL: (AddedStretch(NormalStretch("own", 10.0, np.array(other)), "gate", zones=key),)})
        assert made.of(CARD, camera(), key).thresholds.opening == other[0]
    made.use(footage)
    kept = made.of(CARD, camera(), key)
    made.use(footage)
    made.use(footage)
    assert made.of(CARD, camera(), key) is not kept


def frames(at_s, *scores, first=0):
    """One a second."""
    return [
        Prediction(FrameHeader("gate", 0, n, n, Fraction(1), at_s + n - first, n), score)
        for n, score in enumerate(scores, first)
    ]


def scorer_of(folder, settings, states=None):
    scorer = Scorer(CARD, states)
    scorer.use([CARD], normal_footage(CARD, folder, [settings]))
    scorer.configure([settings], 0.0)
    return scorer


def test_at_each_time_scores_are_held_against_what_is_seen_then_and_nothing_opens_while_no_zone_is_watched(folder):
    scorer = scorer_of(folder, camera())
    assert scorer.status()["gate"].armed
    day = scorer.update(frames(EVENING, 50.0, 50.0), MODEL, 0.0)
    assert ([score.suppressed for score in day.scores], day.alerts) == (["not_armed"] * 2, [])
    assert not scorer.status()["gate"].armed
    night = scorer.update(frames(EVENING + 60.0, 5.0, 5.0, first=2), MODEL, 0.0)
    assert [score.smoothed_score for score in night.scores] == [5.0, 5.0], "begun anew"
    assert ([score.is_anomalous for score in night.scores], night.alerts) == ([False] * 2, [])
    assert night.scores[0].p_value == pytest.approx(0.5, abs=0.02)
    assert day.scores[0].thresholds != night.scores[0].thresholds
    (new,) = scorer.update(frames(EVENING + 62.0, 80.0, first=4), MODEL, 0.0).alerts
    assert (new.kind, new.event.thresholds) == ("new", night.scores[0].thresholds)
    assert scorer.status()["gate"].armed
    morning = scorer.update(frames(EVENING + 60.0 + 8 * 3600.0, 80.0, first=5), MODEL, 0.0)
    assert [(alert.kind, alert.event.ended) for alert in morning.alerts] == [("end", "interrupted")]


def test_an_event_goes_on_when_other_zones_hold_by_their_thresholds_and_a_restarted_scorer_does_the_same(folder):
    by_day = {**LEFT, "name": "hall", "sensitivity": 3, "active": [{"hours": "06:00-22:00"}]}
    always = camera(zones=[RIGHT, LEFT, by_day])
    states = None
    scores, alerts = [], []
    for first, at_s in enumerate((EVENING, EVENING + 60.0)):
        scorer = scorer_of(folder, always, states)
        outcome = scorer.update(frames(at_s, 80.0, first=first), MODEL, 0.0)
        states, scores, alerts = outcome.states, scores + outcome.scores, alerts + outcome.alerts
    assert [alert.kind for alert in alerts] == ["new"]
    assert [score.threshold for score in scores] == pytest.approx([3 * 8.55, 8.55], abs=0.1)
    assert scores[1].event_id == alerts[0].event.event_id
