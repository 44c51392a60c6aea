import pytest

from tests.sinks.made import Server


@pytest.fixture
def server(tmp_path):
    """A real Redis of this test alone."""
    running = Server(tmp_path)
    running.start()
    yield running
    running.remove()


@pytest.fixture
def sink_of():
    """Makes sinks that end with the test."""
    from pipeline.sinks.redis_stream import RedisSink

    sinks = []

    def make(url, **arguments):
        sinks.append(RedisSink(url, **arguments))
        return sinks[-1]

    yield make
    for sink in sinks:
        sink.close(timeout_s=0.0)
