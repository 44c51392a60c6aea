from dataclasses import replace

from pipeline.camera_settings import CameraSettings, HealthSettings
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.status import ReaderStatus, ScoringStatus

READER = ReaderStatus(
    state="streaming",
    live=True,
    counter_id="b",
    session=3,
    decoded=10,
    dispatched=8,
    dropped={"sampling": 2},
    missing=0,
    error="",
    last_frame_at_s=100.0,
    conditions=frozenset(),
)
UNSEEN_SESSIONS = 8
SCORING = ScoringStatus(8, {}, 1, 0.1, 0.2, 5.0, 100.0, 2.0)


def camera(camera_id, **settings):
    return CameraSettings(id=camera_id, url="rtsp://10.0.0.1/x", health=HealthSettings(offline_s=5.0), **settings)


def registry(*camera_ids):
    made = CameraRegistry([camera(camera_id) for camera_id in camera_ids])
    for camera_id in camera_ids:
        made.update_reader(camera_id, READER)
    made.update_scoring(dict.fromkeys(camera_ids, SCORING))
    assert made.check_health(100.0) == []
    return made


def states(made, **how):
    return {status.camera_id: status.state for status in made.status(draining=False, **how).cameras}


def test_a_run_is_done_when_every_camera_ended_none_of_its_frames_is_in_flight_and_its_events_are_closed():
    made = registry("a", "b")
    assert not made.status(draining=False).done
    made.update_reader("a", replace(READER, state="finished"))
    assert made.newly_settled(0.0, draining=False) == ["a"]
    made.finish(["a"])
    assert made.newly_settled(1.0, draining=False) == []
    assert not made.status(draining=False).done
    made.update_reader("b", replace(READER, state="failed", decoded=11, dispatched=9))  # one is in flight
    assert made.newly_settled(2.0, draining=False) == []
    assert made.in_flight() == 1
    made.update_scoring({"b": replace(SCORING, scored=9)})
    assert made.newly_settled(3.0, draining=False) == ["b"]
    made.finish(["b"])
    assert made.status(draining=False).done


def test_a_camera_that_is_removed_keeps_its_counts_and_is_no_longer_shown_in_redis():
    made = registry("a", "b")
    assert made.check_health(106.0) != []  # both are offline
    (over,) = made.apply([camera("b")], [], 107.0)
    assert (over.kind, over.camera_id, over.reason) == ("camera_offline", "a", "the camera was removed")
    assert over.until_at_s == 107.0
    assert states(made) == {"a": "removed", "b": "streaming"}
    assert set(made.status(draining=False).cameras_as_json()) == {"b"}
    assert [c.id for c in made.cameras] == ["b"]
    assert made.status(draining=False).cameras[0].counts.scored == 8


def test_a_change_of_light_is_a_condition_beside_those_of_the_picture():
    made = registry("a")
    made.update_scoring({"a": replace(SCORING, light_changed=True)})
    assert made.check_health(106.0) != []  # it is offline
    said = made.status(draining=False).cameras_as_json()["a"]
    assert said["conditions"] == ["light_changed", "offline"]
    assert "light_changed" not in said
    made.update_scoring({"a": SCORING})
    assert made.status(draining=False).cameras[0].conditions == ("offline",)


def test_a_camera_that_comes_back_goes_on_with_its_counts():
    made = registry("a")
    made.apply([], [], 101.0)
    made.apply([camera("a")], [], 102.0)
    made.update_reader("a", replace(READER, decoded=15, dispatched=13, session=4))
    made.update_scoring({"a": replace(SCORING, scored=13)})
    (status,) = made.status(draining=False).cameras
    assert (status.counts.decoded, status.counts.scored, status.state) == (15, 13, "streaming")
    assert made.next_session("a") == 4 + 1 + UNSEEN_SESSIONS


def test_a_camera_with_new_settings_is_watched_by_them_and_one_that_is_not_changed_is_left_alone():
    made = registry("a", "b")
    changed = CameraSettings(id="a", url="rtsp://10.0.0.1/x", health=HealthSettings(offline_s=None))
    made.apply([changed, camera("b")], ["b", "nobody"], 101.0)
    assert made.paused == {"b"}
    made.update_reader("a", READER)
    assert made.check_health(1000.0) == []  # one is not watched for it, one is paused
    assert made.cameras[0].health.offline_s is None


def test_files_are_never_offline():
    made = registry("a")
    made.update_reader("a", replace(READER, live=False))
    assert made.check_health(1000.0) == []


