"""What everyone is told to do, whatever dies, comes back and is changed, in whatever order."""

from collections import Counter
from dataclasses import replace

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.runtime.messages import CameraRole
from pipeline.runtime.nodes import ClusterNode, nodes_for
from tests.runtime.told import DETECTORS, GONE_AFTER_S, IDS, SCORERS, Run, camera, content


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
