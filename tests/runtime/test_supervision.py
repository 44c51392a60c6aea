"""What a supervisor saves is what the next one begins with."""

from dataclasses import replace

import pytest

from pipeline.errors import RunError
from pipeline.runtime.assignment import SavedAssignments
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.model_swap import SavedSwap
from pipeline.runtime.supervision import SavedNotices, SavedRun, Supervision
from tests.runtime.test_camera_registry import READER, SCORING, camera, registry
from tests.runtime.test_model_swap import A, B


def saved_and_read(made):
    """What is read of a registry that was saved, and the text."""
    waiting = tuple(enumerate(made.check_health(106.0), 5))
    notices = {"run-scorer-0": SavedNotices(5, waiting)}
    known = Supervision(made.saved(), SavedAssignments(detectors_so_far=2), notices, is_ending=True)
    run = SavedRun("run", 12.5, 2, 99.0, known)
    text = run.as_json()
    assert SavedRun.of_json(text) == run
    return SavedRun.of_json(text).supervision.registry, text


def again(made, *first):
    """A registry that goes on from what another one saved, and has heard again what the actors report."""
    after = CameraRegistry([camera(camera_id) for camera_id in first], saved_and_read(made)[0])
    after.update_scoring({status.camera_id: status.scoring for status in made.status(draining=False).cameras})
    return after


def test_cameras_that_were_added_changed_paused_removed_and_moved_stay_so_with_their_counts():
    made = registry("a", "b", "c")
    made.apply([camera("a"), camera("b", sample_fps=2.0), camera("new", scene="s")], ["a"], 107.0)
    made.update_reader("b", replace(READER, counter_id="on another node", decoded=5, dispatched=5, dropped={}))
    made.update_reader("new", READER)
    made.update_scoring({"new": SCORING})
    after = again(made, "a", "b", "c")
    assert (after.cameras, after.removed_cameras, after.paused) == (made.cameras, made.removed_cameras, {"a"})
    assert after.status(draining=False).cameras == made.status(draining=False).cameras
    assert {c.id: after.next_session(c.id) for c in after.cameras} == {"a": 12, "b": 12, "new": 12}


def test_counts_of_cameras_that_were_removed_long_ago_and_of_frames_that_were_given_up_are_kept():
    gone = [f"gone-{number}" for number in range(101)]
    made = registry("a", *gone)
    made.update_reader("a", replace(READER, decoded=17))
    made.write_off("detector_lost")
    for camera_id in gone:  # in the order in which they are to be archived
        made.apply([c for c in made.cameras if c.id != camera_id], [], 107.0)
    made.finish(gone)
    made.archive()
    after = again(made, "a", *gone)
    assert after.status(draining=False).archived.scored == 8
    assert after.status(draining=False).totals() == made.status(draining=False).totals()


def test_a_camera_that_is_offline_is_told_to_be_so_no_second_time_and_online_once_its_frames_come():
    made = registry("a")
    (offline,) = made.check_health(106.0)
    after = again(made, "a")
    after.update_reader("a", READER)
    assert after.check_health(106.5) == []
    after.update_reader("a", replace(READER, last_frame_at_s=107.0))
    (online,) = after.check_health(107.0)
    assert (online.kind, online.event_id) == ("camera_online", offline.event_id)


def test_passwords_of_the_plans_cameras_are_not_saved_and_those_of_others_are_read_again():
    first = camera("a").model_copy(
        update={
            "url": camera(
                "a",
            ).url.__class__("rtsp://viewer:hunter2@10.0.0.1/x")
        }
    )
    added = first.model_copy(update={"id": "b", "url": first.url.__class__("rtsp://viewer:swordfish@10.0.0.2/x")})
    made = CameraRegistry([first])
    made.apply([first, added], [], 100.0)
    read, text = saved_and_read(made)
    assert "hunter2" not in text
    assert CameraRegistry([first], read).cameras == (first, added)


def test_models_that_follow_one_another_are_saved_with_their_cards_and_places():
    swap = SavedSwap(current=B, before=A, left=A, new=("d1",), leaving=frozenset({"d0"}), failure="")
    known = Supervision(CameraRegistry([]).saved(), SavedAssignments(), {}, models=swap)
    read = SavedRun.of_json(SavedRun("run", 0.0, 1, supervision=known).as_json()).supervision.models
    assert read == swap
    assert read.current.card.fingerprint == B.card.fingerprint


@pytest.mark.parametrize("text", ["", "{}", "[]", '{"run": "x", "started_at_s": "soon", "incarnation": 1}'])
def test_a_file_that_holds_something_else_is_refused_in_a_line(text):
    with pytest.raises(RunError, match=r"\Aexpected a supervisor's state, got something else at [^\n]+\Z"):
        SavedRun.of_json(text)
