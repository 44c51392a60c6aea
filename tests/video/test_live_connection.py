"""What holds a camera's connection together, on streams that do as the test says: no camera hangs on demand.

Real streams are read and recorded over it in ``test_live_reader.py``, ``test_record.py`` and in ``tests/faults``.
"""

import contextlib
import threading

import pytest

from pipeline.camera_settings import CameraSettings
from pipeline.errors import RefusedError, RunError
from pipeline.video.live_connection import MAX_STUCK_THREADS, LiveConnection
from tests.video.station import start_daemon, until

SETTINGS = CameraSettings.model_validate({"id": "gate", "url": "rtsp://viewer:hunter2@camera/main"})
LONG_S = 1000.0


class Scripted:
    """A connection whose every stream is opened and read by the test's own functions, which get the try's number."""

    def __init__(self, open_stream=lambda number: None, read=lambda number, lease: None, start_thread=start_daemon):
        self.clock_s, self.opened, self.revoked = 0.0, 0, 0
        self._open, self._read = open_stream, read
        self.connection = LiveConnection(
            SETTINGS,
            self._open_stream,
            lambda lease, number: self._read(number, lease),
            brings="frames",
            start_thread=start_thread,
            on_revoke=self._note_revoked,
            now=lambda: self.clock_s,
        )

    def check_after(self, seconds):
        self.clock_s += seconds
        self.connection.check()

    def _open_stream(self):
        self.opened += 1
        number = self.opened
        self._open(number)
        return contextlib.nullcontext(number)

    def _note_revoked(self):
        assert self.connection.lock.locked()
        self.revoked += 1


def test_a_thread_that_is_stuck_with_the_lock_is_reported_but_not_replaced_and_keeps_nothing_after_a_stop():
    """Such as a recorder's, which writes to a disk that does not answer."""
    locked, release, kept = threading.Event(), threading.Event(), []

    def write(number, lease):
        with scripted.connection.lock:
            locked.set()
            assert release.wait(60.0)
            connection.streams()
        with scripted.connection.lock:
            kept.append(scripted.connection.holds(lease))

    scripted = Scripted(read=write)
    connection = scripted.connection
    connection.start()
    assert locked.wait(20.0)
    scripted.check_after(LONG_S)
    assert connection.error.startswith("gate (rtsp://***@camera/main): expected an answer within ")
    assert connection.error.endswith("its thread is stuck")
    assert not connection.stop(timeout_s=0.01)
    assert (connection.state, scripted.opened, scripted.revoked) == ("stopped", 1, 0)
    why = connection.error
    release.set()
    until(lambda: kept, "the thread comes back")
    assert kept == [False]
    assert (connection.state, connection.error) == ("stopped", why)
    assert connection.stop()
    assert scripted.opened == 1


def test_a_camera_that_streams_after_all_shows_no_error_though_too_many_threads_were_stuck_to_replace_its_own():
    release, hold, resumed = threading.Event(), threading.Event(), threading.Event()

    def open_stuck(number):
        if number <= MAX_STUCK_THREADS:
            assert release.wait(60.0)

    def read(number, lease):
        with connection.lock:
            if connection.may_go_on(lease):
                connection.streams()
        resumed.wait(60.0)
        with connection.lock:
            if connection.may_go_on(lease):
                connection.streams()
        hold.wait(60.0)

    scripted = Scripted(open_stuck, read)
    connection = scripted.connection
    connection.start()
    for threads in range(1, MAX_STUCK_THREADS + 1):
        until(lambda threads=threads: scripted.opened == threads, "a thread opens the stream")
        scripted.check_after(LONG_S)
    until(lambda: connection.state == "streaming", "the last thread streams")
    scripted.check_after(LONG_S)
    assert "its thread is stuck" in connection.error
    assert (connection.state, scripted.opened, scripted.revoked) == ("streaming", 5, MAX_STUCK_THREADS)
    resumed.set()
    until(lambda: not connection.error, "it streams again")
    connection.stop()
    release.set()
    hold.set()


def test_what_is_asked_to_stop_may_keep_what_it_has_and_is_not_connected_again():
    reading, asked, kept = threading.Event(), threading.Event(), []

    def read(number, lease):
        reading.set()
        assert asked.wait(20.0)
        kept.append((connection.may_go_on(lease), connection.holds(lease)))

    scripted = Scripted(read=read)
    connection = scripted.connection
    connection.start()
    assert reading.wait(20.0)
    connection.request_stop()
    asked.set()
    until(lambda: connection.state == "stopped", "its thread ends")
    assert kept == [(False, True)]
    assert (connection.error, scripted.opened, scripted.revoked) == ("", 1, 0)


def test_a_pause_while_it_waits_to_try_again_tries_no_more_until_it_is_resumed():
    def refuse(number):
        if number == 1:
            raise RefusedError("gate (rtsp://viewer:hunter2@camera/main): access is refused (401)")

    def read(number, lease):
        with connection.lock:
            connection.streams()
        held.wait(60.0)

    threads, held = [], threading.Event()

    def start_thread(task):
        threads.append(threading.Thread(target=task, daemon=True))
        threads[-1].start()

    scripted = Scripted(refuse, read, start_thread)
    connection = scripted.connection
    connection.start()
    until(lambda: connection.state == "waiting", "it waits to try again")
    assert connection.error == "gate (rtsp://***@camera/main): access is refused (401)"
    connection.pause()
    assert (connection.state, connection.error, scripted.revoked) == ("opening", "", 1)
    threads[0].join(20.0)
    assert not threads[0].is_alive()
    assert scripted.opened == 1
    connection.resume()
    until(lambda: connection.state == "streaming", "it streams")
    connection.stop()
    held.set()
    connection.resume()
    assert len(threads) == 2


@pytest.mark.parametrize("failure", [MemoryError("no room"), RunError("the disk is full")])
def test_what_is_no_fault_of_the_camera_ends_its_thread(failure):
    def fail(number):
        raise failure

    tasks = []
    scripted = Scripted(fail, start_thread=tasks.append)
    scripted.connection.start()
    with pytest.raises(type(failure)) as caught:
        tasks[0]()
    assert caught.value is failure
    assert scripted.opened == 1
