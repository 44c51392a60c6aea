"""How a command begins and ends: signals, standard streams, exit codes, and one line for what went wrong."""

from __future__ import annotations

import errno
import logging
import os
import signal
import sys
import traceback
from collections.abc import Callable
from typing import IO, cast

from rich.console import Console

from pipeline.console.json_lines import JsonLines
from pipeline.console.standard_streams import use_sound_streams
from pipeline.errors import BadInputError, CflowError
from pipeline.logs import log_json, wants_json
from pipeline.private_folder import temporary_folder
from pipeline.redaction import redact
from pipeline.signals import asked_by, die_of_signals, end_on_signals

_FAILED, _BAD_INPUT = 1, 2
_TRACEBACK = "CFLOW_TRACEBACK"  # of the environment: where was it that the system refused?
_SIGNALLED = 128  # plus the signal's number, as shells have it
_RAN_OUT = {
    errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN, errno.EIO
}  # fmt: skip
_PYTHONS_OWN = {  # refusals that it has no kind of error for
    "can't start new thread": ("expected to start a thread, got as many processes as this user may have", _FAILED),
    "Could not determine home directory.": ("expected a user with a home, got one without: set HOME", _BAD_INPUT),
}


def run_command(app: Callable[[], object], err: Console) -> int:
    """Run a command; what is no fault of ours is told in one line.

    Args:
        app: the command, which ends with SystemExit.
        err: for that line.

    Returns:
        The exit code: 0 done, 1 failed, 2 bad input, 128 and the number of the signal that ended it.
    """
    use_sound_streams()
    os.umask(0o077)  # scores, alerts, recordings and logs are this user's; what a command starts inherits that
    try:
        _set_up_logging(err)
        return _after_signals(_run(app, err), err)
    finally:
        die_of_signals()  # while Python ends


def _set_up_logging(err: Console) -> None:
    """Lines for people, or JSON for all that goes to standard error."""
    logging.basicConfig(level=logging.WARNING, format="warning: %(message)s")
    try:
        if wants_json():
            log_json()
            err.file = cast("IO[str]", JsonLines(sys.stderr))
    except BadInputError as error:
        sys.exit(_told(err, str(error), _BAD_INPUT))


def _run(app: Callable[[], object], err: Console) -> int:
    """The exit code, but for signals, once what went wrong is told."""
    try:
        end_on_signals()
        _check_working_folder()
        code = _code_of(app)
        sys.stdout.flush()
    except KeyboardInterrupt:
        return _SIGNALLED + signal.SIGINT
    except CflowError as error:
        return _told(err, str(error), _BAD_INPUT if isinstance(error, BadInputError) else _FAILED)
    except (OSError, MemoryError, RuntimeError, ImportError) as error:
        refusal = _refusal(error)
        if refusal is None:
            raise
        if os.environ.get(_TRACEBACK):
            err.print(redact(traceback.format_exc()), markup=False, highlight=False)
        return _told(err, *refusal)
    return code


def _refusal(error: OSError | MemoryError | RuntimeError | ImportError) -> tuple[str, int] | None:
    """What the system refused, in a line, and the exit code; None where it is more likely a fault of ours."""
    if isinstance(error, OSError):
        line = _refused_call(error)
        return None if line is None else (line, _FAILED if error.errno in _RAN_OUT else _BAD_INPUT)
    if isinstance(error, MemoryError):
        return f"out of memory{f': {error}' if str(error) else ''}", _FAILED
    if isinstance(error, ImportError):  # too little memory, or a disk whose files may not be executed
        is_refused = "shared object" in str(error)
        return (f"expected a library that can be loaded, got: {error}", _FAILED) if is_refused else None
    return _PYTHONS_OWN.get(str(error))


def _refused_call(error: OSError) -> str | None:
    if error.filename is not None and not isinstance(error.filename, int):  # but a path
        return f"{os.fsdecode(error.filename)}: {error.strerror}"
    if error.errno in _RAN_OUT:
        return error.strerror
    try:
        temporary_folder()  # of which libraries have many ways to say that there is none
    except BadInputError as missing:
        return str(missing)
    return None


def _code_of(app: Callable[[], object]) -> int:
    try:
        app()
    except SystemExit as done:
        return done.code if isinstance(done.code, int) else 0 if done.code is None else _FAILED
    return 0


def _after_signals(code: int, err: Console) -> int:
    """The exit code of a command that was not done when a signal asked it to end."""
    number = asked_by()
    if number is None or code not in {_FAILED, _SIGNALLED + signal.SIGINT}:
        return code
    if code != _FAILED and number != signal.SIGINT:  # a log would not show it otherwise, as a terminal shows ^C
        err.print(f"ended by {signal.Signals(number).name}", markup=False, highlight=False)
    return _SIGNALLED + number


def _told(err: Console, text: str, code: int) -> int:
    for line in text.splitlines():
        err.print(f"error: {line}", markup=False, highlight=False, style="red")
    return code


def _check_working_folder() -> None:
    """Refuse to start in a folder that was deleted: paths that begin nowhere lead nowhere.

    Raises:
        BadInputError: it was.
    """
    try:
        os.getcwd()  # noqa: PTH109  # the same as Path.cwd
    except OSError as error:
        raise BadInputError(f"expected a working folder, got: {error.strerror}; change to another one") from None
