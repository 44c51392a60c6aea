import itertools
import re
from dataclasses import replace
from datetime import UTC
from fractions import Fraction
from zoneinfo import ZoneInfo

import numpy as np
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule

from pipeline.camera_settings import AlertSettings
from pipeline.scoring.events import EventTracker
from pipeline.scoring.thresholds import Thresholds
from pipeline.types import FrameHeader, Prediction
from tests.scoring.footage import calibrated

FPS = 8  # times of frames are exact in binary
OPEN_AT, CLOSE_BELOW = 2.0, 1.0
LOW, MIDDLE, HIGH = 0.0, 1.5, 3.0


def frame(index, score, *, session=0, media_time_s=None, anomaly_map=None) -> Prediction:
    pts = index if media_time_s is None else round(media_time_s * FPS)
    header = FrameHeader("gate", session, index, pts, Fraction(1, FPS), 1000.0 + 100 * session + index / FPS)
    return Prediction(header, score, anomaly_map)


def tracker(**changes) -> EventTracker:
    given = {"open_frames": 3, "open_s": 0.0, "close_s": 0.5, "update_s": 1.0, "cooldown_s": 0.0, "smoothing_s": 0.0}
    settings = AlertSettings(**{**given, **changes})
    return EventTracker("gate", settings, Thresholds(OPEN_AT, CLOSE_BELOW, CLOSE_BELOW), time_zone=UTC)


def feed(events: EventTracker, scores, *, session=0, first=0):
    return [
        alert
        for index, score in enumerate(scores, first)
        for alert in events.update(frame(index, score, session=session), score, 5000.0 + index)
    ]


def test_an_event_opens_with_enough_anomalous_frames_in_a_row_and_starts_at_the_first():
    events = tracker()
    (alert,) = feed(events, [LOW, LOW, HIGH, 5.0, HIGH])
    event = alert.event
    assert (alert.kind, alert.emitted_at_s) == ("new", 5004.0)
    assert (event.start_s, event.end_s, event.started_at_s) == (2 / FPS, None, 1000.0 + 2 / FPS)
    assert (event.peak_score, event.peak_index, event.peak_at_s) == (5.0, 3, 1000.0 + 3 / FPS)
    assert (event.threshold, event.session, event.camera_id) == (OPEN_AT, 0, "gate")
    assert events.state.opened == 1


def test_a_score_at_the_threshold_counts():
    assert [a.kind for a in feed(tracker(open_frames=1), [OPEN_AT])] == ["new"]


def test_too_few_anomalous_frames_in_a_row_raise_nothing():
    assert feed(tracker(), [HIGH, HIGH, MIDDLE] * 10) == []


def test_an_event_ends_at_its_last_active_frame_once_it_was_quiet_long_enough():
    alerts = feed(tracker(), [HIGH] * 3 + [MIDDLE] + [LOW] * 4)
    assert [alert.kind for alert in alerts] == ["new", "end"]
    assert alerts[-1].event.end_s == 3 / FPS


def test_scores_between_the_thresholds_keep_an_event_open():
    assert [a.kind for a in feed(tracker(update_s=100.0), [HIGH] * 3 + [MIDDLE] * 50)] == ["new"]


def test_a_quiet_time_too_short_does_not_end_an_event():
    assert [a.kind for a in feed(tracker(update_s=100.0), [HIGH] * 3 + ([LOW] * 3 + [MIDDLE]) * 10)] == ["new"]


def test_updates_come_at_growing_intervals_and_carry_the_peak_so_far():
    alerts = feed(tracker(), [HIGH] * 5 + [9.0] + [HIGH] * 1600)
    assert [alert.kind for alert in alerts] == ["new"] + ["update"] * 8
    emitted = [round(alert.emitted_at_s - 5000) for alert in alerts]
    assert [(b - a) / FPS for a, b in itertools.pairwise(emitted)] == [1, 2, 4, 8, 16, 32, 64, 64]
    assert alerts[1].event.peak_score == 9.0


def test_a_new_session_ends_the_event_of_the_old_one_and_starts_counting_again():
    events = tracker()
    feed(events, [HIGH] * 4)
    alerts = feed(events, [HIGH] * 3, session=1)
    assert [alert.kind for alert in alerts] == ["end", "new"]
    assert [alert.event.session for alert in alerts] == [0, 1]
    assert alerts[0].event.end_s == 3 / FPS


def test_anomalous_frames_on_both_sides_of_a_reconnect_do_not_add_up():
    events = tracker()
    assert feed(events, [HIGH] * 2) + feed(events, [HIGH] * 2, session=1) == []


def test_the_end_of_a_stream_ends_its_event_once():
    events = tracker()
    feed(events, [HIGH] * 3)
    assert [alert.kind for alert in events.finish(1.0)] == ["end"]
    assert events.finish(2.0) == []


def test_time_that_goes_back_in_a_damaged_stream_neither_ends_an_event_nor_hangs_it():
    events = tracker(open_frames=1, update_s=100.0)
    alerts = events.update(frame(0, HIGH, media_time_s=100.0), HIGH, 0.0)
    for i in range(1, 10):
        alerts += events.update(frame(i, LOW, media_time_s=10.0 + i / FPS), LOW, 0.0)
    assert [alert.kind for alert in alerts] == ["new", "end"]
    assert alerts[-1].event.end_s == alerts[-1].event.start_s == 100.0


