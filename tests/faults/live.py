"""A run over live cameras beside the test: started as a user's is, watched, broken and ended."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psutil

from actors.control import RunControl
from actors.control_socket import ask_run, serve_control
from actors.plans import stream_plan
from actors.run import run
from pipeline.config import Config
from pipeline.config_file import parse_config
from pipeline.models.card import read_card
from pipeline.runtime.status import CameraStatus, RunStatus
from tests.models_for_tests import TINY

# Faults are noticed soon, and alarms come often: what they say is not what is tested.
QUICK = {
    "sample_fps": 5,
    "open_timeout_s": 1,
    "read_timeout_s": 0.5,
    "stall_timeout_s": 2,
    "reconnect_max_s": 0.5,
    "alerts": {
        "quantile": 0.5,
        "close_quantile": 0.4,
        "open_frames": 1,
        "open_s": 0,
        "close_s": 0.5,
        "cooldown_s": 0,
        "update_s": 1,
        "smoothing_s": 0,
    },
    "health": {"offline_s": 1.5, "frozen_s": None, "dark_s": None, "moved_s": None},
}


def live_config(urls: Mapping[str, str], folder: Path, redis_url: str, **sections: Any) -> Config:
    """A config of quick cameras."""
    cameras = [{"id": name, "url": url} for name, url in urls.items()]
    return parse_config(
        {
            **TINY,
            "camera_defaults": QUICK,
            "cameras": cameras,
            "runtime": {**TINY["runtime"], "cameras_per_process": 1},
            "redis": {"url": redis_url},
            "output": {"folder": str(folder), "rotate_s": 2},
            **sections,
        }
    )


class LiveRun:
    """A run in a thread of this process, until ``end``; on the Ray of its own, or on a cluster's."""

    def __init__(
        self, config: Config, model_folder: Path, *, spare_detectors: int = 0, address: str | None = None
    ) -> None:
        self._address = address
        self.folder = config.output.folder
        self.config_file = self.folder / "cameras.yaml"
        self.folder.mkdir(parents=True, exist_ok=True)
        runtime = config.runtime.model_copy(update={"spare_detectors": spare_detectors})
        config = config.model_copy(update={"runtime": runtime})
        redis_url = config.redis.url.get_secret_value()
        self.plan = stream_plan(config, read_card(model_folder), model_folder, redis_url)
        self.status = RunStatus((), done=False)
        self.troubles: list[str] = []
        self._config = config
        self._stop = threading.Event()
        self._final: list[RunStatus | BaseException] = []
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def _run(self) -> None:
        @contextmanager
        def attended(apply, models):
            self.control = RunControl(self._config, self.config_file, (), apply, models, stop=self._stop.set)
            with serve_control(self.control, self.folder):
                yield self.control.over

        try:
            final = run(self.plan, address=self._address, stop=self._stop, on_status=self._see, attended=attended)
            self._final.append(final)
        except BaseException as error:
            self._final.append(error)

    def _see(self, status: RunStatus) -> None:
        self.status = status
        self.troubles += [trouble.text for trouble in status.troubles if trouble.text not in self.troubles]

    def camera(self, camera_id: str) -> CameraStatus:
        """How a camera stands."""
        return next(camera for camera in self.status.cameras if camera.camera_id == camera_id)

    def ask(self, **request: Any) -> dict[str, Any]:
        """What ``run_cluster.py cameras`` sends."""
        return ask_run(self.folder, request)

    def wait(self, condition: Callable[[], bool], what: str, longest_s: float = 60.0) -> None:
        """Wait until something is so."""
        give_up_at = time.monotonic() + longest_s
        while not condition():
            assert not self._final, f"the run ended: {self._final}"
            assert time.monotonic() < give_up_at, f"not within {longest_s:g} s: {what}; {self.status}"
            time.sleep(0.05)

    def wait_for_scores(self, *camera_ids: str, longest_s: float = 60.0) -> None:
        """Wait until frames are scored that were captured from now on."""
        since_s = time.time()
        self.wait(
            lambda: all(self._newest(name) > since_s for name in camera_ids), f"{camera_ids} score again", longest_s
        )

    def _newest(self, camera_id: str) -> float:
        found = [camera.scoring.scored_frame_at_s for camera in self.status.cameras if camera.camera_id == camera_id]
        return found[0] or 0.0 if found else 0.0

    def end(self) -> RunStatus:
        """Stop it in good order; gives how it ended."""
        self._stop.set()
        self._thread.join(60.0)
        assert self._final, "the run did not end"
        if isinstance(self._final[0], BaseException):
            raise self._final[0]
        return self._final[0]


def kill_actors(kind: str) -> list[int]:
    """SIGKILL every process of a kind of actor; their pids."""
    found = [process.pid for process in actors_of(psutil.Process(), kind)]
    for pid in found:
        os.kill(pid, signal.SIGKILL)
    return found


def actors_of(command: psutil.Process, kind: str) -> list[psutil.Process]:
    """Processes of a kind of actor that a command started."""
    return [child for child in command.children(recursive=True) if _is_actor(child, kind)]


def _is_actor(process: psutil.Process, kind: str) -> bool:
    try:
        return " ".join(process.cmdline()).startswith(f"ray::{kind}")
    except psutil.Error:
        return False
