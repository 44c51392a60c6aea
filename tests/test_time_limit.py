import socket

import pytest

from pipeline.time_limit import TimeLimit
from tests.sinks.made import wait_until


class Connection:
    """A connection as httpx shows it, and its other end."""

    def __init__(self):
        self.socket, self.peer = socket.socketpair()
        self.peer.settimeout(60.0)

    def get_extra_info(self, name):
        return getattr(self, name)


@pytest.fixture
def connection():
    made = Connection()
    yield made
    made.socket.close()
    made.peer.close()


def connects(limit, connection):
    limit.watch("connection.connect_tcp.complete", {"return_value": connection})


def test_a_connection_whose_time_is_up_is_shut(connection):
    limit = TimeLimit()
    with limit.within(0.01):
        connects(limit, connection)
        assert connection.peer.recv(1) == b""
    assert limit.is_over


def test_a_connection_that_is_made_after_its_time_is_shut_at_once(connection):
    limit = TimeLimit()
    with limit.within(0.0):
        wait_until(lambda: limit.is_over)
        connects(limit, connection)
    assert connection.peer.recv(1) == b""


def test_a_connection_is_used_on_by_what_comes_after_what_was_done_in_time(connection):
    limit = TimeLimit()
    with limit.within(60.0):
        connects(limit, connection)
    with limit.within(60.0):
        connection.socket.send(b"x")
    assert (connection.peer.recv(1), limit.is_over) == (b"x", False)


def test_a_connection_whose_time_was_up_is_no_longer_the_next_ones(connection):
    limit = TimeLimit()
    with limit.within(0.0):
        wait_until(lambda: limit.is_over)
    with limit.within(60.0):
        connects(limit, connection)
        connection.socket.send(b"x")
    assert (connection.peer.recv(1), limit.is_over) == (b"x", False)
