"""Where cameras are read, as nodes and processes come and go."""

from collections import Counter
from dataclasses import dataclass, field, replace

import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from pipeline.runtime.assignment import PlacedProcess
from pipeline.runtime.nodes import ClusterNode, nodes_for
from pipeline.runtime.placement import CameraPlacement

IDS = tuple("abcdef")


@dataclass
class Process:
    """Follows what it is told a step later, and releases cameras when the test says so."""

    told: frozenset = frozenset()
    reads: set = field(default_factory=set)
    follows: bool = False
    died_at: float | None = None

    def die(self, now):
        self.died_at, self.reads, self.follows = now, set(), False


class Cluster:
    """Camera processes on nodes, and a placement that they follow; nothing is in flight."""

    def __init__(self, ids, nodes, *, per_process=2, max_processes=None, detectors=1):
        self.ids, self.nodes, self.detectors = list(ids), list(nodes), detectors
        self.placement = CameraPlacement("run", per_process, max_processes)
        self.placement.begin(self.ids, self.nodes, detectors)
        self.now, self.processes, self.in_flight, self.files = 1000.0, {}, Counter(), set()

    def step(self, seconds=0.25, *, told=True):
        self.now += seconds
        self.there = {node.id for node in self.nodes}
        seen = {
            name: PlacedProcess(p.died_at is None, p.died_at, p.follows, frozenset(p.reads), self.homes[name])
            for name, p in self.processes.items()
        }
        self.placement.update(
            {camera_id: camera_id not in self.files for camera_id in self.ids},
            seen,
            self.nodes,
            detectors=self.detectors,
            in_flight=lambda camera_id: self.in_flight[camera_id],
            now=self.now,
        )
        self.homes = self.placement.processes
        self.processes = {name: self.processes.get(name, Process()) for name in self.homes}
        for name, process in self.processes.items():
            to_read = frozenset(c for c in self.ids if self.placement.process(c) == name)
            process.follows &= process.told == to_read
            process.told = to_read
            if told and process.died_at is None and not process.follows:
                process.follows, process.reads = True, process.reads | to_read

    def release(self):
        for process in self.processes.values():
            process.reads &= process.told

    def settle(self):
        for _ in range(40):
            self.step()
            self.release()

    def spread(self):
        """Cameras by node."""
        return Counter(self.homes[self.placement.process(camera_id)] for camera_id in self.ids)

    def readers(self):
        return {camera_id: [n for n, p in self.processes.items() if camera_id in p.reads] for camera_id in self.ids}


class Wandering(RuleBasedStateMachine):
    @initialize(
        ids=st.sets(st.sampled_from(IDS)),
        cpus=st.lists(st.sampled_from([1.0, 3.0]), min_size=1, max_size=3),
        per_process=st.integers(1, 3),
        max_processes=st.none() | st.integers(1, 2),
        detectors=st.integers(1, 3),
    )
    def begin(self, ids, cpus, **how):
        nodes = [ClusterNode(f"n{number}", number_of) for number, number_of in enumerate(cpus)]
        self.made, self.cluster = len(nodes), Cluster(sorted(ids), nodes, **how)
        self.cluster.step()

    @rule(ids=st.sets(st.sampled_from(IDS)))
    def want(self, ids):
        self.cluster.ids = sorted(ids)

    @rule(number=st.integers(0, 5))
    def want_one_more_or_less(self, number):
        self.cluster.ids = sorted({*self.cluster.ids} ^ {IDS[number]})

    @rule(told=st.booleans(), seconds=st.sampled_from([0.25, 6.0]))
    def step(self, told, seconds):
        self.cluster.step(seconds, told=told)

    @rule()
    def release(self):
        self.cluster.release()

    @rule(number=st.integers(0, 5), back=st.booleans())
    def kill_or_bring_back(self, number, back):
        processes = list(self.cluster.processes.items())
        if processes:
            name, process = processes[number % len(processes)]
            if back and self.cluster.homes[name] in {node.id for node in self.cluster.nodes}:
                process.died_at = None
            elif not back and process.died_at is None:
                process.die(self.cluster.now)

    @precondition(lambda self: len(self.cluster.nodes) < 4)
    @rule(cpus=st.sampled_from([0.0, 1.0, 3.0]), role=st.sampled_from(["", "decode", "detect"]))
    def add_node(self, cpus, role):
        self.made += 1
        self.cluster.nodes.append(ClusterNode(f"n{self.made}", cpus, 0.0, role))

    @rule(number=st.integers(0, 3))
    def drain_node(self, number):
        number %= len(self.cluster.nodes)
        self.cluster.nodes[number] = replace(self.cluster.nodes[number], draining=True)

    @precondition(lambda self: len(self.cluster.nodes) > 1)
    @rule(number=st.integers(0, 3))
    def lose_node(self, number):
        lost = self.cluster.nodes.pop(number % len(self.cluster.nodes))
        for name, process in self.cluster.processes.items():
            if self.cluster.homes[name] == lost.id and process.died_at is None:
                process.die(self.cluster.now)

    @invariant()
    def no_camera_is_read_twice(self):
        if hasattr(self, "cluster"):
            assert all(len(readers) <= 1 for readers in self.cluster.readers().values())

    @invariant()
    def a_lost_node_has_no_process(self):
        if hasattr(self, "cluster"):
            processes, homes = self.cluster.processes, self.cluster.homes
            assert all(home in self.cluster.there or processes[name].died_at is None for name, home in homes.items())

    def teardown(self):
        """Once everything holds still, every camera is read, on the nodes for it, as evenly as can be, and stays."""
        cluster = self.cluster
        cluster.step()
        for process in cluster.processes.values():
            process.died_at = None
        cluster.settle()
        before = cluster.readers()
        assert all(len(readers) == 1 for readers in before.values())
        cluster.settle()
        assert cluster.readers() == before
        hosts = nodes_for("decode", cluster.nodes)
        hosts = [node for node in hosts if node.cpus] or hosts
        loads = cluster.spread()
        assert loads.keys() <= {host.id for host in hosts}
        least = min((loads[host.id] + 1) / (host.cpus or 1) for host in hosts)
        assert all((loads[host.id] - 1) / (host.cpus or 1) < least for host in hosts)


