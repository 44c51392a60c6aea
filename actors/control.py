"""Changing a running run's cameras from another terminal: a Unix socket that only its user can reach.

Not through Redis: whoever can write there could otherwise have any address opened, and addresses hold passwords.
"""

from __future__ import annotations

import contextlib
import json
import logging
import socket
import socketserver
import threading
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from actors.model_control import ModelControl
from actors.run_models import RunModels
from pipeline.config import CameraSettings, Config
from pipeline.config_file import load_config, parse_config
from pipeline.errors import BadInputError, CflowError
from pipeline.files import write_whole
from pipeline.models.card import unknown_scenes
from pipeline.private_folder import private_socket
from pipeline.redaction import redact
from pipeline.run_folder import RunFolder

_log = logging.getLogger(__name__)

_TIMEOUT_S = 10.0
_LONGEST_REQUEST_BYTES = 1 << 20

Apply = Callable[[Sequence[CameraSettings], frozenset[str]], None]
"""Makes a run read these cameras, and pause those of these ids."""

Attended = Callable[[Apply, RunModels], AbstractContextManager[object]]
"""Takes requests to a run while its block lasts."""


class CameraControl:
    """Decides which cameras a run reads: the config's at first, then as its user says. Any thread may call it.

    Args:
        config: the run's settings.
        config_file: where they were read from, and are read from again by ``reload``.
        scenes: what the model knows.
        apply: makes the run read these cameras and pause those of these ids.
        models: the run's; None where nobody may change them.
    """

    def __init__(
        self,
        config: Config,
        config_file: Path,
        scenes: Collection[str],
        apply: Apply,
        models: RunModels | None = None,
    ) -> None:
        self._config, self._config_file, self._scenes, self._apply = config, config_file, scenes, apply
        self._models = None if models is None else ModelControl(config, models, lambda: tuple(self._cameras.values()))
        self._cameras = {camera.id: camera for camera in config.cameras}
        self._paused: frozenset[str] = frozenset()
        self._lock = threading.Lock()

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request says.

        Args:
            request: ``{"do": "list"}``, ``{"do": "add", "camera": {...}}`` or
                ``{"do": "remove" | "pause" | "resume", "id": ...}``, or what ``ModelControl`` answers.

        Returns:
            ``{"said": one line}``, for ``add`` also ``{"warnings": [lines]}``; for ``list`` ``{"cameras": [...]}``.

        Raises:
            BadInputError: the request cannot be met; nothing has changed.
        """
        if self._models is not None and str(request.get("do")).startswith("model "):
            return self._models.answer(request)
        with self._lock:
            match request.get("do"):
                case "list":
                    return {"cameras": [self._shown(camera) for camera in self._cameras.values()]}
                case "add":
                    return self._add(request.get("camera", {}))
                case "remove" | "pause" | "resume" as what:
                    return {"said": self._change(what, str(request.get("id", "")))}
                case what:
                    raise BadInputError(f"expected list, add, remove, pause or resume, got {what!r}")

    def reload(self) -> list[str]:
        """Take over what has changed among the cameras of the config file; returns what was done, in lines.

        Cameras that were added or removed by hand stay so unless the file's own entry changed.

        Raises:
            BadInputError: the file is not as it should be; nothing has changed.
        """
        new = load_config(self._config_file)
        with self._lock:
            before, after = _by_id(self._config), _by_id(new)
            removed = [camera_id for camera_id in before if camera_id not in after and camera_id in self._cameras]
            changed = [camera for camera_id, camera in after.items() if before.get(camera_id) != camera]
            lines = [f"camera {camera_id}: removed" for camera_id in removed]
            cameras = {camera_id: camera for camera_id, camera in self._cameras.items() if camera_id not in removed}
            for camera in changed:
                lines.append(f"camera {camera.id}: {'changed' if camera.id in cameras else 'added'}")
                cameras[camera.id] = camera
            others = [key for key in type(new).model_fields if getattr(new, key) != getattr(self._config, key)]
            lines += [f"{key}: a change takes effect with the next run" for key in others if not _of_cameras(key)]
            if removed or changed:
                self._tell(cameras, self._paused)
            lines += [f"warning: {line}" for line in unknown_scenes(changed, self._scenes)]
            self._config = new
        return lines or ["nothing has changed"]

    def _add(self, camera: Any) -> dict[str, Any]:
        defaults = self._config.camera_defaults.model_dump(mode="json")
        settings = parse_config({"camera_defaults": defaults, "cameras": [camera]}, source="camera").cameras[0]
        if settings.id.lower() in {camera_id.lower() for camera_id in self._cameras}:
            raise BadInputError(f"camera {settings.id}: expected an id that is not in use, got one that is")
        self._tell({**self._cameras, settings.id: settings}, self._paused)
        said = f"camera {settings.id}: added until the end of this run; add it to the config to keep it"
        return {"said": said, "warnings": unknown_scenes([settings], self._scenes)}

    def _change(self, what: str, camera_id: str) -> str:
        if camera_id not in self._cameras:
            known = ", ".join(self._cameras) or "none"
            raise BadInputError(f"camera {camera_id!r}: expected a camera of this run ({known}), got another")
        if what == "remove":
            self._tell({name: camera for name, camera in self._cameras.items() if name != camera_id}, self._paused)
        elif what == "pause":
            self._tell(self._cameras, self._paused | {camera_id})
        else:
            self._tell(self._cameras, self._paused - {camera_id})
        return f"camera {camera_id}: {what.rstrip('e')}ed"

    def _tell(self, cameras: dict[str, CameraSettings], paused: frozenset[str]) -> None:
        """Have the run read these cameras; a change that could not be made has not happened."""
        paused &= cameras.keys()
        self._apply(tuple(cameras.values()), paused)
        self._cameras, self._paused = cameras, paused

    def _shown(self, camera: CameraSettings) -> dict[str, Any]:
        url = redact(camera.url.get_secret_value())
        return {"id": camera.id, "url": url, "scene": camera.scene_name, "paused": camera.id in self._paused}


@contextmanager
def serve_control(camera_control: CameraControl, state_folder: Path) -> Iterator[None]:
    """Let other commands of this user reach the run while the block lasts; without room for that, the run goes on.

    Args:
        camera_control: answers.
        state_folder: of the run; says where the socket is.
    """
    record = RunFolder(state_folder).control_file
    with contextlib.ExitStack() as stack:
        try:
            path = stack.enter_context(_listening(camera_control, state_folder))
            stack.callback(_forget, record)
            write_whole(record, json.dumps({"socket": str(path)}) + "\n")
        except OSError as error:  # a full disk
            _log.warning("%s: `cameras` commands will not reach this run: %s", record, error.strerror)
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
def _listening(camera_control: CameraControl, state_folder: Path) -> Iterator[Path]:
    """Answer at a socket, whose path this gives, while the block lasts."""
    path = private_socket("control", state_folder)
    path.unlink(missing_ok=True)  # a run that was killed left it behind

    class Handler(socketserver.StreamRequestHandler):
        timeout = _TIMEOUT_S

        def handle(self) -> None:
            line = self.rfile.readline(_LONGEST_REQUEST_BYTES)
            self.wfile.write(json.dumps(_answer(camera_control, line)).encode() + b"\n")

    try:
        with _Server(str(path), Handler) as server:
            threading.Thread(target=server.serve_forever, name="control", daemon=True).start()
            try:
                yield path
            finally:
                server.shutdown()
    finally:
        path.unlink(missing_ok=True)


def ask_run(state_folder: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to the run that uses a state folder.

    Args:
        state_folder: of the run.
        request: see ``CameraControl.answer``.

    Raises:
        BadInputError: no run is there, or it cannot meet the request.
    """
    try:
        path = json.loads(RunFolder(state_folder).control_file.read_text(encoding="utf-8"))["socket"]
        with contextlib.closing(socket.socket(socket.AF_UNIX)) as connection:
            connection.settimeout(_TIMEOUT_S)
            connection.connect(path)
            connection.sendall(json.dumps(request).encode() + b"\n")
            answer = json.loads(connection.makefile("rb").readline(_LONGEST_REQUEST_BYTES) or b"{}")
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise BadInputError(
            f"{state_folder}: expected a run under way, found none ({error.__class__.__name__})"
        ) from None
    if "error" in answer:
        raise BadInputError(answer["error"])
    return answer


def _answer(camera_control: CameraControl, line: bytes) -> dict[str, Any]:
    try:
        request = json.loads(line)
    except (ValueError, RecursionError) as error:
        return {"error": f"expected a JSON object, got something else ({error.__class__.__name__})"}
    try:
        if not isinstance(request, dict):
            raise BadInputError(f"expected a JSON object, got {type(request).__name__}")
        return camera_control.answer(request)
    except CflowError as error:
        return {"error": redact(error)}
    except Exception as error:  # whatever it is, the one who asked gets an answer, and the run goes on
        _log.exception("a request failed")
        return {"error": f"the run could not do it: {redact(error)}"}


def _by_id(config: Config) -> dict[str, CameraSettings]:
    return {camera.id: camera for camera in config.cameras}


def _of_cameras(key: str) -> bool:
    return key in {"cameras", "camera_defaults"}
