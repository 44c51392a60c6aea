"""One model that follows another while cameras are watched: every frame by the scale of the model that saw it."""

from fractions import Fraction

import numpy as np
import pytest

from pipeline.alerts import Notice
from pipeline.camera_settings import AlertSettings, CameraSettings, HealthSettings
from pipeline.normal_footage import AddedStretch, NormalStretch
from pipeline.scoring.camera_state import CameraState
from pipeline.scoring.scorer import Scorer
from pipeline.types import FrameHeader, Prediction
from tests.models.tiny import tiny_model

ALERTS = AlertSettings(quantile=0.9, close_quantile=0.5, smoothing_s=0.3, open_frames=1, open_s=0.0, close_s=60.0)
FPS = 10.0


def card(name, top, *, common=None):
    """Of a model whose normal frames score from 0 to ``top``."""
    clip = tuple(top * n / 100 for n in range(101))
    made, *_ = tiny_model(scenes=("gate",))
    told = {} if common is None else {"gate": ((common,) * 200,)}
    changed = {"normal_scores": {"gate": (clip,)}, "normal_common": told, "normal_fps": FPS, "fingerprint": name}
    return made.model_copy(update=changed)


OLD, NEW = card("old", 1.0), card("new", 1000.0)


def camera(**health):
    return CameraSettings(id="gate", url="rtsp://h/x", alerts=ALERTS, health=HealthSettings(**health))


def seen(first, *scores, common=0.0):
    headers = [
        FrameHeader("gate", 0, n, n, Fraction(1, round(FPS)), 1000.0 + n / FPS, n)
        for n in range(first, first + len(scores))
    ]
    return [Prediction(h, score, common_surprise=common) for h, score in zip(headers, scores, strict=True)]


def scorer_of(*cards, states=None, **health):
    scorer = Scorer(cards[0], states)
    scorer.use(cards)
    scorer.configure([camera(**health)], 0.0)
    return scorer


def kinds(outcome):
    return [alert.kind for alert in outcome.alerts]


def test_every_frame_is_set_against_the_normal_footage_of_the_model_that_saw_it():
    scorer, scores = scorer_of(OLD, NEW), []
    for model, frames in (("old", seen(0, 0.5, 0.5)), ("new", seen(2, 500.0, 500.0)), ("old", seen(4, 0.5))):
        scores += scorer.update(frames, model, 0.0).scores
    assert [score.model for score in scores] == ["old", "old", "new", "new", "old"]
    assert [round(score.p_value, 1) for score in scores] == [0.5] * 5
    assert [score.smoothed_score for score in scores] == [0.5, 0.5, 500.0, 500.0, 0.5]  # begun anew each time
    assert [score.threshold for score in scores] == pytest.approx(
        [scores[0].threshold * n for n in (1, 1, 1e3, 1e3, 1)]
    )
    assert not any(score.is_anomalous for score in scores)
    assert scorer.status()["gate"].scored == 5


def test_footage_that_was_added_meanwhile_moves_the_threshold_and_leaves_the_open_event_and_the_counts_alone():
    scorer = scorer_of(OLD)
    (opened,) = scorer.update(seen(0, 2.0), "old", 0.0).alerts
    before = scorer.status()["gate"]
    higher = AddedStretch(NormalStretch("own", FPS, np.full(50, 1.5)), "gate")
    scorer.use([OLD], {"old": (higher,)})
    assert kinds(scorer.configure([camera()], 1.0)) == []
    after = scorer.status()["gate"]
    assert (after.threshold, after.thresholds != before.thresholds) == (1.5, True)
    assert after.normal_hours == pytest.approx(before.normal_hours + 5 / 3600)
    assert (after.scored, after.events) == (1, 1)
    (score,) = scorer.update(seen(1, 2.0), "old", 0.2).scores
    assert (score.event_id, score.threshold, score.smoothed_score) == (opened.event.event_id, 1.5, 2.0)


def test_an_open_event_ends_with_its_model_and_one_that_lasts_is_the_next_ones_own():
    scorer = scorer_of(OLD, NEW)
    assert kinds(scorer.update(seen(0, 9.0), "old", 0.0)) == ["new"]
    assert kinds(scorer.update(seen(1, 9000.0), "new", 0.0)) == ["end", "new"]
    calm = scorer_of(OLD, NEW)
    began = calm.update(seen(0, 9.0), "old", 0.0)
    ended = calm.update(seen(1, 9.0), "new", 0.0)
    assert kinds(ended) == ["end"]
    assert ended.alerts[0].event.event_id == began.alerts[0].event.event_id
    assert ended.alerts[0].event.threshold == began.alerts[0].event.threshold


def test_a_frame_of_the_old_model_that_comes_again_changes_nothing():
    scorer = scorer_of(OLD, NEW)
    scorer.update(seen(0, 9.0), "old", 0.0)
    scorer.update(seen(1, 9000.0), "new", 0.0)
    again = scorer.update(seen(0, 9.0), "old", 0.0)
    assert (again.scores, again.alerts) == ([], [])
    (score,) = scorer.update(seen(2, 9000.0), "new", 0.0).scores
    assert score.event_id is not None


def test_started_anew_between_two_models_it_knows_by_which_of_them_a_camera_was_scored():
    scorer = scorer_of(OLD, NEW)
    states = scorer.update(seen(0, 9.0), "old", 0.0).states
    assert CameraState.of_json(states["gate"]).model == "old"
    scorer = scorer_of(OLD, NEW, states=states)
    assert scorer.status()["gate"].model == "old"
    goes_on = scorer.update(seen(1, 9.0), "old", 0.0)
    assert (kinds(goes_on), goes_on.scores[0].event_id is not None) == ([], True)
    assert kinds(scorer_of(NEW, states=goes_on.states).update(seen(2, 9000.0), "new", 0.0)) == ["end", "new"]


def test_a_model_that_was_not_announced_is_unknown_and_one_that_is_gone_again():
    scorer = scorer_of(OLD)
    assert scorer.knows(["gate"], "old")
    assert not scorer.knows(["gate"], "new")
    scorer.use([OLD, NEW])
    assert scorer.knows(["gate"], "new")
    scorer.use([NEW])
    assert not scorer.knows(["gate"], "old")


@pytest.mark.parametrize("tells", [True, False])
def test_a_change_of_light_lasts_over_a_change_of_model_unless_the_next_one_cannot_tell(tells):
    old, new = card("old", 1.0, common=0.0), card("new", 1.0, common=0.0 if tells else None)
    scorer = scorer_of(old, new, light_changed_s=1.0)
    begun = scorer.update(seen(0, *[0.0] * 40, common=9.0), "old", 0.0)
    assert kinds(begun) == ["light_changed"]
    after = scorer.update(seen(40, *[0.0] * 5, common=9.0), "new", 7.0)
    assert scorer.status()["gate"].light_changed is tells
    over = [alert for alert in after.alerts if isinstance(alert, Notice)]
    assert [(notice.event_id, notice.until_at_s is not None) for notice in over] == (
        [] if tells else [(begun.alerts[0].event_id, True)]
    )
