"""What stays is told once; what happens beside it, or is clearly more, is told all the same."""

from datetime import UTC
from fractions import Fraction

import numpy as np
import pytest

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.events import EventTracker
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import FrameHeader, Prediction

FPS = 8
SETTINGS = AlertSettings(
    smoothing_s=0.0, open_frames=3, open_s=0.0, close_s=1.0, update_s=1e9, cooldown_s=10.0, still_after_s=20.0
)
BAG, DOOR = (8, 2), (2, 12)  # row and column


class Watched:
    """A camera's tracker, shown seconds of things in the image: (row, column) and how high each stands out."""

    def __init__(self, **changes):
        self.settings = SETTINGS.model_copy(update=changes)
        self.tracker = EventTracker("gate", self.settings, Thresholds(2.0, 1.0, 1.0), time_zone=UTC)
        self.index = 0
        self.suppressed = []

    def show(self, seconds, *things, size=2, session=0):
        """Alerts while it shows them; the frame's score is that of the highest, and the map exceeds it by 1."""
        alerts, self.suppressed = [], []
        for _ in range(round(seconds * FPS)):
            anomaly_map = np.zeros((12, 16), np.float16)
            score = 0.0
            for (row, column), height in (thing(self.index) if callable(thing) else thing for thing in things):
                place = slice(row, row + size), slice(column, column + size)
                anomaly_map[place] = np.maximum(anomaly_map[place], height + 1.0)
                score = max(score, height)
            time_s = self.index / FPS
            header = FrameHeader("gate", session, self.index, self.index, Fraction(1, FPS), 1000.0 + time_s)
            prediction = Prediction(header, score, anomaly_map, paired=True)
            alerts += self.tracker.update(prediction, score, 0.0)
            self.suppressed.append(self.tracker.suppressed)
            self.index += 1
        return alerts

    def with_a_bag(self, height=5.0):
        (new, end) = self.show(30, (BAG, height))
        assert (new.kind, end.kind, end.event.ended) == ("new", "end", "still_there")
        return self


def kinds(alerts):
    return [alert.kind for alert in alerts]


def test_a_bag_that_is_left_is_told_once_and_is_silent_while_it_stays():
    camera = Watched().with_a_bag()
    assert camera.show(1800, (BAG, 5.0)) == []
    assert set(camera.suppressed) == {"still_there"}
    assert camera.tracker.state.opened == 1


def test_the_end_says_where_it_is_and_for_how_long_it_was_watched():
    _, end = Watched().show(30, (BAG, 5.0))
    assert end.event.end_s - end.event.start_s == pytest.approx(20.0, abs=1.0)
    region = end.event.region
    assert (region.left, region.top, region.right, region.bottom) == (2 / 16, 8 / 12, 4 / 16, 10 / 12)


def test_a_person_elsewhere_is_told_with_the_place_of_that_person_even_if_the_bag_stands_out_more():
    camera = Watched().with_a_bag(height=9.0)
    (new,) = camera.show(1, (BAG, 9.0), (DOOR, 4.0))
    assert (new.kind, new.event.region.left, new.event.region.top) == ("new", 12 / 16, 2 / 12)
    assert new.event.peak_smoothed == 4.0
    assert set(camera.suppressed) == {""}
    (end,) = camera.show(60, (BAG, 9.0))  # the bag alone does not keep it open
    assert (end.kind, end.event.ended, end.event.end_s) == ("end", "over", 31.0 - 1 / FPS)
    assert set(camera.suppressed) == {"still_there"}


def test_what_is_less_than_the_threshold_beside_the_bag_is_nothing():
    assert Watched().with_a_bag().show(60, (BAG, 5.0), (DOOR, 1.9)) == []


def test_something_clearly_higher_at_its_place_is_told():
    camera = Watched().with_a_bag(height=5.0)
    assert camera.show(10, (BAG, 6.5)) == []
    (new,) = camera.show(1, (BAG, 7.5))
    assert new.kind == "new"


def test_once_its_place_has_been_quiet_for_the_cooldown_it_can_be_told_again():
    camera = Watched().with_a_bag()
    assert camera.show(9) == []
    assert camera.show(5, (BAG, 5.0)) == []
    assert camera.show(11) == []
    (new,) = camera.show(5, (BAG, 5.0))
    assert new.kind == "new"


def test_that_it_is_gone_is_seen_while_something_happens_elsewhere():
    camera = Watched().with_a_bag()
    assert kinds(camera.show(15, (DOOR, 5.0))) == ["new"]
    assert camera.tracker.state.still == []


def test_what_passes_in_front_of_it_does_not_make_it_move():
    camera = Watched()
    alerts = []
    for _ in range(5):
        alerts += camera.show(4, (BAG, 5.0))
        alerts += camera.show(2, (BAG, 5.0), (DOOR, 8.0))
    alerts += camera.show(4, (BAG, 5.0))
    assert kinds(alerts) == ["new", "end"]
    assert alerts[-1].event.ended == "still_there"


def test_what_moves_is_never_still_there():
    def walker(index):
        return (2 + index // 16 % 8, 1 + index // 8 % 13), 5.0

    assert kinds(Watched().show(300, walker)) == ["new"]


def test_what_covers_more_than_half_of_the_image_silences_nothing():
    assert kinds(Watched().show(300, ((0, 2), 5.0), size=12)) == ["new"]


def test_a_thing_that_comes_and_goes_within_the_cooldown_is_one_that_stays():
    camera, alerts = Watched(), []
    for _ in range(10):
        alerts += camera.show(1, (BAG, 5.0)) + camera.show(2)
    assert kinds(alerts[:5]) == ["new", "end", "update", "end", "update"]
    assert alerts[-1].event.ended == "still_there"
    assert len({alert.event.event_id for alert in alerts}) == 1


def test_it_is_known_over_a_reconnect_and_forgotten_where_scores_share_no_scale():
    camera = Watched().with_a_bag()
    assert camera.show(30, (BAG, 5.0), session=1) == []
    assert camera.tracker.leave_scale(0.0) == []
    assert kinds(camera.show(5, (BAG, 5.0), session=1)) == ["new"]


def test_each_of_several_is_told_once():
    camera, shown = Watched(), []
    for place in ((1, 1), (1, 6), (1, 11), (8, 1), (8, 6)):
        shown.append((place, 5.0))
        assert kinds(camera.show(25, *shown)) == ["new", "end"]
    assert camera.show(60, *shown) == []
    assert kinds(camera.show(25, *shown, ((8, 11), 5.0))) == ["new", "end"]


def test_where_it_is_turned_off_an_event_lasts():
    assert kinds(Watched(still_after_s=None).show(300, (BAG, 5.0))) == ["new"]


@pytest.mark.parametrize("anomaly_map", [None, np.full((12, 16), np.nan, np.float16)])
def test_a_frame_whose_map_tells_nothing_is_taken_for_the_thing_unless_it_is_clearly_more(anomaly_map):
    tracker = Watched().with_a_bag(height=5.0).tracker

    def kinds_of(scores, first):
        found = []
        for index, score in enumerate(scores, first):
            header = FrameHeader("gate", 0, index, index, Fraction(1, FPS), 1000.0 + index / FPS)
            found += kinds(tracker.update(Prediction(header, score, anomaly_map, paired=True), score, 0.0))
        return found

    assert kinds_of([4.0] * 20, 1000) == []
    assert tracker.suppressed == "still_there"
    assert kinds_of([9.0] * 3, 1020) == ["new"]