TestWandering = Wandering.TestCase
TestWandering.settings = settings(max_examples=60, stateful_step_count=30)


def test_cameras_are_spread_in_proportion_to_cpus_and_a_new_node_gets_its_share_a_few_at_a_time():
    cluster = Cluster(range(12), [ClusterNode("a", 4.0), ClusterNode("b", 2.0)], per_process=4)
    cluster.settle()
    assert cluster.spread() == {"a": 8, "b": 4}
    cluster.nodes.append(ClusterNode("c", 6.0))
    cluster.step()
    assert all(cluster.placement.process(camera_id) is not None for camera_id in cluster.ids)  # the new process starts
    cluster.step()
    assert sum(cluster.placement.process(camera_id) is None for camera_id in cluster.ids) == 4
    cluster.settle()
    assert cluster.spread() == {"a": 4, "b": 2, "c": 6}


def test_a_camera_that_moves_waits_for_its_last_frames_but_not_for_ever():
    cluster = Cluster("ab", [ClusterNode("a")])
    cluster.settle()
    cluster.nodes.append(ClusterNode("b"))
    cluster.in_flight.update("ab")
    cluster.step()
    cluster.step()
    (moving,) = [camera_id for camera_id in "ab" if cluster.placement.process(camera_id) is None]
    assert not cluster.placement.is_reader("run-camera-0", moving)
    cluster.step(60.0)
    assert cluster.placement.process(moving) is None  # it has not been released
    cluster.release()
    cluster.step()
    cluster.step(2.9)
    assert cluster.placement.process(moving) is None
    cluster.step(0.2)
    assert cluster.homes[cluster.placement.process(moving)] == "b"


def test_a_process_that_does_not_follow_yet_may_be_about_to_read_what_moves():
    placement, nodes = CameraPlacement("run", 2), [ClusterNode("a"), ClusterNode("b", draining=True)]
    placement.begin("a", nodes[:1], 1)

    def step(seconds, **process):
        seen = {"run-camera-0": PlacedProcess(True, node="a", **process), "run-camera-1": PlacedProcess(True, node="b")}
        placement.update({"a": True}, seen, nodes, detectors=1, in_flight=lambda camera_id: 0, now=seconds)
        return placement.process("a")

    nodes[:] = [replace(nodes[0], draining=True), replace(nodes[1], draining=False)]
    assert step(1.0) == "run-camera-0"
    assert step(2.0) is None
    assert step(3.0, follows=False) is None
    assert step(4.0, follows=True) == "run-camera-1"


def test_a_camera_stays_where_it_is_when_the_node_is_lost_that_it_was_to_go_to():
    cluster = Cluster("ab", [ClusterNode("a")])
    cluster.settle()
    cluster.nodes.append(ClusterNode("b"))
    cluster.step()
    cluster.step()
    assert None in {cluster.placement.process(camera_id) for camera_id in "ab"}
    cluster.nodes.pop()
    cluster.processes["run-camera-1"].die(cluster.now)
    cluster.step()
    assert {cluster.placement.process(camera_id) for camera_id in "ab"} == {"run-camera-0"}


def test_files_stay_while_their_node_is_there_and_are_read_elsewhere_once_it_is_gone():
    cluster = Cluster("ab", [ClusterNode("a")])
    cluster.files |= {"a", "b"}
    cluster.settle()
    cluster.nodes = [ClusterNode("a", draining=True), ClusterNode("b")]
    cluster.settle()
    assert cluster.spread() == {"a": 2}
    del cluster.nodes[0]
    for process in cluster.processes.values():
        process.die(cluster.now)
    cluster.step()
    assert cluster.spread() == {"b": 2}


