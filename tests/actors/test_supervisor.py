"""What the supervisor makes of reports, with actors of this process: no Ray, and no time but the test's."""

import threading
import time
from dataclasses import replace
from pathlib import Path

import pytest

from actors.supervisor import Supervisor
from pipeline.camera_settings import CameraSettings, HealthSettings
from pipeline.config import RuntimeSettings
from pipeline.errors import RunError
from pipeline.models.source import ModelSource
from pipeline.runtime.nodes import ClusterNode
from pipeline.runtime.plan import RunPlan
from pipeline.runtime.shutdown import ShutdownDeadline
from pipeline.runtime.status import ReaderStatus, ScoringStatus
from pipeline.runtime.tally import DetectorLoad
from pipeline.types import Trouble
from tests.actors.in_process import Fleet
from tests.models.tiny import tiny_model

READER = ReaderStatus("streaming", True, "b", 0, 10, 10, {}, 0, "", 100.0, frozenset())
ENDED = replace(READER, state="finished", live=False, last_frame_at_s=None)
SCORING = ScoringStatus(10, {}, 0, None, None, None, None, 1.0)
CARD = tiny_model()[0].model_copy(update={"fingerprint": "a" * 64})
SCORER, CAMERAS, DETECTOR = "run-scorer-0", "run-camera-0", "run-detector-0"


def camera(camera_id):
    return CameraSettings(id=camera_id, url="rtsp://10.0.0.1/x", health=HealthSettings(offline_s=5.0))


class Run:
    """A supervisor and its actors; a step takes a quarter of a second of the test's own time."""

    def __init__(self, *camera_ids, memory=None, **fleet):
        self.plan = RunPlan(
            name="run",
            cameras=tuple(camera(camera_id) for camera_id in camera_ids),
            scene_references={},
            card=CARD,
            model=ModelSource("", "model"),
            model_copies=Path("models"),
            size_px=(8, 8),
            gap_s=0.1,
            runtime=RuntimeSettings(),
            sinks=None,  # nobody here writes
            quarantine=Path("quarantine"),
        )
        self.published = []
        self.fleet = Fleet("run", **fleet)
        self.now = 1000.0
        self.supervise(memory)

    def supervise(self, memory=None):
        """A supervisor begins."""
        self.supervisor = Supervisor(
            self.plan, self.fleet, lambda status, is_ending: self.published.append(is_ending), memory
        )

    def __getitem__(self, name):
        return self.fleet.made[name]

    def step(self, seconds=0.25):
        self.now += seconds
        self.supervisor.step(self.now, 50.0 + self.now)
        return self.supervisor.status()

    def texts(self):
        return [trouble.text for trouble in self.supervisor.status().troubles]


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


S0, S1, S2 = (f"run-scorer-{number}" for number in range(3))


@pytest.fixture
def three():
    """Three scorers, of whom each has one camera: a, g and b."""
    made = Run("a", "g", "b", scorers=3)
    made.step()
    made.step()
    return made


def test_of_several_scorers_each_is_told_of_its_own_cameras_alone_and_one_that_is_away_holds_up_no_other(three):
    assert [[c.id for c in three[name].desired.cameras] for name in (S0, S1, S2)] == [["a"], ["g"], ["b"]]
    three[CAMERAS].readers = dict.fromkeys("agb", READER)
    three.step()
    three[S1].die()
    three.step(10.0)  # no frame for so long
    three.step()
    assert [[n.camera_id for n in three[name].notices.values()] for name in (S0, S1, S2)] == [["a"], [], ["b"]]
    three[S1].come_back()
    three.step()
    three.step()
    assert [notice.camera_id for notice in three[S1].notices.values()] == ["g"]
    three.supervisor.apply([camera("a"), camera("b")], [])
    three.step()
    assert [wanted.id for wanted in three[S1].desired.removed_cameras] == ["g"]
    assert [[c.id for c in three[name].desired.cameras] for name in (S0, S1, S2)] == [["a"], [], ["b"]]


def test_events_are_closed_by_the_scorers_whose_cameras_ended_and_all_must_have_done_so(three):
    three[CAMERAS].readers = dict.fromkeys("agb", ENDED)
    for name, own in ((S0, "a"), (S1, "g"), (S2, "b")):
        three[name].cameras = {own: SCORING}
    three[S1].is_slow = True
    three.step()
    assert not three.step().done
    assert [three[name].finished for name in (S0, S2)] == [["a"], ["b"]]
    three[S1].catch_up()
    three.step()
    assert three.step().done
    assert three[S1].finished == ["g"]


def test_what_several_scorers_say_in_the_same_words_is_said_once_and_number_0_hears_of_rows_that_are_lost(three):
    disk, mine = Trouble("parquet", "Parquet: no room"), Trouble("store", "run-2.sqlite: no room")
    three[S1].troubles, three[S2].troubles, three[S2].storage = [disk], [disk, mine], disk.text
    three.step()
    assert three.texts() == [disk.text, mine.text]
    three.step(1.0)
    assert three[S0].called("maintain")[-1] == [disk.text]
    assert three[S2].called("maintain")[-1] == []
    three[S2].storage = ""
    three.step()
    three.step(1.0)
    assert three[S0].called("maintain")[-1] == [""]


def test_that_the_run_is_over_is_said_by_number_0_after_all_others_and_their_alerts_are_counted_together(three):
    order = []
    for name in (S0, S1, S2):
        three[name].close = lambda within_s, failure="", n=name: order.append(n) or ([f"a row of {n}"], {"emitted": 2})
    three[S1].refuses["close"] = OSError("disk full")
    final = three.supervisor.close(ShutdownDeadline.starting_at(time.monotonic()))
    assert order == [S2, S0]
    assert final.alerts == {"emitted": 4}
    assert set(final.unwritten) == {
        f"{S0}: a row of {S0}", f"{S1} could not close its files: disk full", f"{S2}: a row of {S2}"
    }  # fmt: skip


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
