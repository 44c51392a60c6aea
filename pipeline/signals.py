"""What a command makes of signals: the first one ends it in good order, a second Ctrl-C mostly at once."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from queue import SimpleQueue
from types import FrameType


class Signals:
    """What the user asked for by signals.

    Python runs a handler between any two instructions of the main thread, also while that one holds the lock of an
    event or writes to the terminal. Setting the event in the handler would then wait for ever, and writing would fail:
    a thread does both.

    Args:
        on_stop: called once, by that thread, after ``stop`` was set.
        second_interrupts: whether a Ctrl-C after another signal ends the command at once.

    Attributes:
        stop: set by the first signal that asks the command to end.
        reload: set by every SIGHUP.
    """

    def __init__(self, on_stop: Callable[[], None] = lambda: None, *, second_interrupts: bool = True) -> None:
        self.stop = threading.Event()
        self.reload = threading.Event()
        self._on_stop = on_stop
        self._second_interrupts = second_interrupts
        self._is_stopping = False
        self._caught: SimpleQueue[int | None] = SimpleQueue()  # putting is safe in a handler

    @property
    def is_stopping(self) -> bool:
        """Whether the command was asked to end: true at once, when ``stop`` may not be set yet."""
        return self._is_stopping

    def catch(self, number: int, _frame: FrameType | None) -> None:
        """Handle a signal.

        Raises:
            KeyboardInterrupt: it is a SIGINT that ends the command at once.
        """
        if number != signal.SIGHUP:
            if self._is_stopping:
                if number == signal.SIGINT and self._second_interrupts:
                    raise KeyboardInterrupt
                return  # `timeout` and others send SIGTERM twice, to the process and to its group
            self._is_stopping = True
        self._caught.put(number)

    def pass_on(self) -> None:
        """Set the events of what is caught, until ``close``."""
        while (number := self._caught.get()) is not None:
            if number == signal.SIGHUP:
                self.reload.set()
            else:
                self.stop.set()
                self._on_stop()

    def close(self) -> None:
        """Let ``pass_on`` return, once it has passed on what was caught."""
        self._caught.put(None)


@contextmanager
def caught_signals(
    *numbers: signal.Signals, on_stop: Callable[[], None] = lambda: None, second_interrupts: bool = True
) -> Iterator[Signals]:
    """Catch signals while the block lasts; afterwards they do what they did before.

    Signals reach the main thread alone: in another one nothing is caught.

    Args:
        numbers: SIGHUP asks for a reload, every other one asks the command to end.
        on_stop: called once, by another thread, after the first signal that asks the command to end.
        second_interrupts: whether a Ctrl-C after that raises KeyboardInterrupt.
    """
    signals = Signals(on_stop, second_interrupts=second_interrupts)
    if threading.current_thread() is not threading.main_thread():
        yield signals
        return
    thread = threading.Thread(target=signals.pass_on, name="signals", daemon=True)
    thread.start()
    try:
        with kept_handlers(*numbers):
            for number in numbers:
                signal.signal(number, signals.catch)
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
