"""What everyone is told to do, whatever dies, comes back and is changed, in whatever order."""

from dataclasses import dataclass, field, replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.config import CameraSettings
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.desired_state import ActorState, ActorStates, DesiredStates
from pipeline.runtime.messages import CameraReport, CameraRole, DetectorReport, ScorerReport
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

    @property
    def lives(self):
        return self.died_at is None


def content(desired):
    return replace(desired, version=0)


class Run:
    """A run's actors, and what they are told."""

    def __init__(self, cameras, *, active=1, cameras_per_process=2, max_processes=None, scene_references=None):
        self.cameras = cameras
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
        for name in self.desired_states.processes:
            self.processes.setdefault(name, Actor())
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
            {name: state(a, CameraReport(a.version, {})) for name, a in self.processes.items()},
            {name: state(a, DetectorReport(a.version, a.holding)) for name, a in self.detectors.items()},
        )

    def step(self, *, lost=(), draining=False):
        """One update; what is told arrives at all but those to whom it is lost."""
        self.before, self.seen = self.desired_states.newest, self.states()
        told = self.desired_states.update(self.seen, self.now, draining=draining)
        self.make_processes()
        for name, desired in told.items():
            if name not in lost:
                self.named[name].version = desired.version
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
        """Steps until nobody is told anything any more."""
        for _ in range(3 * len(self.processes) + 5):
            if not self.step():
                return
        raise AssertionError("they are told something new without end")


class Upheaval(RuleBasedStateMachine):
    @initialize(
        ids=st.lists(st.sampled_from(IDS), unique=True),
        active=st.integers(1, 3),
        cameras_per_process=st.integers(1, 3),
        max_processes=st.none() | st.integers(1, 3),
    )
    def begin(self, ids, **how):
        self.run = Run([camera(camera_id) for camera_id in ids], **how)
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
            actor = living[number % len(living)]
            actor.died_at, actor.version, actor.holding = self.run.now, 0, {}

    @rule(number=st.integers(0, 30))
    def come_back(self, number):
        dead = [actor for actor in self.run.named.values() if not actor.lives]
        if dead:
            dead[number % len(dead)].died_at = None

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
        self.run.desired_states.active_detectors = active

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
        self.every_wanted_camera_has_exactly_one_process_that_is_not_gone()
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

    def every_wanted_camera_has_exactly_one_process_that_is_not_gone(self):
        run = self.run
        died = {name: state.died_at for name, state in run.seen.processes.items()}
        gone = {name for name, at in died.items() if at is not None and run.now - at > GONE_AFTER_S}
        anyone = any(state.report is not None for state in run.seen.processes.values())
        for camera_id, readers in run.readers().items():
            assert len(readers) == 1
            assert run.desired_states.is_reader(readers[0], camera_id)
            assert not (anyone and readers[0] in gone)

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
        for actor in run.named.values():
            actor.died_at, actor.holding = None, {}
        run.settle()
        assert run.desired_states.all_follow(run.states())
        before = run.desired_states.newest
        assert run.step() == {}
        assert run.desired_states.newest == before
        scored = [camera for name in SCORERS for camera in run.desired_states.newest[name].cameras]
        assert sorted(c.id for c in scored) == sorted(c.id for c in run.registry.cameras)  # each by one of them
        assert all(desired.consumer is not None for desired in run.camera_states().values())
        assert not self.retired & set(run.desired_states.detectors)


TestUpheaval = Upheaval.TestCase
TestUpheaval.settings = settings(max_examples=150, stateful_step_count=30)


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
        again = replace(before[name], sessions={"b": 0}) if name not in SCORERS else before[name]
        assert run.step() == {name: again}
    assert run.desired_states.newest == before


def test_a_desired_state_that_was_lost_is_sent_again_with_the_same_number():
    run = Run([camera("a")])
    lost = run.step(lost=run.named)
    assert run.step() == lost
    assert run.desired_states.all_follow(run.states())


def test_cameras_of_a_process_that_stays_away_go_to_another_one_and_stay_there():
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
    run.processes["run-camera-0"] = Actor()
    run.settle()
    assert run.readers() == {"a": ["run-camera-1"], "b": ["run-camera-1"]}
    assert not run.desired_states.is_reader("run-camera-0", "a")  # whatever it still says of it


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