def test_what_is_in_flight_when_time_is_up_is_counted():
    made = registry("a")
    made.update_reader("a", replace(READER, decoded=14, dispatched=10))
    made.write_off("shutdown")
    assert made.in_flight() == 0
    assert made.status(draining=True).cameras[0].counts.dropped == {"sampling": 2, "shutdown": 4}


def test_a_run_without_cameras_goes_on_until_it_is_told_to_end():
    made = registry("a")
    made.apply([], [], 101.0)
    assert not made.status(draining=False).done
    assert made.status(draining=True).done


def test_of_cameras_removed_long_ago_only_the_counts_are_kept_and_one_that_comes_back_goes_on_in_them():
    names = [f"c{number}" for number in range(130)]
    made = registry(*names, "stays")
    made.apply([camera("stays")], [], 101.0)
    for name in names[1:]:  # the first one has not ended yet
        made.update_reader(name, replace(READER, state="stopped"))
    made.finish(made.newly_settled(0.0, draining=False))
    made.archive()
    assert set(states(made)) == {"c0", *names[30:], "stays"}
    assert [c.id for c in made.removed_cameras] == ["c0", *names[30:]]
    assert not made.is_shown("c1")
    status = made.status(draining=False)
    assert (status.archived.decoded, status.archived.scored, status.archived.dropped) == (290, 232, {"sampling": 58})
    made.update_reader("c1", READER)  # a process that has not been told yet
    made.update_scoring({"c1": SCORING})
    made.finish(["c1"])
    assert not made.is_shown("c1")

    made.apply([camera("stays"), camera("c1")], [], 102.0)
    assert made.next_session("c1") == 3 + 1 + UNSEEN_SESSIONS
    made.update_reader("c1", replace(READER, counter_id="another", decoded=5, dispatched=5, dropped={}, session=4))
    made.update_scoring({"c1": replace(SCORING, scored=13)})
    status = made.status(draining=False)
    (back,) = [c for c in status.cameras if c.camera_id == "c1"]
    assert (back.counts.decoded, back.counts.scored, back.counts.dropped) == (15, 13, {"sampling": 2})
    assert status.archived.decoded == 280
    assert made.next_session("c1") == 4 + 1 + UNSEEN_SESSIONS


def test_a_camera_begins_above_all_sessions_on_another_node_also_when_its_settings_change_with_it():
    made = registry("a")
    assert made.counter_id("a") == "b"
    made.apply([camera("a", sample_fps=1)], [], 101.0)
    assert made.next_session("a") == 3 + 1 + UNSEEN_SESSIONS


def test_a_file_has_one_session_wherever_it_is_read_and_is_counted_once():
    made = CameraRegistry([CameraSettings(id="a", url="gate.mp4")])
    assert made.next_session("a") == 0
    file = replace(READER, live=False, session=0)
    made.update_reader("a", file)
    made.update_scoring({"a": replace(SCORING, counted={"0": 8})})
    assert made.next_session("a") == 0
    made.update_reader("a", replace(file, counter_id="elsewhere", decoded=5, dispatched=3, dropped={"sampling": 1}))
    assert made.status(draining=False).cameras[0].counts.in_flight == 0
    made.update_reader("a", replace(file, counter_id="elsewhere", decoded=12, dispatched=10))
    assert made.status(draining=False).cameras[0].counts.decoded == 12


def test_what_a_process_says_of_a_camera_that_another_one_reads_is_taken_in_as_counts_alone():
    made = registry("a")
    made.update_reader("a", replace(READER, counter_id="c", session=20, decoded=1, dispatched=0, dropped={}))
    made.update_former_reader("a", replace(READER, state="stopped", decoded=12, dropped={"sampling": 2, "shutdown": 2}))
    made.update_former_reader("gone", READER)
    (status,) = made.status(draining=False).cameras
    assert (status.state, status.session, status.counts.decoded) == ("streaming", 20, 13)
    assert status.counts.dropped == {"sampling": 2, "shutdown": 2}


def test_a_camera_of_which_nobody_reports_yet_is_named_and_its_frames_stay_in_the_sums():
    made = registry("a", "b")
    made.apply([camera("a"), camera("b", sample_fps=1.0), camera("c")], (), 200.0)
    status = made.status(draining=False)
    assert ([shown.camera_id for shown in status.cameras], status.unread) == (["a"], ("b", "c"))
    assert (status.counts().decoded, status.counts().scored) == (20, 16)
