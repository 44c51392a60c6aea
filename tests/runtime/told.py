"""Actors of a run that are told what to do: each follows what reaches it, and may die and come back."""

from dataclasses import dataclass, field, replace

from pipeline.camera_settings import CameraSettings
from pipeline.runtime.actor_states import ActorState, ActorStates
from pipeline.runtime.camera_registry import CameraRegistry
from pipeline.runtime.desired_state import DesiredStates
from pipeline.runtime.messages import CameraReport, DetectorReport, ScorerReport
from pipeline.runtime.slices import ScorerSlices
from pipeline.runtime.status import ReaderStatus
from pipeline.runtime.supervision import SavedRun, Supervision

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
