import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.camera_settings import HealthSettings
from pipeline.runtime.health import HealthTracker

SETTINGS = HealthSettings(offline_s=5.0)


def started(now_s, settings=SETTINGS):
    """A tracker that has just met its camera."""
    tracker = HealthTracker("gate", settings)
    assert look(tracker, now_s) == []
    return tracker


def look(tracker, now_s, frame_at_s=None, conditions=(), error="", paused=False):
    return tracker.update(last_frame_at_s=frame_at_s, conditions=conditions, error=error, paused=paused, now_s=now_s)


def test_a_camera_that_is_down_from_the_start_is_offline_once_with_the_reason_and_online_once_it_came():
    tracker = started(100.0)
    assert look(tracker, 104.9, error="nobody answers") == []
    (offline,) = look(tracker, 105.0, error="nobody answers")
    assert (offline.kind, offline.camera_id, offline.since_at_s, offline.until_at_s) == (
        "camera_offline",
        "gate",
        100.0,
        None,
    )
    assert offline.reason == "nobody answers (no frame for 5 s)"
    assert look(tracker, 200.0) == []
    assert tracker.conditions == {"offline"}
    (online,) = look(tracker, 300.0, frame_at_s=299.9)
    assert (online.kind, online.event_id, online.since_at_s, online.until_at_s) == (
        "camera_online",
        offline.event_id,
        100.0,
        300.0,
    )
    assert look(tracker, 304.0, frame_at_s=299.9) == []


def test_what_the_picture_shows_is_told_when_it_begins_and_when_it_ends():
    tracker = started(0.0)
    dark, moved = look(tracker, 50.0, 50.0, {"moved", "dark"})
    assert (dark.kind, moved.kind) == ("camera_dark", "camera_moved")
    assert dark.since_at_s == 40.0
    assert look(tracker, 51.0, 51.0, {"moved", "dark"}) == []
    (over,) = look(tracker, 52.0, 52.0, {"dark"})
    assert (over.kind, over.event_id, over.until_at_s) == ("camera_moved", moved.event_id, 52.0)
    assert tracker.conditions == {"dark"}


def test_a_paused_camera_is_not_offline_and_gets_its_full_time_when_it_is_resumed():
    tracker = started(0.0)
    assert look(tracker, 100.0, paused=True) == []
    assert look(tracker, 104.0) == []
    assert [notice.kind for notice in look(tracker, 105.0)] == ["camera_offline"]
    (over,) = look(tracker, 106.0, paused=True)
    assert (over.kind, over.reason, over.until_at_s) == ("camera_offline", "the camera was paused", 106.0)


@pytest.mark.parametrize("set_back_s", [3600.0, 0.0, -3600.0])
def test_a_clock_that_is_set_neither_hides_an_outage_nor_makes_it_last(set_back_s):
    tracker = started(10_000.0)
    assert look(tracker, 10_001.0, 10_000.9) == []
    now_s = 10_001.0 - set_back_s
    assert look(tracker, now_s + 1.0, now_s + 0.9) == []
    assert look(tracker, now_s + 5.9, now_s + 0.9) == []
    (offline,) = look(tracker, now_s + 6.1, now_s + 0.9)
    assert offline.kind == "camera_offline"
    (online,) = look(tracker, now_s - 3590.0, now_s - 3590.1)  # and back once more
    assert (online.kind, online.until_at_s) == ("camera_online", offline.since_at_s)


@pytest.mark.parametrize("ahead_s", [-60.0, 60.0])
def test_a_camera_on_a_node_with_another_time_is_not_offline_while_its_frames_come(ahead_s):
    tracker = started(1000.0)
    for elapsed_s in range(1, 30):
        assert look(tracker, 1000.0 + elapsed_s, 1000.0 + elapsed_s + ahead_s) == []
    assert [notice.kind for notice in look(tracker, 1034.5, 1029.0 + ahead_s)] == ["camera_offline"]


def test_offline_can_be_turned_off():
    tracker = started(0.0, SETTINGS.model_copy(update={"offline_s": None}))
    assert look(tracker, 1e6) == []


LOOKS = st.lists(
    st.tuples(
        st.floats(0.1, 20.0), st.booleans(), st.sets(st.sampled_from(["frozen", "dark", "moved"])), st.booleans()
    ),
    max_size=40,
)


@given(LOOKS)
def test_whatever_happens_every_condition_begins_before_it_ends_and_no_two_are_open_at_once(looks):
    tracker, now_s, frame_at_s, notices = HealthTracker("gate", HealthSettings()), 0.0, None, []
    for elapsed_s, frame_came, conditions, paused in looks:
        now_s += elapsed_s
        frame_at_s = now_s if frame_came else frame_at_s
        notices += look(tracker, now_s, frame_at_s, conditions, paused=paused)
    notices += tracker.finish("the camera was removed", now_s + 1.0)
    assert tracker.conditions == frozenset()
    open_events = {}
    for notice in notices:
        kind = "camera_offline" if notice.kind == "camera_online" else notice.kind
        assert (notice.kind == "camera_online") == (notice.reason == "frames come again")
        if notice.until_at_s is None:
            assert kind not in open_events
            open_events[kind] = notice.event_id
        else:
            assert open_events.pop(kind) == notice.event_id
            assert notice.until_at_s >= notice.since_at_s
    assert open_events == {}
    ids = [(notice.event_id, notice.until_at_s is None) for notice in notices]
    assert len(ids) == len(set(ids))


@pytest.mark.parametrize("name", ["frozen", "dark", "moved"])
def test_a_reason_says_how_long(name):
    tracker = started(0.0, HealthSettings(frozen_s=7, dark_s=7, moved_s=7))
    assert "for 7 s" in look(tracker, 9.0, 9.0, {name})[0].reason