def test_a_lost_node_s_cameras_are_read_elsewhere_at_once_and_those_of_a_process_that_died_after_5_s():
    cluster = Cluster("abcd", [ClusterNode("a"), ClusterNode("b")])
    cluster.settle()
    on_a = next(iter(cluster.processes))
    cluster.processes[on_a].die(cluster.now)
    cluster.step(4.9)
    assert cluster.spread() == {"a": 2, "b": 2}
    cluster.nodes.pop(0)
    cluster.step(0.01)
    assert cluster.spread() == {"b": 4}
    assert on_a not in cluster.homes


def test_cameras_of_a_process_that_stays_away_crowd_the_others_of_its_node_and_leave_a_node_that_has_no_other():
    cluster = Cluster("abc", [ClusterNode("a")], per_process=1)
    cluster.settle()
    cluster.processes["run-camera-0"].die(cluster.now)
    cluster.step(6.0)
    assert cluster.placement.process("a") in {"run-camera-1", "run-camera-2"}
    cluster = Cluster("abcd", [ClusterNode("a"), ClusterNode("b")])
    cluster.settle()
    cluster.processes["run-camera-0"].die(cluster.now)  # its node is lost, which nobody has noticed
    cluster.step(6.0)
    assert cluster.spread() == {"b": 4}
    cluster.settle()
    assert set(cluster.homes.values()) == {"a", "b"}
    assert cluster.spread() == {"b": 4}  # nothing goes there
    cluster.processes["run-camera-0"].died_at = None
    cluster.settle()
    assert cluster.spread() == {"a": 2, "b": 2}


def test_another_one_goes_on_from_what_was_saved_in_the_middle_of_moves():
    cluster = Cluster("abcd", [ClusterNode("a")])
    cluster.settle()
    cluster.nodes.append(ClusterNode("b"))
    cluster.step()
    cluster.step()
    moving = [camera_id for camera_id in "abcd" if cluster.placement.process(camera_id) is None]
    assert moving
    before, cluster.placement = cluster.placement, CameraPlacement("run", 2)
    cluster.placement.restore(before.saved())
    cluster.step()
    assert [camera_id for camera_id in "abcd" if cluster.placement.process(camera_id) is None] == moving
    assert cluster.homes == before.processes
    cluster.settle()
    assert cluster.spread() == {"a": 2, "b": 2}
    assert cluster.homes == before.processes


def test_a_run_that_ends_moves_nothing_any_more():
    cluster = Cluster("ab", [ClusterNode("a")])
    cluster.settle()
    cluster.nodes.append(ClusterNode("b"))
    for _ in range(3):
        cluster.step()
    assert None in {cluster.placement.process(camera_id) for camera_id in "ab"}
    cluster.placement.stay()
    assert {cluster.placement.process(camera_id) for camera_id in "ab"} == {"run-camera-0"}
    assert all(cluster.placement.is_reader("run-camera-0", camera_id) for camera_id in "ab")


def test_where_detectors_would_find_no_process_to_take_from_the_fullest_one_is_halved():
    cluster = Cluster("abcdef", [ClusterNode("a")], per_process=8)
    cluster.settle()
    assert len(cluster.homes) == 1
    cluster.detectors = 2
    cluster.settle()
    assert Counter(readers[0] for readers in cluster.readers().values()) == {"run-camera-0": 3, "run-camera-1": 3}
    cluster.processes["run-camera-1"].die(cluster.now)
    cluster.step(6.0)
    cluster.settle()
    assert cluster.spread() == {"a": 6}
    assert len(cluster.homes) == 2  # it may come back
    cluster.processes["run-camera-1"].died_at = None
    cluster.settle()
    assert Counter(readers[0] for readers in cluster.readers().values()) == {"run-camera-0": 3, "run-camera-1": 3}


@pytest.mark.parametrize(
    ("nodes", "expected"),
    [
        ([], ""),
        ([ClusterNode("a"), ClusterNode("b", role="decode")], "b"),
        ([ClusterNode("a"), ClusterNode("b", role="detect")], "a"),
        ([ClusterNode("b", role="detect")], "b"),
        ([ClusterNode("a"), ClusterNode("b", role="decode", draining=True)], "a"),
        ([ClusterNode("a", draining=True), ClusterNode("b", role="detect", draining=True)], "a"),
    ],
)
def test_what_is_labelled_for_a_role_does_it_alone_and_what_no_label_claims_is_done_by_those_without_one(
    nodes, expected
):
    assert "".join(node.id for node in nodes_for("decode", nodes)) == expected
