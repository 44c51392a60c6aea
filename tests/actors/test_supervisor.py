"""What the supervisor makes of reports, with actors of this process: no Ray, and no time but the test's."""

import threading
import time
from dataclasses import replace

import pytest

from pipeline.errors import RunError
from pipeline.runtime.nodes import ClusterNode
from pipeline.runtime.shutdown import ShutdownDeadline
from pipeline.runtime.tally import DetectorLoad
from pipeline.types import Trouble
from tests.actors.supervised import CAMERAS, DETECTOR, ENDED, READER, SCORER, SCORING, Run, camera


@pytest.fixture
def run():
    made = Run("gate", "yard")
    made.step()
    made.step()
    return made


def test_everyone_is_told_what_to_do_once_and_again_after_it_was_started_again(run):
    for name in (SCORER, CAMERAS, DETECTOR):
        assert len(run[name].called("configure")) == 1
    assert [wanted.id for wanted in run[CAMERAS].desired.cameras] == ["gate", "yard"]
    assert run[CAMERAS].desired.consumer == DETECTOR
    (before,) = run[SCORER].called("configure")
    run[SCORER].die()
    run.step()
    run[SCORER].come_back()
    run.step()
    run.step()
    assert run[SCORER].called("configure") == [before, before]


def test_a_desired_state_that_is_on_its_way_is_not_sent_again_and_a_newer_one_is():
    run = Run("gate")
    run[CAMERAS].is_slow = True
    for _ in range(5):
        run.step()
    assert len(run[CAMERAS].called("configure")) == 1
    run.supervisor.apply([camera("gate"), camera("yard")], [])
    run.step()
    assert len(run[CAMERAS].called("configure")) == 2
    run[CAMERAS].catch_up()
    run.step()
    assert len(run[CAMERAS].called("configure")) == 2
    assert [wanted.id for wanted in run[CAMERAS].desired.cameras] == ["gate", "yard"]


def test_what_an_actor_cannot_do_is_a_trouble_without_credentials_until_it_can(run):
    run[CAMERAS].refuses["configure"] = OSError("no room for rtsp://viewer:hunter2@gate/main")
    run.supervisor.apply([camera("gate")], [])
    run.step()
    for _ in range(3):
        run.step()
        assert run.texts() == [f"{CAMERAS} cannot do what it is told: no room for rtsp://***@gate/main"]
    run[CAMERAS].refuses["configure"] = OSError("no room at all")
    run.step()
    key = run.supervisor.status().troubles[0].key
    run.step()
    assert run.texts() == [f"{CAMERAS} cannot do what it is told: no room at all"]
    assert run.supervisor.status().troubles[0].key == key  # the same trouble, with other details
    del run[CAMERAS].refuses["configure"]
    run.step()
    run.step()
    assert run.texts() == []


def test_troubles_are_those_of_the_scorer_deaths_and_cameras_that_are_not_read(run):
    full, unread = Trouble("disk", "the disk is full"), Trouble("gate", "camera gate is not read")
    run[SCORER].troubles, run[CAMERAS].troubles = [full], [unread]
    run[DETECTOR].die()
    status = run.step()
    assert run.texts() == [full.text, f"{DETECTOR} died; it is being started anew", unread.text]
    assert status.totals()["troubles"] == run.texts()
    run[SCORER].troubles, run[CAMERAS].troubles = [], []
    run[DETECTOR].come_back()
    run.step()
    assert run.texts() == []


def test_a_notice_is_repeated_until_the_scorer_has_it_and_told_once_all_the_same(run):
    run[CAMERAS].readers = {"gate": READER}
    run.step()
    run[SCORER].refuses["notify"] = OSError("not now")
    run.step(10.0)  # no frame for so long
    run.step()
    assert len(run[SCORER].called("notify")) >= 2
    assert run[SCORER].notices == {}
    run[SCORER].die()
    run.step()
    run[SCORER].come_back()
    del run[SCORER].refuses["notify"]
    run.step()
    run.step()
    ((number, notice),) = run[SCORER].notices.items()
    assert (number, notice.kind, notice.camera_id) == (1, "camera_offline", "gate")
    told = len(run[SCORER].called("notify"))
    run.step()
    assert len(run[SCORER].called("notify")) == told


