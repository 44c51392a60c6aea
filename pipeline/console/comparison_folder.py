"""Where a comparison lies and what of it is done, so that the same command goes on where it stopped."""

from __future__ import annotations

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, JsonValue, ValidationError

from pipeline.errors import BadInputError
from pipeline.files import write_whole

STATE_FILE = "state.json"
"""Written first into the output folder: by it the folder is known as one of ours."""


class Trained(BaseModel):
    """What one method's training took, the features it shares with others left out.

    Attributes:
        seconds: wall time.
        peak_memory_mb: most memory its process held, in 10^6 bytes.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    seconds: float
    peak_memory_mb: float


class _State(BaseModel):
    """What is in ``STATE_FILE``."""

    model_config = ConfigDict(extra="forbid")

    settings: dict[str, JsonValue]
    features_s: float | None = None
    trained: dict[str, Trained] = {}
    replayed: list[str] = []


class ComparisonFolder:
    """The output folder of `compare`: ``METHOD/model``, ``METHOD/scores``, and what is finished.

    A step that was interrupted is done again from its beginning, for its time would not be whole otherwise.

    Args:
        root: empty, new, or of a comparison that was begun with the same settings.
        settings: plain values of all that decides the numbers, but the methods: those may become more.

    Raises:
        BadInputError: the folder holds something else.
    """

    def __init__(self, root: Path, settings: Mapping[str, Any]) -> None:
        self.root = root
        as_stored = json.loads(json.dumps(settings))  # tuples come back from the file as lists
        self._state = _State(settings=as_stored)
        file = root / STATE_FILE
        if file.exists():
            self._state = _read(file)
            if self._state.settings != as_stored:
                raise BadInputError(
                    f"{root}: expected a comparison with these settings and this footage, got one with others "
                    "(--overwrite deletes it)"
                )
        elif root.exists() and (not root.is_dir() or any(root.iterdir())):
            raise BadInputError(f"{root}: expected a new or empty folder, or a comparison to go on with, got another")
        else:
            root.mkdir(parents=True, exist_ok=True)
            self._write()

    @property
    def features(self) -> Path:
        """Folder of the features that methods share while they are trained."""
        return self.root / "features"

    @property
    def features_s(self) -> float | None:
        """What extracting them took, in seconds; None if that was not finished."""
        return self._state.features_s

    def model(self, method: str) -> Path:
        """Folder of a method's model."""
        return self.root / method / "model"

    def scores(self, method: str) -> Path:
        """Folder of its scores."""
        return self.root / method / "scores"

    def trained(self, method: str) -> Trained | None:
        """What its training took; None if that was not finished."""
        return self._state.trained.get(method)

    def replayed(self, method: str) -> bool:
        """Whether its scores are complete."""
        return method in self._state.replayed

    def begin_features(self) -> None:
        """Delete what an interrupted extraction left."""
        shutil.rmtree(self.features, ignore_errors=True)

    def begin_training(self, method: str) -> None:
        """Delete what an interrupted training left."""
        shutil.rmtree(self.root / method, ignore_errors=True)

    def begin_replay(self, method: str) -> None:
        """Delete what an interrupted replay left."""
        shutil.rmtree(self.scores(method), ignore_errors=True)

    def note_features(self, seconds: float) -> None:
        """The features are extracted."""
        self._state.features_s = seconds
        self._write()

    def note_trained(self, method: str, took: Trained) -> None:
        """A model is complete."""
        self._state.trained[method] = took
        self._write()

    def note_replayed(self, method: str) -> None:
        """A model's scores are complete."""
        self._state.replayed.append(method)
        self._write()

    def _write(self) -> None:
        write_whole(self.root / STATE_FILE, self._state.model_dump_json(indent=1) + "\n")


def _read(file: Path) -> _State:
    try:
        return _State.model_validate_json(file.read_bytes())
    except ValidationError as error:
        first = error.errors()[0]
        what = f"{'.'.join(map(str, first['loc'])) or 'text'}: {first['msg']}"
    except OSError as error:
        what = str(error)
    raise BadInputError(f"{file}: expected the state of a comparison, got {what} (--overwrite deletes it)")
