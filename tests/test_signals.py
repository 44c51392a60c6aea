import _thread
import importlib
import os
import pty
import signal
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from pipeline.signals import asked_by, caught_signals, end_on_signals, kept_handlers

ROOT = Path(__file__).parent.parent
LONG_S = 20.0
ENDING = [signal.SIGINT, signal.SIGTERM, signal.SIGHUP]
# Signals come while the main thread holds the lock of the event that they set.
PESTERED = """
import os, signal, threading
from pipeline.signals import caught_signals
over = threading.Event()
def pester():
    while not over.is_set():
        os.kill(os.getpid(), signal.SIGHUP)
with caught_signals(reloads=True) as signals:
    pesterer = threading.Thread(target=pester, daemon=True)
    pesterer.start()
    for _ in range(20_000):
        signals.reload.wait(0)
        signals.reload.clear()
    over.set()
    pesterer.join()
"""
HUNG_UP = """
from pipeline.signals import caught_signals
with caught_signals(reloads=True, on_stop=lambda: signals.reload.set()) as signals:
    print("ready", flush=True)
    signals.reload.wait()
    print("stop" if signals.stop.is_set() else "reload", flush=True)
"""


def send(number):
    os.kill(os.getpid(), number)


def handlers():
    return [signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)]


@pytest.fixture(autouse=True)
def _hangup_does_what_it_does_by_default(monkeypatch):
    """Also where the tests run under nohup; and what one test was asked by, the next was not."""
    monkeypatch.setattr("pipeline.signals._asked_by", None)
    before = signal.signal(signal.SIGHUP, signal.SIG_DFL)
    yield
    signal.signal(signal.SIGHUP, before)


@pytest.mark.parametrize("number", ENDING)
def test_the_first_signal_asks_for_an_end_in_good_order_and_says_so_once(number):
    said = []
    with caught_signals(on_stop=lambda: said.append("stopping")) as signals:
        assert not signals.is_stopping
        send(number)
        assert signals.is_stopping
        assert signals.stop.wait(LONG_S)
        send(signal.SIGTERM)  # a second SIGTERM is no more than the first
    assert said == ["stopping"]
    assert not signals.reload.is_set()
    assert asked_by() == number


@pytest.mark.parametrize("number", ENDING)
def test_ctrl_c_after_another_signal_ends_the_command_at_once(number):
    with pytest.raises(KeyboardInterrupt), caught_signals():
        send(number)
        send(signal.SIGINT)


def test_a_command_that_ends_within_seconds_is_not_torn_from_it_by_a_second_ctrl_c():
    with caught_signals(second_interrupts=False) as signals:
        for number in (signal.SIGINT, signal.SIGINT, signal.SIGTERM, signal.SIGINT):
            send(number)
        assert signals.stop.wait(LONG_S)


def test_sighup_asks_for_a_reload_as_often_as_it_comes():
    with caught_signals(reloads=True) as signals:
        for _ in range(2):
            send(signal.SIGHUP)
            assert signals.reload.wait(LONG_S)
            signals.reload.clear()
        assert not signals.is_stopping
    assert not signals.stop.is_set()


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_command_ends_on_other_signals_as_on_ctrl_c_and_the_next_do_not_tear_it_from_its_end(number):
    with kept_handlers(*ENDING):
        end_on_signals()
        with pytest.raises(KeyboardInterrupt):
            send(number)
        send(signal.SIGTERM)
        send(signal.SIGHUP)
        assert asked_by() == number


def test_a_signal_does_not_wait_for_an_import_that_never_ends(tmp_path, monkeypatch):
    (tmp_path / "endless.py").write_text("import signal\nwhile True: signal.pause()\n")
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr("pipeline.signals._LONGEST_IMPORT_S", 0.1)
    monkeypatch.setattr("pipeline.signals._put_off_at_s", None)
    with kept_handlers(*ENDING):
        end_on_signals()
        with pytest.raises(KeyboardInterrupt):  # the signal may come before the import
            _thread.start_new_thread(send, (signal.SIGTERM,))
            importlib.import_module("endless")


def test_a_hangup_that_nohup_has_ignored_stays_ignored():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with kept_handlers(*ENDING):
        end_on_signals()
        with caught_signals() as signals:
            send(signal.SIGHUP)
            assert not signals.is_stopping
    assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
    with caught_signals(reloads=True) as signals:  # what asks for a reload harms nobody
        send(signal.SIGHUP)
        assert signals.reload.wait(LONG_S)


@pytest.mark.parametrize("is_closed", [True, False])
def test_a_hangup_ends_what_it_would_reload_where_the_terminal_was_closed(is_closed):
    ours, theirs = pty.openpty()
    with subprocess.Popen(
        [sys.executable, "-c", HUNG_UP], cwd=ROOT, stdin=theirs, stdout=subprocess.PIPE, stderr=theirs,
        start_new_session=True, text=True,
    ) as process:  # fmt: skip
        os.close(theirs)
        assert process.stdout.readline() == "ready\n"
        if is_closed:
            os.close(ours)
        process.send_signal(signal.SIGHUP)
        assert process.stdout.readline() == ("stop\n" if is_closed else "reload\n")
    if not is_closed:
        os.close(ours)


def test_what_signals_did_before_they_do_again_whatever_ends_the_block():
    before = handlers()
    with caught_signals():
        assert not set(handlers()) & set(before)
    assert handlers() == before
    with pytest.raises(ValueError, match="why"), caught_signals():
        raise ValueError("why")
    assert handlers() == before


def test_a_handler_that_the_block_sets_does_not_stay_though_the_block_fails():
    before = handlers()
    with pytest.raises(ValueError, match="why"), kept_handlers(signal.SIGTERM):
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        raise ValueError("why")
    assert handlers() == before


def test_on_another_thread_nothing_is_caught_and_nothing_fails():
    before, seen = handlers(), []

    def work():
        with caught_signals() as signals, kept_handlers(signal.SIGTERM):
            seen.append((handlers(), signals.is_stopping, signals.stop.is_set()))

    thread = threading.Thread(target=work)
    thread.start()
    thread.join()
    assert seen == [(before, False, False)]


def test_a_signal_never_blocks_a_command_that_is_just_looking_whether_one_came():
    done = subprocess.run([sys.executable, "-c", PESTERED], cwd=ROOT, check=False, timeout=60.0)
    assert done.returncode == 0
