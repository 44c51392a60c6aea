"""Actor that hands out the files of a run's models to nodes that do not have them, from copies in the run's folder."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from actors.actor_client import ActorClient
from pipeline.errors import CheckpointError
from pipeline.logs import log_json_in_actor
from pipeline.models.cache import ModelCache
from pipeline.models.card import CARD_FILE, WEIGHTS_FILE
from pipeline.models.fetching import copier, refresh_normal
from pipeline.models.normal_file import NORMAL_FILE
from pipeline.models.source import ModelSource

_FILES = (CARD_FILE, WEIGHTS_FILE)
_ALL_FILES = (*_FILES, NORMAL_FILE)  # the last may be missing, and detectors do not need it
_PART_BYTES = 8 * 2**20  # an answer each, which dies with whoever asked for it
_HELD = 3  # the model in use, the one before, and one on its way
_ANSWER_WITHIN_S = 30.0
_PATIENCE_S = 120.0  # for a server that is being started again; a detector that has not started by then is


class ModelServer:
    """Keeps whole copies of models, so that the originals may be changed or deleted while the run goes on.

    Killed and started again, it goes on with the copies that it finds.

    Args:
        folder: where they are kept.
    """

    def __init__(self, folder: Path) -> None:
        log_json_in_actor()
        os.umask(0o077)
        folder.mkdir(parents=True, exist_ok=True)
        self._cache = ModelCache(folder, kept=_HELD)
        self._lock = threading.Lock()  # guards what is held
        self._held: dict[str, tuple[Path, ExitStack]] = {}  # by fingerprint, the one asked for last at the end

    def keep(self, source: ModelSource) -> None:
        """Copy a model here, unless it is here, and what lies beside it: from its place, or from another such actor.

        Raises:
            CheckpointError: it cannot be had, or is another one than it should be.
        """
        elsewhere = source.server
        if elsewhere is None:
            refresh_normal(source.place, self._folder(source.fingerprint, copier(source)))
            return
        self._folder(source.fingerprint, copier_from(ActorClient(elsewhere), source, all_files=True))

    def sizes(self, fingerprint: str) -> dict[str, int]:
        """Bytes of a model's files, by their names; normal footage that lies beside it last, if there is any.

        Raises:
            CheckpointError: the model is not here.
        """
        folder = self._folder(fingerprint, _absent)
        return {
            name: (folder / name).stat().st_size for name in _ALL_FILES if name in _FILES or (folder / name).exists()
        }

    def part(self, fingerprint: str, name: str, offset: int) -> bytes:
        """Some of a file, from a byte on; nothing at its end.

        Raises:
            CheckpointError: the model is not here, or has no such file.
        """
        if name not in _ALL_FILES:
            raise CheckpointError(f"expected one of {', '.join(_ALL_FILES)}, got {name!r}")
        with (self._folder(fingerprint, _absent) / name).open("rb") as file:
            return os.pread(file.fileno(), _PART_BYTES, offset)

    def pid(self) -> int:
        """Process id."""
        return os.getpid()

    def _folder(self, fingerprint: str, fetch: Callable[[Path], None]) -> Path:
        with self._lock:
            if fingerprint not in self._held:
                held = ExitStack()
                folder, _ = held.enter_context(self._cache.held(fingerprint, fetch))
                self._held[fingerprint] = folder, held
            self._held[fingerprint] = self._held.pop(fingerprint)
            while len(self._held) > _HELD:
                self._held.pop(next(iter(self._held)))[1].close()
            return self._held[fingerprint][0]


def copier_from(server: ActorClient, source: ModelSource, *, all_files: bool = False) -> Callable[[Path], None]:
    """What copies a model's files from a ``ModelServer`` into a folder, however often that is started again meanwhile.

    Args:
        server: who has the model.
        source: of the model.
        all_files: whether what lies beside it is copied, too.
    """

    def copy(folder: Path) -> None:
        sizes = _asked(server, source, "sizes")
        for name, size in {name: size for name, size in sizes.items() if all_files or name in _FILES}.items():
            with (folder / name).open("wb") as file:
                while file.tell() < size:
                    file.write(_asked(server, source, "part", name, file.tell()) or _cut_off(source, name))

    return copy


def _asked(server: ActorClient, source: ModelSource, method: str, *arguments: Any) -> Any:
    give_up_at = time.monotonic() + _PATIENCE_S
    while (answer := server.call(method, source.fingerprint, *arguments, answer_within_s=_ANSWER_WITHIN_S)) is None:
        if time.monotonic() >= give_up_at:
            raise CheckpointError(
                f"model {source.short_fingerprint}: expected its files from {source.server} within {_PATIENCE_S:g} s, "
                "got no answer"
            )
    return answer


def _cut_off(source: ModelSource, name: str) -> bytes:
    raise CheckpointError(f"model {source.short_fingerprint}: expected all of {name} from {source.server}, got a part")


def _absent(folder: Path) -> None:
    raise CheckpointError(f"{folder.parent}: expected a model that was brought here, found no copy of it")
