"""The like of what was dismissed is silent; what happens elsewhere, or is clearly more, or comes later, is not."""

from dataclasses import replace
from fractions import Fraction

import numpy as np

from pipeline.alerts import Region
from pipeline.scoring.dismissed import Dismissal, beside_dismissed, dismissals_of
from pipeline.types import FrameHeader, Prediction
from tests.scoring.test_still import DOOR, Watched, kinds
from tests.test_verdicts import on

TREE = (4, 6)  # row and column
PLACE = Region(6 / 16, 4 / 12, 8 / 16, 6 / 12)


def watched(*, until_at_s=1e9, level=5.0, place=PLACE):
    camera = Watched(still_after_s=None, cooldown_s=0.0)
    camera.tracker.dismissals = (Dismissal(place, level, until_at_s),)
    return camera


def test_the_like_of_what_was_dismissed_opens_nothing_and_its_frames_say_why():
    camera = watched()
    assert camera.show(60, (TREE, 5.0)) == []
    assert set(camera.suppressed) == {"dismissed"}
    assert camera.show(5) == []
    assert set(camera.suppressed) == {""}


def test_it_is_told_again_once_the_verdict_has_expired():
    camera = watched(until_at_s=1010.0)
    assert camera.show(10, (TREE, 5.0)) == []
    (new,) = camera.show(1, (TREE, 5.0))
    assert (new.kind, new.event.start_s) == ("new", 10.0)


def test_what_is_clearly_higher_at_its_place_is_told():
    assert kinds(watched().show(1, (TREE, 8.0))) == ["new"]
    assert watched().show(1, (TREE, 5.5)) == []


def test_what_was_dismissed_high_at_one_place_excuses_nothing_at_another():
    camera = watched()
    high = Region(12 / 16, 2 / 12, 14 / 16, 4 / 12)
    camera.tracker.dismissals = (*camera.tracker.dismissals, Dismissal(high, 50.0, 1e9))
    assert camera.show(10, (TREE, 5.0), (DOOR, 40.0)) == []
    camera.show(10)
    (new,) = camera.show(1, (TREE, 8.0), (DOOR, 4.0))
    assert (new.event.region.left, new.event.region.top) == (6 / 16, 4 / 12)


def test_what_happens_elsewhere_is_told_with_its_place_also_beside_it_and_though_it_stands_out_less():
    assert kinds(watched().show(1, (DOOR, 3.0))) == ["new"]
    camera = watched()
    camera.show(10, (TREE, 5.0))
    (new,) = camera.show(1, (TREE, 5.0), (DOOR, 3.0))
    assert (new.event.region.left, new.event.region.top) == (12 / 16, 2 / 12)
    assert new.event.start_s == 10.0
    assert kinds(camera.show(60, (TREE, 5.0))) == ["end"]  # the tree alone does not keep it open


def test_an_event_that_is_dismissed_while_it_lasts_ends():
    camera = Watched(still_after_s=None)
    assert kinds(camera.show(10, (TREE, 5.0))) == ["new"]
    camera.tracker.dismissals = (Dismissal(PLACE, 5.0, 1e9),)
    (end,) = camera.show(60, (TREE, 5.0))
    assert (end.kind, end.event.ended) == ("end", "over")


def test_where_nobody_could_say_where_it_was_the_whole_image_is_meant_up_to_its_height():
    camera = watched(place=Region(0.0, 0.0, 1.0, 1.0))
    assert camera.show(10, (DOOR, 4.0)) == []
    assert kinds(camera.show(1, (DOOR, 9.0))) == ["new"]


def test_a_frame_without_a_map_is_silent_up_to_the_height_of_what_was_dismissed():
    camera = watched()
    camera.show(1)
    header = _header(camera)
    for score, expected in ((5.0, -np.inf), (9.0, 9.0)):
        frame = Prediction(header, score, None, paired=True)
        assert beside_dismissed(frame, score, camera.tracker.dismissals, 2.0, 1.0)[1] == expected


def test_a_quiet_frame_costs_nothing_and_is_left_as_it_is():
    camera = watched()
    frame = Prediction(_header(camera), 0.5, None)
    assert beside_dismissed(frame, 0.5, camera.tracker.dismissals, 2.0, 1.0) == (frame, 0.5)


def test_only_dismissed_events_are_silent_each_on_its_camera():
    verdicts = [
        replace(on(), camera_id="gate", region=PLACE, peak_smoothed=3.0),
        replace(on("confirmed"), camera_id="gate"),
        replace(on(), camera_id="yard", region=None),
    ]
    found = dismissals_of(verdicts)
    assert found.keys() == {"gate", "yard"}
    assert found["gate"] == (Dismissal(PLACE, 3.0, verdicts[0].until_at_s),)
    assert found["yard"][0].place == Region(0.0, 0.0, 1.0, 1.0)


def _header(camera):
    return FrameHeader("gate", 0, camera.index, camera.index, Fraction(1, 8), 1000.0)
