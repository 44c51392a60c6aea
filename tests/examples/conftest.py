from tests.sinks.conftest import sink_of

__all__ = ["sink_of"]