def test_ids_are_the_same_for_the_same_frames_and_name_the_first_of_them():
    first, second = (feed(tracker(), [LOW] + [HIGH] * 3)[0].event.event_id for _ in range(2))
    assert first == second == "gate-1000125-0-1"
    assert re.fullmatch(r"[A-Za-z0-9._-]+", first)


def test_the_region_is_that_of_the_peak_frame():
    events = tracker()
    alerts = []
    for i, score in enumerate([3.0, 7.0, 4.0]):
        anomaly_map = np.zeros((4, 8), np.float16)
        anomaly_map[i, 2 * i] = 1.0
        alerts += events.update(frame(i, score, anomaly_map=anomaly_map), score, 0.0)
    region = alerts[0].event.region
    assert (region.left, region.top, region.right, region.bottom) == (2 / 8, 1 / 4, 3 / 8, 2 / 4)


class Life(RuleBasedStateMachine):
    """Any frames whatever; a second, naive reading of the rules says which events there must be."""

    @initialize(open_frames=st.integers(1, 4), close_frames=st.integers(1, 8), update_frames=st.integers(1, 20))
    def begin(self, open_frames, close_frames, update_frames):
        self.open_frames, self.close_frames = open_frames, close_frames
        self.events = tracker(open_frames=open_frames, close_s=close_frames / FPS, update_s=update_frames / FPS)
        self.session, self.index = 0, 0
        self.alerts = []
        self.expected = []  # [session, start index, end index or None]
        self.run, self.quiet = [], 0

    @rule(scores=st.lists(st.sampled_from([LOW, MIDDLE, HIGH]), min_size=1, max_size=30))
    def frames(self, scores):
        for score in scores:
            self.alerts += self.events.update(frame(self.index, score, session=self.session), score, 0.0)
            self._expect(score)
            self.index += 1

    @rule()
    def reconnect(self):
        self.session, self.index = self.session + 1, 0
        self._expect_end()
        # The tracker learns of the new session with its first frame.
        self.frames([LOW])

    @rule()
    def finish(self):
        self.alerts += self.events.finish(0.0)
        self._expect_end()

    def _expect(self, score):
        if self.expected and self.expected[-1][3]:
            event = self.expected[-1]
            self.quiet = 0 if score >= CLOSE_BELOW else self.quiet + 1
            if self.quiet == 0:
                event[2] = self.index
            elif self.quiet >= self.close_frames:
                self._expect_end()
            return
        self.run = [*self.run, self.index] if score >= OPEN_AT else []
        if len(self.run) == self.open_frames:
            self.expected.append([self.session, self.run[0], self.index, True])
            self.run, self.quiet = [], 0

    def _expect_end(self):
        self.run = []
        if self.expected:
            self.expected[-1][3] = False

    @invariant()
    def alerts_tell_of_one_event_after_the_other(self):
        if not hasattr(self, "alerts"):
            return
        told, previous_end = [], (-1, -1.0)
        for alert in self.alerts:
            event = alert.event
            if alert.kind == "new":
                assert not told or told[-1][2] == "end"
                assert (event.session, event.start_s) > previous_end
                assert event.event_id not in {known for _, known, _ in told}
                told.append([event, event.event_id, "new"])
            else:
                assert told[-1][2] != "end"
                assert event.event_id == told[-1][1]
                assert event.peak_score >= told[-1][0].peak_score
                assert (event.end_s is None) == (alert.kind == "update")
                told[-1][0], told[-1][2] = event, alert.kind
                if alert.kind == "end":
                    assert event.end_s >= event.start_s
                    assert event.started_at_s <= event.peak_at_s <= event.started_at_s + event.end_s - event.start_s
                    previous_end = (event.session, event.end_s)
        assert self.events.state.opened == len(told) == len(self.expected)
        for (event, _, kind), (session, start, end, is_open) in zip(told, self.expected, strict=True):
            assert (event.session, event.start_s) == (session, start / FPS)
            assert (kind != "end") == is_open
            if not is_open:
                assert event.end_s == end / FPS


TestLife = Life.TestCase


def spot(place):
    """A map with one spot at one of four places."""
    anomaly_map = np.zeros((2, 8), np.float16)
    anomaly_map[:, 2 * place : 2 * place + 1] = 9.0
    return anomaly_map


def seen(events: EventTracker, parts, *, session=0):
    """Alerts of stretches of (seconds, score, place)."""
    alerts, index = [], events.state.time_s * FPS if events.state.session == session else 0
    for seconds, score, place in parts:
        for _ in range(round(seconds * FPS)):
            index += 1
            shown = frame(round(index), score, session=session, anomaly_map=spot(place))
            alerts += events.update(shown, score, 0.0)
    return alerts


