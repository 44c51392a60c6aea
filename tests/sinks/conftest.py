import pytest

from tests.sinks.made import SinkWithStore


@pytest.fixture
def sink_of(tmp_path):
    """Makes sinks that end with the test, each with a store of its own unless told otherwise."""
    sinks = []

    def make(url, *, folder=None, **arguments):
        sinks.append(SinkWithStore(url, folder or tmp_path / f"store-{len(sinks)}", **arguments))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close(timeout_s=0.0)