def test_events_of_a_camera_that_ended_are_closed_once_and_then_the_run_is_done():
    run = Run("gate")
    run.step()
    run[CAMERAS].readers, run[SCORER].cameras = {"gate": ENDED}, {"gate": replace(SCORING, scored=9)}
    assert not run.step().done
    assert run[SCORER].finished == []  # a frame is in flight
    run[SCORER].cameras, run[SCORER].is_slow = {"gate": SCORING}, True
    run.step()
    run.step()
    assert len(run[SCORER].called("finish")) == 1
    run[SCORER].refuses["finish"] = OSError("not now")
    run[SCORER].catch_up()
    run[SCORER].is_slow = False
    run.step()
    del run[SCORER].refuses["finish"]
    assert not run.step().done  # it is asked again
    assert run[SCORER].finished == ["gate"]
    run.step()
    assert run.step().done
    assert run[SCORER].finished == ["gate"]


def test_of_a_camera_that_another_process_reads_now_the_former_one_is_heard_for_its_counts_alone():
    run = Run(*(f"c{number}" for number in range(9)))  # more than one process holds
    run.step()
    before, after = "run-camera-1", CAMERAS
    assert "c1" in [wanted.id for wanted in run[before].desired.cameras]
    run[before].readers, run[SCORER].cameras = {"c1": READER}, {"c1": SCORING}
    run.step()
    run[before].die()
    run.step()
    run.step(6.0)
    assert "c1" in [wanted.id for wanted in run[after].desired.cameras]
    run[before].come_back()
    run[after].readers = {"c1": replace(READER, counter_id="c", decoded=11, session=7)}
    run.step()
    run[before].readers = {"c1": replace(READER, decoded=12, dropped={"shutdown": 2}, state="stopped")}
    (status,) = run.step().cameras
    assert (status.state, status.session, status.counts.decoded) == ("streaming", 7, 11 + 12)


def test_processes_are_made_on_the_nodes_for_them_and_those_of_a_lost_node_are_ended_and_replaced():
    nodes = (ClusterNode("a", role="decode"), ClusterNode("b", role="decode"), ClusterNode("c"))
    run = Run("gate", "yard", nodes=nodes)
    assert run.fleet.homes == {"run-camera-0": "a", "run-camera-1": "b"}
    run.step()
    run.step()
    run["run-camera-0"].die()
    run.fleet.nodes = nodes[1:]
    run.supervisor._node_watch.nodes = run.fleet.nodes  # a thread of a started one looks
    run.step()
    run.step()
    assert run["run-camera-0"].is_killed
    assert sorted(wanted.id for wanted in run["run-camera-1"].desired.cameras) == ["gate", "yard"]
    assert run.texts() == []


def test_more_detectors_are_made_under_overload_and_ended_in_calm():
    run = Run("gate", max_active=2)
    for second in range(40):
        run[DETECTOR].load = DetectorLoad(busy_s=float(second))
        run.step(1.0)
    assert "run-detector-1" in run.fleet.made
    for _ in range(400):
        run.step(1.0)
    assert [run[name].is_killed for name in (DETECTOR, "run-detector-1")] in ([False, True], [True, False])
    assert run.texts() == []


def test_spare_detectors_are_not_waited_for():
    run = Run("gate", spare=1)
    assert list(run.fleet.made) == [SCORER, CAMERAS, DETECTOR]
    run.supervisor.start(threading.Event())
    try:
        assert run.fleet.started == [SCORER, DETECTOR, CAMERAS]
        assert "run-detector-1" in run.fleet.made
    finally:
        run.supervisor.kill()


