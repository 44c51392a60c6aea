"""Asking a run of this machine from another terminal: a Unix socket that only its user can reach.

Not through Redis: whoever can write there could otherwise have any address opened, and addresses hold passwords.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from actors.control import RunControl
from actors.requests import ANSWER_WITHIN_S, Underway, answered, checked
from pipeline.errors import BadInputError
from pipeline.files import write_whole
from pipeline.private_folder import private_socket
from pipeline.run_folder import RunFolder
from pipeline.sinks.run_lock import check_unused

_log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_LONGEST_REQUEST_BYTES = 1 << 20


@contextmanager
def serve_control(run_control: RunControl, state_folder: Path) -> Iterator[None]:
    """Let other commands of this user reach the run while the block lasts; without room for that, the run goes on.

    Args:
        run_control: answers.
        state_folder: of the run; says where the socket is.
    """
    record = RunFolder(state_folder).control_file
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(_listening(run_control, state_folder))
            stack.callback(_forget, record)
            write_whole(record, json.dumps({"socket": str(path)}) + "\n")
        except OSError as error:  # a full disk
            _log.warning("%s: `cameras` and `stop` will not reach this run: %s", record, error.strerror)
        yield


def _forget(record: Path) -> None:
    with contextlib.suppress(OSError):  # a read-only disk: what it says leads nowhere then
        record.unlink()


class _Server(socketserver.ThreadingUnixStreamServer):
    """One thread per request."""

    daemon_threads = True

    def handle_error(self, request: object, client_address: object) -> None:
        """Whoever asked has gone or said nothing in time, which is no matter of the run's."""
        _log.debug("a request was not answered", exc_info=True)


@contextmanager
def _listening(run_control: RunControl, state_folder: Path) -> Iterator[Path]:
    """Answer at a socket, whose path this gives, while the block lasts."""
    path = private_socket("control", state_folder)
    path.unlink(missing_ok=True)  # a run that was killed left it behind

    underway = Underway()

    class Handler(socketserver.StreamRequestHandler):
        timeout = _TIMEOUT_S

        def handle(self) -> None:
            line = self.rfile.readline(_LONGEST_REQUEST_BYTES)
            with underway:
                self.wfile.write(answered(run_control, line))

    try:
        with _Server(str(path), Handler) as server:
            threading.Thread(target=server.serve_forever, name="control", daemon=True).start()
            try:
                yield path
            finally:
                server.shutdown()
                run_control.over(None)  # unless it is over in good order, which was said before
                underway.wait_for_none()
    finally:
        path.unlink(missing_ok=True)


def ask_run(state_folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to the run that uses a state folder.

    Args:
        state_folder: of the run.
        request: see ``RunControl.answer``.

    Raises:
        BadInputError: no run is there, or it cannot meet the request.
    """
    try:
        path = json.loads(RunFolder(state_folder).control_file.read_text(encoding="utf-8"))["socket"]
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(ANSWER_WITHIN_S if request.get("do") == "stop" else _TIMEOUT_S)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline(_LONGEST_REQUEST_BYTES) or b"{}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(f"{state_folder}: {_missing(state_folder)} ({error.__class__.__name__})") from None
    return checked(answer)


def _missing(state_folder: Path) -> str:
    """Why nobody answers: a run has its folder before it takes requests, and until after it has stopped to."""
    try:
        check_unused(state_folder)
    except BadInputError:
        return "expected a run that takes requests, got one that is still starting, or ending"
    return "expected a run under way, found none"
