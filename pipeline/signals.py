"""What a command makes of signals: the first one ends it in good order, a second Ctrl-C mostly at once.

None ends it in the middle of an import: compiled modules take that for a fault of their own, or crash.

SIGTERM and SIGHUP do what Ctrl-C does, also where the command is process 1 (a container's only one), for which the
kernel leaves out every signal that has no handler. A SIGHUP that was ignored when the command began, as under `nohup`,
stays ignored.
"""

from __future__ import annotations

import _thread
import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType

_PUT_OFF_S = 0.05
_LONGEST_IMPORT_S = 5.0  # after which a signal waits no longer: Docker kills after ten
_IMPORTING = "<frozen importlib._bootstrap"  # the files of its functions

_asked_by: int | None = None
_put_off_at_s: float | None = None  # monotonic


def asked_by() -> int | None:
    """The first signal that asked this command to end, where there was one."""
    return _asked_by


def forget_signal() -> None:
    """Take the signal that asked this command to end for the usual way to end it: it left nothing undone."""
    global _asked_by  # noqa: PLW0603  # signals are the process's own
    _asked_by = None


def end_on_signals() -> None:
    """Have SIGTERM and SIGHUP raise KeyboardInterrupt in the main thread, as Ctrl-C does, but for a second one.

    What comes during an import does so when that is done. To be called by the main thread, once.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if not _is_ignored(number):
            signal.signal(number, _interrupt)


def die_of_signals() -> None:
    """Have the same signals end this process at once, as they do by default: it has nothing more to keep."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        if not _is_ignored(number):
            signal.signal(number, signal.SIG_DFL)


def _interrupt(number: int, frame: FrameType | None) -> None:
    if asked_by() is not None and number != signal.SIGINT:
        return  # `timeout` and others send SIGTERM twice, to the process and to its group
    if _is_importing(frame) and _waited_s() < _LONGEST_IMPORT_S:
        _thread.start_new_thread(_send_again, (number,))  # needs no lock, which this thread might hold
        return
    _note(number)
    raise KeyboardInterrupt


def _is_importing(frame: FrameType | None) -> bool:
    while frame is not None:
        if frame.f_code.co_filename.startswith(_IMPORTING):
            return True
        frame = frame.f_back
    return False


def _waited_s() -> float:
    """For how long a signal has been put off."""
    global _put_off_at_s  # noqa: PLW0603  # signals are the process's own
    now_s = time.monotonic()
    if _put_off_at_s is None:
        _put_off_at_s = now_s
    return now_s - _put_off_at_s


def _send_again(number: int) -> None:
    time.sleep(_PUT_OFF_S)
    os.kill(os.getpid(), number)


def _note(number: int) -> None:
    global _asked_by  # noqa: PLW0603  # the same
    if _asked_by is None:
        _asked_by = number


def _has_terminal() -> bool:
    """Whether a standard stream leads to a terminal that is there: none does once it was closed."""
    return any(os.isatty(descriptor) for descriptor in (0, 1, 2))


def _is_ignored(number: int) -> bool:
    return signal.getsignal(number) == signal.SIG_IGN


class Signals:
    """What the user asked for by signals.

    Python runs a handler between any two instructions of the main thread, also while that one holds the lock of an
    event or writes to the terminal. Setting the event in the handler would then wait for ever, and writing would fail:
    a thread does both.

    Args:
        on_stop: called once, by that thread, after ``stop`` was set.
        second_interrupts: whether a Ctrl-C after another signal ends the command at once.
        reloads: whether SIGHUP asks for a reload; one that comes because the command's terminal was closed does not.

    Attributes:
        stop: set by the first signal that asks the command to end.
        reload: set by every SIGHUP that asks for a reload.
    """

    def __init__(
        self, on_stop: Callable[[], None] = lambda: None, *, second_interrupts: bool = True, reloads: bool = False
    ) -> None:
        self.stop = threading.Event()
        self.reload = threading.Event()
        self._on_stop = on_stop
        self._second_interrupts = second_interrupts
        self._reloads = reloads
        self._had_terminal = _has_terminal()
        self._is_stopping = False
        self._caught: SimpleQueue[threading.Event | None] = SimpleQueue()  # putting is safe in a handler

    @property
    def is_stopping(self) -> bool:
        """Whether the command was asked to end: true at once, when ``stop`` may not be set yet."""
        return self._is_stopping

    def catch(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: it is a SIGINT that ends the command at once.
        """
        if self._is_reload(number):
            self._caught.put(self.reload)
            return
        if self._is_stopping:
            if number == signal.SIGINT and self._second_interrupts:
                raise KeyboardInterrupt
            return  # `timeout` and others send SIGTERM twice, to the process and to its group
        self._is_stopping = True
        _note(number)
        self._caught.put(self.stop)

    def pass_on(self) -> None:
        """Set the events of what is caught, until ``close``."""
        while (event := self._caught.get()) is not None:
            event.set()
            if event is self.stop:
                self._on_stop()

    def close(self) -> None:
        """Let ``pass_on`` return, once it has passed on what was caught."""
        self._caught.put(None)

    def _is_reload(self, number: int) -> bool:
        return number == signal.SIGHUP and self._reloads and self._had_terminal == _has_terminal()


@contextmanager
def caught_signals(
    *, on_stop: Callable[[], None] = lambda: None, second_interrupts: bool = True, reloads: bool = False
) -> Iterator[Signals]:
    """Catch SIGINT, SIGTERM and SIGHUP while the block lasts; afterwards they do what they did before.

    Signals reach the main thread alone: in another one nothing is caught.

    Args:
        on_stop: called once, by another thread, after the first signal that asks the command to end.
        second_interrupts: whether a Ctrl-C after that raises KeyboardInterrupt.
        reloads: whether SIGHUP asks for a reload, also under `nohup`.
    """
    signals = Signals(on_stop, second_interrupts=second_interrupts, reloads=reloads)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    thread = threading.Thread(target=signals.pass_on, name="signals", daemon=True)
    thread.start()
    try:
        with kept_handlers(signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signals.catch)
            if reloads or not _is_ignored(signal.SIGHUP):
                signal.signal(signal.SIGHUP, signals.catch)
            yield signals
    finally:
        signals.close()
        thread.join()


@contextmanager
def kept_handlers(*numbers: signal.Signals) -> Iterator[None]:
    """Have the signals' handlers of before when the block ends, whatever it put in their place.

    Only the main thread can change them: in another one nothing is done.
    """
    before = {number: signal.getsignal(number) for number in numbers}
    try:
        yield
    finally:
        if threading.current_thread() is threading.main_thread():
            for number, handler in before.items():
                signal.signal(number, signal.SIG_DFL if handler is None else handler)
