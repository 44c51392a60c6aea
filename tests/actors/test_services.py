"""What lies at a cluster's head of services, and how requests to them are answered; with a store of this process."""

import json
import threading
import time

import pytest
from pydantic import SecretStr
from ray.exceptions import RpcError

from actors import service_requests
from actors.control import RunControl
from actors.detach import state_place
from actors.service_directory import ServiceDirectory, ServiceRecord, chosen
from actors.service_requests import answering
from pipeline.config_file import parse_config
from pipeline.errors import BadInputError, RunError
from pipeline.runtime.status import RunStatus


class Store:
    """Has the face of Ray's client of a head's store; ``is_away`` while the head is."""

    def __init__(self):
        self.values, self.is_away = {}, False

    def _reach(self, namespace, timeout):
        assert (namespace, timeout > 0) == (b"cflow", True)
        if self.is_away:
            raise RpcError("failed to connect to all addresses", rpc_code=14)

    def internal_kv_put(self, key, value, overwrite, namespace, timeout):
        self._reach(namespace, timeout)
        assert overwrite
        self.values[key] = value

    def internal_kv_get(self, key, namespace, timeout):
        self._reach(namespace, timeout)
        return self.values.get(key)

    def internal_kv_keys(self, prefix, namespace, timeout):
        self._reach(namespace, timeout)
        return [key for key in list(self.values) if key.startswith(prefix)]

    def internal_kv_del(self, key, by_prefix, namespace, timeout):
        self._reach(namespace, timeout)
        self.values.pop(key, None)


@pytest.fixture
def store():
    return Store()


@pytest.fixture
def directory(store):
    return ServiceDirectory(store)


def record(run, state="running", started_at_s=1.0):
    return ServiceRecord(run, state, started_at_s, "10.0.0.5", "/data/run", SecretStr("redis://:hunter2@10.0.0.6/0"))


def test_a_record_is_read_as_it_was_written_shows_no_password_and_what_is_none_of_ours_is_passed_over(directory, store):
    second, first = record("run-2", "ended", 2.0), record("run-1")
    directory.put(second)
    directory.put(first)
    store.values |= {b"service/run-3": b"not json", b"service/run-4": b"{}", b"other": b"1"}
    assert directory.records() == [first, second]
    assert "hunter2" not in repr(directory.records())
    directory.forget("run-1")
    assert directory.records() == [second]


@pytest.mark.parametrize(
    ("records", "run", "may_be_over", "expected"),
    [
        ([], None, False, "expected a service, found none"),
        ([record("a", "ended")], None, False, r"expected a service, found a \(ended\)"),
        ([record("a")], "b", True, r"expected service b, found a \(running\)"),
        ([record("a", "failed")], "a", False, r"expected service a, found a \(failed\)"),
        ([record("a"), record("b", "starting")], None, True, "expected one service, or --run NAME, got a, b"),
    ],
)
def test_a_service_that_cannot_be_told_is_answered_in_a_line_with_those_that_are_there(
    records, run, may_be_over, expected
):
    with pytest.raises(BadInputError, match=rf"\A{expected}\Z"):
        chosen(records, run, may_be_over=may_be_over)


def test_the_service_that_is_meant_is_the_one_that_runs_or_is_named_and_for_readers_the_last_that_is_over():
    over, runs = record("a", "ended"), record("b")
    assert chosen([over, runs], None, may_be_over=True) == chosen([over, runs], None, may_be_over=False) == runs
    assert chosen([over, runs], "a", may_be_over=True) == over
    assert chosen([record("0", "failed"), over], None, may_be_over=True) == over


def wait_for(condition):
    give_up_at = time.monotonic() + 30.0
    while not (found := condition()):
        assert time.monotonic() < give_up_at
        time.sleep(0.02)
    return found


def test_requests_are_answered_once_each_also_those_that_came_while_nobody_or_no_head_was_there(
    directory, store, monkeypatch
):
    monkeypatch.setattr(service_requests, "_LOOK_EVERY_S", 0.02)
    config = parse_config({"cameras": [{"id": "gate", "url": "rtsp://u:hunter2@10.0.0.1/x"}]})
    told, stopped = [], threading.Event()
    run_control = RunControl(config, None, (), lambda *what: told.append(what), stop=stopped.set)
    before = directory.send("run-1", {"do": "list"})
    other = directory.send("run-10", {"do": "list"})
    with answering(directory, "run-1", run_control):
        said = json.loads(wait_for(lambda: directory.take_answer("run-1", before)))
        assert said["cameras"][0] == {"id": "gate", "url": "rtsp://***@10.0.0.1/x", "scene": "gate", "paused": False}
        assert directory.take_answer("run-1", before) is None
        store.is_away = True
        with pytest.raises(RunError, match="expected an answer of the Ray cluster's head, got: failed to connect"):
            directory.requests("run-1")
        store.is_away = False
        pause = directory.send("run-1", {"do": "pause", "id": "gate"})
        assert "paused" in json.loads(wait_for(lambda: directory.take_answer("run-1", pause)))["said"]
        refused = directory.send("run-1", {"do": "pause", "id": "nobody"})
        assert "expected a camera" in json.loads(wait_for(lambda: directory.take_answer("run-1", refused)))["error"]
        stop = directory.send("run-1", {"do": "stop"})
        wait_for(stopped.is_set)
        assert directory.requests("run-1").keys() == {stop}
        run_control.over(RunStatus((), done=True))
    assert "0 frames decoded" in json.loads(directory.take_answer("run-1", stop))["said"]
    assert (len(told), directory.requests("run-10").keys(), directory.requests("run-1")) == (1, {other}, {})


def node(role=None, *, alive=True):
    return {"Alive": alive, "Labels": {"cflow/role": role} if role else {}}


def test_state_is_kept_on_the_node_with_that_role_or_else_on_the_head_and_where_it_is_shared_on_any():
    on_head, on_state = {"resources": {"node:__internal_head__": 0.001}}, {"label_selector": {"cflow/role": "state"}}
    others = [node(), node("decode"), node("state", alive=False)]
    assert state_place(others, shared=False) == on_head
    assert state_place(others, shared=True) == {}
    assert state_place([*others, node("state")], shared=False) == on_state
    assert state_place([node("state"), node("state")], shared=True) == on_state
    with pytest.raises(BadInputError, match=r"expected one node with the label cflow/role=state, or .*, got 2 of them"):
        state_place([node("state"), node("state")], shared=False)
