"""What a run does when it is asked for its model, or for another one, while it lasts."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from actors.run_models import RunModels
from pipeline.camera_settings import CameraSettings
from pipeline.config import Config
from pipeline.errors import BadInputError, CflowError
from pipeline.models.card import ModelCard, unknown_scenes
from pipeline.models.fetching import find_model
from pipeline.redaction import redact
from pipeline.remote_files import is_address
from pipeline.runtime.model_swap import RunModel

_log = logging.getLogger(__name__)


class ModelControl:
    """Which model a run scores by: the plan's at first, then as its user says. Any thread may call it.

    A model is read, and perhaps fetched, in a thread of its own: whoever asked for it is told how it stands by asking
    again.

    Args:
        config: the run's settings; where they speak of the model, another one must agree.
        models: the run's.
        cameras: gives the cameras that the run reads.
    """

    def __init__(self, config: Config, models: RunModels, cameras: Callable[[], Sequence[CameraSettings]]) -> None:
        self._config, self._models, self._cameras = config, models, cameras
        self._lock = threading.Lock()  # guards the four below
        self._change = 0
        self._is_reading = False
        self._refused = ""
        self._warnings: list[str] = []

    def answer(self, request: Mapping[str, Any]) -> dict[str, Any]:
        """Do what a request says.

        Args:
            request: ``{"do": "model show"}``, ``{"do": "model back"}``, or ``{"do": "model set", "place": ...}``
                with an absolute folder or an address.

        Returns:
            For ``show`` how the run stands to its models, and to the change that was asked for last. Else
            ``{"said": one line, "change": its number}``; ``show`` tells what becomes of it.

        Raises:
            BadInputError: the request cannot be met; nothing has changed.
        """
        match request.get("do"):
            case "model show":
                return self._shown()
            case "model set":
                place = str(request.get("place", ""))
                if not is_address(place) and not Path(place).is_absolute():
                    raise BadInputError(f"model: expected an absolute folder or an address, got {redact(place)!r}")
                return self._begin(place, lambda: self._read(place))
            case "model back":
                before = self._models.before
                if before is None:
                    raise BadInputError("expected a run whose model was changed, got one that has its first model")
                return self._begin(f"the model before, {before.card.short_fingerprint}", lambda: before)
            case what:
                raise BadInputError(f"expected model show, model set or model back, got {what!r}")

    def _shown(self) -> dict[str, Any]:
        with self._lock:
            asked = {"change": self._change, "reading": self._is_reading, "refused": self._refused}
            asked["warnings"] = list(self._warnings)
            return {**asked, "model": self._models.status().as_json()}

    def _begin(self, what: str, read: Callable[[], RunModel]) -> dict[str, Any]:
        with self._lock:
            self._models.check_can_change()
            if self._is_reading:
                raise BadInputError("expected a run whose model is not changing, got one that reads another model")
            self._change += 1
            self._is_reading, self._refused, self._warnings = True, "", []
            threading.Thread(target=self._make_change, args=(read,), name="model", daemon=True).start()
            said = f"{redact(what)} is to follow {self._models.current.card.short_fingerprint}"
            return {"said": said, "change": self._change}

    def _make_change(self, read: Callable[[], RunModel]) -> None:
        refused, warnings = "", list[str]()
        try:
            model = read()
            warnings = unknown_scenes(self._cameras(), model.card.scenes)
            self._models.change(model)
        except CflowError as error:
            refused = redact(error)
        except Exception as error:  # whatever it is, the one who asked gets an answer, and the run goes on
            _log.exception("a change of model failed")
            refused = f"the run could not read it: {redact(error)}"
        with self._lock:
            self._is_reading, self._refused, self._warnings = False, refused, warnings

    def _read(self, place: str) -> RunModel:
        """Read and check another model.

        Raises:
            BadInputError: it cannot be read, is damaged, or does not fit the run.
        """
        found, current = find_model(place, self._config), self._models.current.card
        if found.card.fingerprint == current.fingerprint:
            raise BadInputError(
                f"{redact(place)}: expected another model than {current.short_fingerprint}, got that one"
            )
        _check_fits(found.card, current, redact(place))
        return RunModel(found.card, found.source)


def _check_fits(card: ModelCard, current: ModelCard, place: str) -> None:
    """See whether frames that are read for one model are what another one takes.

    Raises:
        BadInputError: they are not.
    """
    settings = {
        "image_size_px": (list(current.model.image_size_px), list(card.model.image_size_px)),
        "motion.gap_s": (current.model.motion.gap_s, card.model.motion.gap_s),
    }
    for name, (wanted, got) in settings.items():
        if wanted != got:
            raise BadInputError(f"{place}: model.{name}: expected {wanted}, as this run reads its cameras, got {got}")
