"""What a run does when it is asked to while it lasts: change its cameras, end.

Its user asks from another terminal (``control_socket``), or from any machine that has a cluster's token
(``service_requests``).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from typing import Any

from actors.model_control import ModelControl
from actors.run_models import RunModels
from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.config_file import load_config, parse_config
from pipeline.errors import BadInputError, RunError
from pipeline.models.card import unknown_scenes
from pipeline.redaction import redact
from pipeline.runtime.status import RunStatus, totals_line
from pipeline.verdicts import Verdict, add_verdict, read_verdicts

_ENDS_WITHIN_S = 25.0  # ten are promised; the rest is a machine that is busy

Apply = Callable[[Sequence[CameraSettings], frozenset[str]], None]
"""Makes a run read these cameras, and pause those of these ids."""

Ended = Callable[[RunStatus], None]
"""Is told how a run ended."""

Attended = Callable[[Apply, RunModels], AbstractContextManager[Ended]]
"""Takes requests to a run while its block lasts."""


def unattended(apply: Apply, models: RunModels) -> AbstractContextManager[Ended]:
    """Nobody changes the run or has it end."""
    return nullcontext(lambda final: None)


class RunControl:
    """Decides which cameras a run reads: the config's at first, then as its user says. Any thread may call it.

    Args:
        config: the run's settings.
        config_file: where they were read from, and are read from again by ``reload``; None where nobody can.
        scenes: what the model knows.
        apply: makes the run read these cameras and pause those of these ids.
        models: the run's; None where nobody may change them.
        stop: asks the run to end.
        paused: ids of the config's cameras that are not read at first.
        verdicts: the run's file of verdicts on events; None where nobody may say any.
    """

    def __init__(
        self,
        config: Config,
        config_file: Path | None,
        scenes: Collection[str],
        apply: Apply,
        models: RunModels | None = None,
        *,
        stop: Callable[[], None],
        paused: Collection[str] = (),
        verdicts: Path | None = None,
    ) -> None:
        self._config, self._config_file, self._scenes, self._apply = config, config_file, scenes, apply
        self._models = None if models is None else ModelControl(config, models, lambda: tuple(self._cameras.values()))
        self._run_models, self._stop = models, stop
        self._verdicts = verdicts
        self._cameras = {camera.id: camera for camera in config.cameras}
        self._paused = frozenset(paused)
        self._lock = threading.Lock()
        self._over = threading.Event()
        self._final: RunStatus | None = None

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request says.

        Args:
            request: ``{"do": "list"}``, ``{"do": "add", "camera": {...}}``, ``{"do": "remove" | "pause" | "resume",
                "id": ...}``, ``{"do": "judge", "verdict": {...}}``, ``{"do": "verdicts"}`` or ``{"do": "stop"}``, or
                what ``ModelControl`` answers.

        Returns:
            ``{"said": one line}``, for ``add`` and ``stop`` also ``{"warnings": [lines]}``; for ``list``
            ``{"cameras": [...]}``, for ``verdicts`` ``{"verdicts": [...]}``. The answer to ``stop`` comes when the run
            has ended.

        Raises:
            BadInputError: the request cannot be met; nothing has changed.
            RunError: the run did not end in good order.
        """
        if request.get("do") == "stop":
            return self._end()
        if self._verdicts is not None and request.get("do") in {"judge", "verdicts"}:
            return _judge(self._verdicts, request)
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
                    raise BadInputError(f"expected list, add, remove, pause, resume or stop, got {what!r}")

    def over(self, final: RunStatus | None) -> None:
        """Note that the run is over, once, and answer whoever asked it to end.

        Args:
            final: how it ended; None where it failed.
        """
        if not self._over.is_set():
            self._final = final
            self._over.set()

    def reload(self) -> list[str]:
        """Take over what has changed among the cameras of the config file, and beside the run's models.

        Cameras that were added or removed by hand stay so unless the file's own entry changed.

        Returns:
            What was done, in lines.

        Raises:
            BadInputError: the file is not as it should be; nothing has changed.
        """
        if self._config_file is None:
            raise BadInputError("expected a run that has its config file at hand, got one that has not")
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
            calibrated = self._run_models is not None and self._run_models.read_footage_again()
            if calibrated:
                lines.append("normal footage beside the model: read again, thresholds follow it")
            if removed or changed or calibrated:
                self._tell(cameras, self._paused)
            lines += [f"warning: {line}" for line in unknown_scenes(changed, self._scenes)]
            self._config = new
        return lines or ["nothing has changed"]

    def _end(self) -> dict[str, Any]:
        self._stop()
        if not self._over.wait(_ENDS_WITHIN_S):
            raise RunError(f"expected the run to end within {_ENDS_WITHIN_S:g} s, it did not")
        if self._final is None:
            raise RunError("expected the run to end in good order, it failed: see `status`")
        return {"said": totals_line(self._final.totals()), "warnings": list(self._final.unwritten)}

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
        if self._run_models is not None:
            self._run_models.prepare(tuple(cameras.values()))
        self._apply(tuple(cameras.values()), paused)
        self._cameras, self._paused = cameras, paused

    def _shown(self, camera: CameraSettings) -> dict[str, Any]:
        url = redact(camera.url.get_secret_value())
        return {"id": camera.id, "url": url, "scene": camera.scene_name, "paused": camera.id in self._paused}


def _judge(verdicts: Path, request: Mapping[str, Any]) -> dict[str, Any]:
    if request["do"] == "judge":
        add_verdict(verdicts, Verdict.parse(request.get("verdict")))
        return {"said": "kept"}
    return {"verdicts": [verdict.as_object() for verdict in read_verdicts(verdicts).values()]}


def _by_id(config: Config) -> dict[str, CameraSettings]:
    return {camera.id: camera for camera in config.cameras}


def _of_cameras(key: str) -> bool:
    return key in {"cameras", "camera_defaults"}