def test_how_the_run_stands_is_published_every_second_and_that_it_is_ending(run):
    published = len(run.published)
    for _ in range(8):
        run.step()
    assert len(run.published) - published == 2
    run.supervisor.drain()
    assert run[CAMERAS].called("stop") == [[]]
    run.step(1.0)
    assert run.published[-1] is True
    assert not any(run.published[:-1])


def test_a_run_whose_actors_have_all_been_dead_for_a_minute_is_given_up_and_no_sooner(run):
    for actor in run.fleet.made.values():
        actor.die()
    run.step()
    run.step(59.0)
    run[DETECTOR].come_back()
    run.step()
    run[DETECTOR].die()
    run.step()
    run.step(60.0)  # the last of them has not been away for longer
    with pytest.raises(RunError, match="expected an actor of the run to come back within 60 s, none did"):
        run.step()


def test_a_ray_that_is_dead_is_told_at_once_as_what_ended_the_watching():
    run = Run("gate")
    run.supervisor.start(threading.Event())
    run.fleet.dead = ["raylet"]
    give_up_at = time.monotonic() + 30.0
    while run.supervisor.failure is None:
        assert time.monotonic() < give_up_at
        time.sleep(0.01)
    assert str(run.supervisor.failure) == "Ray on this machine is dead: raylet"


def test_a_run_that_is_closed_counts_what_was_in_flight_and_says_how_many_alerts_there_were(run):
    run[CAMERAS].readers = {"gate": replace(READER, decoded=14, dispatched=12)}
    run[SCORER].cameras = {"gate": SCORING}
    run[SCORER].troubles = [Trouble("disk", "the disk is full")]
    run.step()
    final = run.supervisor.close(ShutdownDeadline(time.monotonic()))  # there is no time for what is in flight
    assert run[CAMERAS].called("abandon") == run[CAMERAS].called("close") == [[]]
    (status,) = final.cameras
    assert status.counts.dropped == {"shutdown": 4}
    assert (final.alerts, final.unwritten, final.troubles) == ({"emitted": 1}, (), ())
    before = run.supervisor.status()
    assert run.step() is before  # nobody is told anything any more


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (OSError("disk full"), "run-scorer-0 could not close its files: disk full"),
        (None, "run-scorer-0 did not come back in time to close its files: the next run into this folder does"),
    ],
)
def test_a_scorer_that_cannot_close_its_files_is_reported_as_what_is_unwritten(run, error, line):
    if error is None:
        run[SCORER].die()
    else:
        run[SCORER].refuses["close"] = error
    assert run.supervisor.close(ShutdownDeadline.starting_at(time.monotonic())).unwritten == (line,)


def test_a_run_that_is_aborted_says_why_and_does_not_fail_where_nobody_hears_it(run):
    run.supervisor.abort("the run failed: no weights")
    ((within_s, failure),) = run[SCORER].called("close")
    assert (within_s, failure) == (3.0, "the run failed: no weights")
    run[SCORER].die()
    run.supervisor.abort("again")


def test_on_a_node_that_comes_a_detector_replaces_one_of_several_elsewhere_once_it_has_loaded_its_model():
    run = Run("gate", "yard", active=2, nodes=(ClusterNode("a"),))
    for detector in (DETECTOR, "run-detector-1"):
        run[detector].node = "a"
    for _ in range(4):
        run.step()
    run.supervisor._node_watch.nodes = run.fleet.nodes = (ClusterNode("a"), ClusterNode("b"))
    run.step()
    comes = "run-detector-2"
    assert run.fleet.homes[comes] == "b"
    run[comes].node = "b"
    run[comes].die()  # it loads its model
    for _ in range(4):
        run.step()
    assert not run[DETECTOR].is_killed
    run[comes].come_back()
    for _ in range(12):
        run.step()
    assert [run[name].is_killed for name in (DETECTOR, "run-detector-1", comes)].count(True) == 1
    assert not run[comes].is_killed
    assert run[comes].desired.processes
    assert "run-detector-3" not in run.fleet.made
