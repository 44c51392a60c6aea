"""What everyone is told to do, whatever dies, comes back and is changed, in whatever order."""

from collections import Counter
from dataclasses import dataclass, field, replace

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.camera_settings import CameraSettings
from pipeline.normal_footage import AddedStretch, NormalStretch
from pipeline.runtime.actor_states import ActorState, ActorStates
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.desired_state import DesiredStates
from pipeline.runtime.messages import CameraReport, CameraRole, DetectorReport, ScorerReport
from pipeline.runtime.nodes import ClusterNode, nodes_for
from pipeline.runtime.slices import ScorerSlices
from pipeline.runtime.status import ReaderStatus
from pipeline.runtime.supervision import SavedRun, Supervision
from pipeline.types import SceneReference

DETECTORS = ("d0", "d1", "d2")
SCORERS = ("s0", "s1", "s2")
IDS = tuple("abcdefg")
GONE_AFTER_S = 5.0
READER = ReaderStatus("streaming", True, "b", 3, 10, 8, {}, 0, "", 100.0, frozenset())


def camera(camera_id, url="rtsp://10.0.0.1/x", **settings):
    return CameraSettings(id=camera_id, url=url, **settings)


@dataclass
class Actor:
    """Of an actor, what its reports say: alive, with the newest desired state that reached it, or dead."""

    version: int = 0
    died_at: float | None = None
    holding: dict[str, int] = field(default_factory=dict)
    node: str = ""
    reads: set[str] = field(default_factory=set)
    has_read: set[str] = field(default_factory=set)
    releases_late: bool = False

    @property
    def lives(self):
        return self.died_at is None

    def follow(self, desired):
        self.version = desired.version
        if hasattr(desired, "consumer"):
            wanted = {wanted.id for wanted in desired.cameras}
            self.reads = self.reads | wanted if self.releases_late else wanted
            self.has_read |= wanted

    def die(self, now):
        self.died_at, self.version, self.holding, self.reads, self.has_read = now, 0, {}, set(), set()

    def readers(self):
        return {c: READER if c in self.reads else replace(READER, state="stopped") for c in self.has_read | self.reads}


def content(desired):
    return replace(desired, version=0)


class Run:
    """A run's actors, and what they are told."""

    def __init__(
        self, cameras, *, active=1, cameras_per_process=2, max_processes=None, scene_references=None, nodes=()
    ):
        self.cameras, self.nodes = cameras, nodes
        self.limits = {"active": active, "cameras_per_process": cameras_per_process, "max_processes": max_processes}
        self.scene_references = scene_references
        self.supervisors = 0
        self.begin(None)
        self.now = 1000.0
        self.scorers = {name: Actor() for name in SCORERS}
        self.detectors = {name: Actor() for name in DETECTORS}
        self.processes = {}
        self.before = {}
        self.make_processes()

    def begin(self, before):
        """A supervisor begins, where there was one before with what that one saved."""
        self.registry = CameraRegistry(self.cameras, before and before.registry)
        self.desired_states = DesiredStates(
            self.registry,
            run="run",
            slices=ScorerSlices(SCORERS),
            detectors=DETECTORS,
            scene_references=self.scene_references,
            nodes=self.nodes,
            saved=before and before.assignments,
            first_version=1000 * self.supervisors,
            **self.limits,
        )
        self.supervisors += 1

    def restart(self):
        """The supervisor dies, and another one goes on."""
        saved = Supervision(self.registry.saved(), self.desired_states.saved(), {})
        text = SavedRun("run", 0.0, 1, supervision=saved).as_json()
        self.begin(SavedRun.of_json(text).supervision)

    def make_processes(self):
        homes = self.desired_states.processes
        self.processes = {name: self.processes.get(name, Actor(node=home)) for name, home in homes.items()}
        kept = {name: self.detectors.get(name, Actor()) for name in self.desired_states.detectors}
        self.detectors.clear()
        self.detectors.update(kept)

    @property
    def named(self):
        return {**self.scorers, **self.detectors, **self.processes}

    def states(self):
        def state(actor, report):
            return ActorState(report if actor.lives else None, actor.died_at)

        return ActorStates(
            {name: state(a, ScorerReport(a.version, 0, {})) for name, a in self.scorers.items()},
            {n: state(a, CameraReport(a.version, a.readers(), node=a.node)) for n, a in self.processes.items()},
            {n: state(a, DetectorReport(a.version, a.holding, node=a.node)) for n, a in self.detectors.items()},
            self.nodes,
        )

    def step(self, *, lost=(), draining=False):
        """One update; what is told arrives at all but those to whom it is lost."""
        self.before, self.seen = self.desired_states.newest, self.states()
        told = self.desired_states.update(self.seen, self.now, draining=draining)
        self.make_processes()
        for name, desired in told.items():
            if name not in lost:
                self.named[name].follow(desired)
        return told

    def camera_states(self):
        newest = self.desired_states.newest
        return {name: newest[name] for name in self.desired_states.processes}

    def readers(self):
        """By camera, the processes that are told to read it."""
        return {
            wanted.id: [name for name, desired in self.camera_states().items() if wanted in desired.cameras]
            for wanted in self.registry.cameras
        }

    def settle(self):
        """Steps until nobody is told anything any more, nor is there anybody new."""
        quiet = 0
        for _ in range(200):
            quiet = 0 if self.step() else quiet + 1
            if quiet == 3:
                return
        raise AssertionError("they are told something new without end")


