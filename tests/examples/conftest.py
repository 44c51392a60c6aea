from tests.sinks.conftest import server, sink_of

__all__ = ["server", "sink_of"]
