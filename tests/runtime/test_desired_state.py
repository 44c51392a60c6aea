"""What everyone is told to do, after one death, return or change at a time."""

from dataclasses import replace

import numpy as np

from pipeline.normal_footage import AddedStretch, NormalStretch
from pipeline.runtime.messages import CameraRole
from pipeline.types import SceneReference
from tests.runtime.told import GONE_AFTER_S, READER, SCORERS, Actor, Run, camera, content


def test_a_supervisor_that_was_started_again_tells_everyone_the_same_with_numbers_of_its_own():
    run = Run([camera(camera_id) for camera_id in "abcdefg"], active=2)
    run.settle()
    run.registry.apply([camera(camera_id) for camera_id in "abcdefgh"], ["c"], run.now)
    run.detectors["d1"].died_at = run.now
    run.settle()
    before = run.desired_states.newest
    run.restart()
    told, after = run.step(), run.desired_states.newest
    assert told.keys() == after.keys() - {"d1"}
    assert {name: content(desired) for name, desired in after.items()} == {
        name: content(desired) for name, desired in before.items()
    }
    assert min(desired.version for desired in told.values()) > max(desired.version for desired in before.values())
    assert run.step() == {}


def test_an_actor_that_was_started_again_is_told_the_same_again():
    run = Run([camera("a"), camera("b"), camera("c")])
    run.settle()
    before = run.desired_states.newest
    for name in (*SCORERS, "run-camera-1"):
        run.named[name].version = 0
        assert not run.desired_states.all_follow(run.states())
        again = before[name]
        if name not in SCORERS:
            again = replace(again, sessions=dict.fromkeys((camera.id for camera in again.cameras), 0))
        assert run.step() == {name: again}
    assert run.desired_states.newest == before


def test_a_desired_state_that_was_lost_is_sent_again_with_the_same_number():
    run = Run([camera("a")])
    lost = run.step(lost=run.named)
    assert run.step() == lost
    assert run.desired_states.all_follow(run.states())


def test_cameras_of_a_process_that_stays_away_go_to_another_one():
    run = Run([camera("a"), camera("b")], active=2)
    run.settle()
    assert run.readers() == {"a": ["run-camera-0"], "b": ["run-camera-1"]}
    run.processes["run-camera-0"].died_at = run.now
    run.now += GONE_AFTER_S
    run.step()
    assert run.readers()["a"] == ["run-camera-0"]  # it is mostly back by then
    run.now += 0.1
    run.step()
    assert run.readers() == {"a": ["run-camera-1"], "b": ["run-camera-1"]}
    assert not run.desired_states.is_reader("run-camera-0", "a")  # whatever it still says of it
    run.settle()
    assert run.readers() == {"a": ["run-camera-1"], "b": ["run-camera-1"]}
    run.processes["run-camera-0"] = Actor()
    run.settle()
    assert run.readers() == {"a": ["run-camera-0"], "b": ["run-camera-1"]}  # or one of two detectors would stand idle


def test_a_process_goes_to_a_detector_that_came_back_once_the_one_before_knows_and_holds_none_of_its_frames():
    run = Run([camera(camera_id) for camera_id in "abcd"], active=2, cameras_per_process=1)
    run.settle()
    run.detectors["d1"] = run.detectors["d2"] = Actor(died_at=run.now)
    run.step()
    assert len(run.desired_states.newest["d0"].processes) == 4
    run.detectors["d1"] = Actor()
    run.step(lost=["d0"])
    (moved,) = [name for name, desired in run.camera_states().items() if desired.consumer is None]
    run.step(lost=["d0"])
    run.step(lost=["d0"])
    assert run.desired_states.newest[moved].consumer is None  # nobody has told the one before
    run.step()
    run.detectors["d0"].holding = {moved: 1}
    run.step()
    assert run.desired_states.newest[moved].consumer is None
    run.detectors["d0"].holding = {}
    run.step()
    assert run.desired_states.newest[moved].consumer == "d1"


def test_while_all_processes_are_away_no_camera_moves():
    run = Run([camera("a"), camera("b")], active=2)
    run.settle()
    before = run.readers()
    for process in run.processes.values():
        process.died_at = run.now
    run.now += 10 * GONE_AFTER_S
    run.step()
    assert run.readers() == before


def test_a_camera_that_finds_no_room_gets_a_new_process():
    run = Run([camera("a"), camera("b")], cameras_per_process=2)
    run.settle()
    run.registry.apply([camera(camera_id) for camera_id in "abc"], [], run.now)
    assert "run-camera-1" not in run.step()  # it has not come up yet
    assert run.readers()["c"] == ["run-camera-1"]
    assert not run.desired_states.all_follow(run.seen)
    assert set(run.step()) == {"run-camera-1"}


def test_while_a_run_drains_its_camera_processes_are_told_nothing_and_nobody_is_moved():
    run = Run([camera("a")])
    run.settle()
    run.registry.apply([camera("a"), camera("b")], ["a"], run.now)
    run.processes["run-camera-0"].version = 0
    run.detectors["d0"].died_at = run.now
    told = run.step(draining=True)
    assert set(told) == {"s2", "d1"}
    assert told["d1"].processes == ("run-camera-0",)
    assert run.desired_states.newest["run-camera-0"] == run.before["run-camera-0"]


def test_a_desired_state_says_what_a_camera_needs():
    view = SceneReference((1, 2), ("AAA=",), 0.9, 0.2, 1.0, 100.0, True)
    gate = camera("gate", scene="plaza", max_frame_age_s=1.5)
    clip = camera("clip", "footage/clip.mp4", max_frame_age_s=1.5)
    run = Run([gate, clip], scene_references={"plaza": view})
    run.settle()
    (desired,) = run.camera_states().values()
    assert (desired.cameras, desired.scene_references, desired.consumer, desired.deaths) == (
        (gate, clip),
        {"gate": view},
        "d0",
        0,
    )
    assert desired.paced  # a live camera is beside the file
    assert run.desired_states.newest["d0"].cameras == {
        "gate": CameraRole("plaza", True, 1.5),
        "clip": CameraRole("clip", False, 1.5),
    }
    run.registry.apply([clip], ["clip"], run.now)
    run.detectors["d0"].died_at = run.now
    run.step()
    (desired,) = run.camera_states().values()
    assert (desired.paced, desired.paused, desired.consumer, desired.deaths) == (False, {"clip"}, "d1", 1)


def test_sessions_are_sent_with_a_desired_state_and_are_no_reason_for_another():
    run = Run([camera("a")])
    run.settle()
    run.registry.update_reader("a", READER)
    assert run.step() == {}
    run.processes["run-camera-0"].version = 0
    told = run.step()["run-camera-0"]
    assert told.sessions == {"a": run.registry.next_session("a")}
    assert told.counter_ids == {"a": READER.counter_id}


def test_a_scorer_is_told_of_normal_footage_of_its_own_cameras_and_of_scenes():
    run = Run([camera(camera_id) for camera_id in "abcdefgh"])
    run.settle()
    every = tuple(
        AddedStretch(NormalStretch("own", 5.0, np.ones(3)), "gate", camera_id) for camera_id in (None, *"abcdefgh")
    )
    run.desired_states.normal = {"m": every}
    run.settle()
    told = {name: run.desired_states.newest[name] for name in SCORERS}
    for desired in told.values():
        own = {camera.id for camera in desired.cameras}
        assert own
        assert {one.camera_id for one in desired.normal["m"]} == {None, *own}
    assert run.step() == {}