def test_an_event_opens_only_once_anomalous_frames_have_come_for_long_enough():
    events = tracker(open_frames=1, open_s=0.5)
    assert feed(events, [HIGH] * 4 + [LOW] + [HIGH] * 4) == []
    (alert,) = feed(events, [HIGH], first=9)
    assert (alert.event.start_s, alert.event.end_s) == (5 / FPS, None)


def test_what_opens_at_its_place_within_the_cooldown_goes_on_with_the_event():
    events = tracker(cooldown_s=10.0, update_s=100.0)
    alerts = seen(events, [(2, HIGH, 1), (8, LOW, 1), (2, 5.0, 1), (8, LOW, 1)])
    assert [alert.kind for alert in alerts] == ["new", "end", "update", "end"]
    first, _, again, last = (alert.event for alert in alerts)
    assert {alert.event.event_id for alert in alerts} == {first.event_id}
    assert [alert.event.stretches for alert in alerts] == [1, 1, 2, 2]
    assert (again.start_s, again.end_s, again.ended, again.peak_score) == (first.start_s, None, None, 5.0)
    assert (last.end_s, last.ended, last.peak_smoothed) == (12.0, "over", 5.0)
    assert events.state.opened == 1


def test_what_opens_elsewhere_later_or_in_another_session_is_an_event_of_its_own():
    for parts in ([(2, HIGH, 3)], [(20, LOW, 1), (2, HIGH, 1)]):
        events = tracker(cooldown_s=10.0, update_s=100.0)
        alerts = seen(events, [(2, HIGH, 1), (2, LOW, 1), *parts])
        assert [alert.kind for alert in alerts] == ["new", "end", "new"]
    events = tracker(cooldown_s=10.0, update_s=100.0)
    alerts = seen(events, [(2, HIGH, 1), (2, LOW, 1)]) + seen(events, [(2, HIGH, 1)], session=1)
    assert [alert.kind for alert in alerts] == ["new", "end", "new"]


def test_an_event_that_comes_back_and_back_is_a_new_one_after_ten_cooldowns():
    events = tracker(cooldown_s=4.0, update_s=100.0, still_after_s=None)
    news = [alert.event.start_s for alert in seen(events, [(1, HIGH, 1), (3, LOW, 1)] * 30) if alert.kind == "new"]
    assert news == [1 / FPS, 40 + 1 / FPS, 80 + 1 / FPS]


def test_while_nothing_is_watched_no_event_is_open_and_frames_say_so():
    events = tracker()
    assert [alert.kind for alert in feed(events, [HIGH] * 4)] == ["new"]
    (end,) = events.update(frame(4, HIGH), HIGH, 0.0, held="not_armed")
    assert (end.kind, end.event.ended, end.event.end_s) == ("end", "interrupted", 3 / FPS)
    assert (events.joined, events.suppressed) == (None, "not_armed")
    assert events.update(frame(5, LOW), LOW, 0.0, held="not_armed") == []
    assert events.suppressed == ""
    assert [alert.kind for alert in feed(events, [HIGH] * 3, first=6)] == ["new"]


def test_while_the_light_changes_an_open_event_waits():
    events = tracker()
    feed(events, [HIGH] * 4)
    assert [events.update(frame(index, 99.0), 99.0, 0.0, held="light") for index in range(4, 80)] == [[]] * 76
    assert events.suppressed == "light"
    (end,) = feed(events, [LOW] * 4, first=80)
    assert (end.event.end_s, end.event.peak_score) == (3 / FPS, HIGH)


def test_an_alert_tells_by_what_it_opened_and_how_rare_it_is_to_its_end():
    scores = np.random.default_rng(0).gamma(2.0, size=20_000)
    settings = AlertSettings(budget="1/hour", smoothing_s=0.0, open_s=0.0, update_s=1.0)
    thresholds = calibrated(scores, settings).thresholds
    events = EventTracker(
        "gate", settings, thresholds, time_zone=ZoneInfo("Europe/Berlin"), zone_of=lambda region, _: f"{region.left}"
    )
    low, high = thresholds.opening * 1.01, thresholds.opening * 5
    alerts = []
    for index, score in enumerate([low] * 9 + [high] * 20 + [low] * 3):
        shown = replace(frame(index, score, anomaly_map=spot(2)), paired=True, motion_share=0.75)
        if index == 30:
            events.thresholds = Thresholds(0.0, 0.0, 0.0, version="another")
        alerts += events.update(shown, score, 0.0, p_value=1 / score)
    alerts += events.finish(0.0)
    assert [alert.kind for alert in alerts] == ["new", "update", "update", "end"]
    new, risen, _, end = (alert.event for alert in alerts)
    assert (new.severity, risen.severity) == ("low", "high")
    assert (new.started_local, new.zone, new.channel) == ("1970-01-01T01:16:40+01:00", "0.5", "motion")
    assert new.once_in_h == thresholds.once_in_h(low)
    assert (end.threshold, end.thresholds) == (thresholds.opening, thresholds.version)
    assert (end.expected_per_hour, end.provisional) == (thresholds.expected_per_hour, thresholds.provisional)
    assert (end.peak_smoothed, end.peak_p_value, end.ended) == (high, 1 / high, "interrupted")