class Upheaval(RuleBasedStateMachine):
    @initialize(
        ids=st.lists(st.sampled_from(IDS), unique=True),
        active=st.integers(1, 3),
        cameras_per_process=st.integers(1, 3),
        max_processes=st.none() | st.integers(1, 3),
        nodes=st.integers(0, 2),
    )
    def begin(self, ids, nodes, **how):
        self.nodes_so_far = nodes
        there = tuple(ClusterNode(f"n{number}") for number in range(1, nodes + 1))
        self.run = Run([camera(camera_id) for camera_id in ids], nodes=there, **how)
        self.told, self.consumers = None, {}
        self.names, self.retired = set(DETECTORS), set()

    @rule(
        ids=st.lists(st.sampled_from(IDS), unique=True),
        paused=st.sets(st.sampled_from(IDS)),
        max_frame_age_s=st.sampled_from([1.0, 2.0]),
    )
    def apply(self, ids, paused, max_frame_age_s):
        cameras = [camera(camera_id, max_frame_age_s=max_frame_age_s) for camera_id in ids]
        self.run.registry.apply(cameras, paused, self.run.now)

    @rule(number=st.integers(0, 30))
    def kill(self, number):
        living = [actor for actor in self.run.named.values() if actor.lives]
        if living:
            living[number % len(living)].die(self.run.now)

    @rule(number=st.integers(0, 30))
    def come_back(self, number):
        dead = [actor for actor in self.run.named.values() if not actor.lives and self.is_there(actor.node)]
        if dead:
            dead[number % len(dead)].died_at = None

    def is_there(self, node):
        return not node or node in {there.id for there in self.run.nodes}

    @precondition(lambda self: 0 < len(self.run.nodes) < 4)
    @rule(cpus=st.sampled_from([0.0, 1.0, 4.0]), role=st.sampled_from(["", "", "decode", "detect"]))
    def add_node(self, cpus, role):
        self.nodes_so_far += 1
        self.run.nodes += (ClusterNode(f"n{self.nodes_so_far}", cpus, 0.0, role),)

    @precondition(lambda self: self.run.nodes)
    @rule(number=st.integers(0, 3))
    def drain_node(self, number):
        number %= len(self.run.nodes)
        drained = replace(self.run.nodes[number], draining=True)
        self.run.nodes = (*self.run.nodes[:number], drained, *self.run.nodes[number + 1 :])

    @precondition(lambda self: len(self.run.nodes) > 1)
    @rule(number=st.integers(0, 3))
    def lose_node(self, number):
        lost = self.run.nodes[number % len(self.run.nodes)]
        self.run.nodes = tuple(node for node in self.run.nodes if node is not lost)
        for actor in self.run.named.values():
            if actor.node == lost.id and actor.lives:
                actor.die(self.run.now)

    @rule(number=st.integers(0, 30), late=st.booleans())
    def release_late(self, number, late):
        processes = list(self.run.processes.values())
        if processes:
            processes[number % len(processes)].releases_late = late

    @rule()
    def release(self):
        for name, actor in self.run.processes.items():
            desired = self.run.desired_states.newest.get(name)
            if actor.lives and desired is not None and actor.version == desired.version:
                actor.reads = {wanted.id for wanted in desired.cameras}

    @rule()
    def restart_supervisor(self):
        self.run.restart()

    @rule(detector=st.integers(0, 3), process=st.integers(0, 5), frames=st.integers(0, 2))
    def hold(self, detector, process, frames):
        actor = list(self.run.detectors.values())[detector % len(self.run.detectors)]
        if actor.lives:
            actor.holding = {f"run-camera-{process}": frames}

    @precondition(lambda self: len(self.run.detectors) < 6)
    @rule(count=st.integers(1, 2), active=st.integers(1, 3))
    def add_detectors(self, count, active):
        names = self.run.desired_states.add_detectors(count)
        assert not self.names & set(names)
        self.names |= set(names)
        before = set(self.run.desired_states.detectors)
        self.run.desired_states.resize_pool(active)
        self.names |= set(self.run.desired_states.detectors)
        if len(before - self.retired) > self.run.desired_states.active_detectors:
            self.retired |= before - self.run.desired_states.working_detectors()

    @rule(number=st.integers(0, 5))
    def retire(self, number):
        there = self.run.desired_states.detectors
        retired = there[number % len(there)]
        if set(there) - self.retired - {retired}:  # somebody has to go on
            self.run.desired_states.retire_detectors([retired])
            self.retired.add(retired)

    @rule(seconds=st.sampled_from([0.25, 3.0, 10.0]), lost=st.booleans())
    def step(self, seconds, lost):
        self.run.now += seconds
        self.told = self.run.step(lost=self.run.named if lost else ())

    @precondition(lambda self: self.told is not None)
    @invariant()
    def holds(self):
        """What must be so after every step; between steps nothing is decided."""
        told, self.told = self.told, None
        run, newest, seen = self.run, self.run.desired_states.newest, self.run.seen
        self.every_wanted_camera_has_one_process_at_most_that_is_not_gone()
        self.no_camera_is_read_twice()
        self.a_process_has_one_living_consumer_at_most_who_knows_its_cameras()
        self.a_process_leaves_a_living_consumer_only_when_that_knows_and_holds_nothing_of_it()
        self.a_retired_detector_is_there_as_long_as_it_lives_and_holds_frames_and_is_given_nothing()
        for name, desired in newest.items():
            before = run.before.get(name)
            if before is not None:
                assert desired.version >= before.version
                assert (desired.version == before.version) == (
                    content(desired) == content(before) and before.version > 0
                )
        assert len({desired.version for desired in newest.values()}) == len(newest)
        states = {**seen.scorers, **seen.detectors, **seen.processes}
        states = {name: state for name, state in states.items() if name in newest}
        behind = {n for n, s in states.items() if s.report is not None and s.report.version != newest[n].version}
        assert told.keys() == behind
        assert all(told[name].version == newest[name].version for name in told)

    def every_wanted_camera_has_one_process_at_most_that_is_not_gone(self):
        run = self.run
        died = {name: state.died_at for name, state in run.seen.processes.items()}
        gone = {name for name, at in died.items() if at is not None and run.now - at > GONE_AFTER_S}
        anyone = any(state.report is not None for state in run.seen.processes.values())
        for camera_id, readers in run.readers().items():
            assert len(readers) <= 1
            for reader in readers:
                assert run.desired_states.is_reader(reader, camera_id)
                assert not (anyone and reader in gone)
        for name, node in run.desired_states.processes.items():
            state = run.seen.processes.get(name)
            assert state is None or state.report is not None or state.died_at is None or self.is_there(node)

    def no_camera_is_read_twice(self):
        reading = [camera_id for process in self.run.processes.values() if process.lives for camera_id in process.reads]
        assert len(reading) == len(set(reading))

    def a_process_has_one_living_consumer_at_most_who_knows_its_cameras(self):
        run, newest = self.run, self.run.desired_states.newest
        for name, desired in run.camera_states().items():
            consumers = [d for d in run.desired_states.detectors if d in newest and name in newest[d].processes]
            assert consumers == ([] if desired.consumer is None else [desired.consumer])
            for detector in consumers:
                assert run.seen.detectors[detector].report is not None
                roles = {wanted.id: CameraRole.of(wanted) for wanted in desired.cameras}
                assert roles.items() <= newest[detector].cameras.items()

    def a_process_leaves_a_living_consumer_only_when_that_knows_and_holds_nothing_of_it(self):
        run = self.run
        for name, desired in run.camera_states().items():
            before = self.consumers.get(name)
            report = run.seen.detectors[before].report if before in run.seen.detectors else None
            if report is None:
                self.consumers[name] = desired.consumer
            elif desired.consumer not in {None, before}:
                assert report.version == run.before[before].version
                assert not report.holding.get(name)
                self.consumers[name] = desired.consumer

    def a_retired_detector_is_there_as_long_as_it_lives_and_holds_frames_and_is_given_nothing(self):
        run = self.run
        for name in self.retired & run.seen.detectors.keys():
            report = run.seen.detectors[name].report
            if report is not None and any(report.holding.values()):
                assert name in run.desired_states.detectors
            if name in run.before and name in run.desired_states.newest:
                assert set(run.desired_states.newest[name].processes) <= set(run.before[name].processes)

    def teardown(self):
        """Once everyone lives, everyone is told the newest, and then nothing any more."""
        run = self.run
        for _ in range(2):
            for actor in run.named.values():
                actor.holding, actor.releases_late = {}, False
                if self.is_there(actor.node):
                    actor.died_at = None
            self.release()
            run.settle()
        assert run.desired_states.all_follow(run.states())
        before = run.desired_states.newest
        assert run.step() == {}
        assert run.desired_states.newest == before
        scored = [camera for name in SCORERS for camera in run.desired_states.newest[name].cameras]
        assert sorted(c.id for c in scored) == sorted(c.id for c in run.registry.cameras)  # each by one of them
        assert all(desired.consumer is not None for desired in run.camera_states().values())
        assert not self.retired & set(run.desired_states.detectors)
        assert all(len(readers) == 1 for readers in run.readers().values())
        self.cameras_are_spread_over_the_nodes_for_them()

    def cameras_are_spread_over_the_nodes_for_them(self):
        run = self.run
        if run.nodes:
            hosts = nodes_for("decode", run.nodes)
            hosts = [node for node in hosts if node.cpus] or hosts
            homes = run.desired_states.processes
            loads = Counter(homes[reader] for (reader,) in run.readers().values())
            assert loads.keys() <= {host.id for host in hosts}
            least = min((loads[host.id] + 1) / (host.cpus or 1) for host in hosts)
            assert all((loads[host.id] - 1) / (host.cpus or 1) < least for host in hosts)


TestUpheaval = Upheaval.TestCase
TestUpheaval.settings = settings(max_examples=60, stateful_step_count=30)


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
