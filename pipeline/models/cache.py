"""Models that were fetched from elsewhere, kept on this machine by their fingerprints and shared by its processes.

A model is there whole or not at all; one that is damaged is fetched again. Of several processes that want the same
model at once one fetches it and the others wait. The models used last are kept, and every one that somebody uses.
"""

from __future__ import annotations

import fcntl
import logging
import os
import re
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager, suppress
from pathlib import Path
from typing import Self

from pipeline.abandoned import changed_at, forget_abandoned
from pipeline.errors import CheckpointError
from pipeline.files import replace_folder_whole
from pipeline.models.card import ModelCard, read_card
from pipeline.private_folder import cache_folder, make_private, private_folder

_log = logging.getLogger(__name__)

_KEPT = 4
_FINGERPRINT = re.compile("[0-9a-f]{64}")


class ModelCache:
    """A folder of models.

    Args:
        folder: where they are; nobody else may be able to write into it.
        kept: how many are kept that nobody uses.
    """

    def __init__(self, folder: Path, kept: int = _KEPT) -> None:
        self._folder, self._kept = folder, kept

    @classmethod
    def of_user(cls) -> Self:
        """This user's, in the cache folder; where none can be made, among temporary files.

        Raises:
            CheckpointError: neither can be made.
        """
        try:
            return cls(cache_folder("models"))
        except OSError as error:
            _log.info("models are kept among temporary files: %s", error)
        own = private_folder()
        try:
            make_private(own)
            make_private(own / "models")
        except OSError as error:
            raise CheckpointError(
                f"{own}: expected a folder for the copy of a model, got: {error.strerror or error}"
            ) from error
        return cls(own / "models")

    @contextmanager
    def held(self, fingerprint: str, fetch: Callable[[Path], None]) -> Iterator[tuple[Path, ModelCard]]:
        """A model's folder and card; nobody deletes it while the block lasts, or this process lives in it.

        Args:
            fingerprint: of the model.
            fetch: puts its files into a folder, where it is not here yet or is damaged.

        Raises:
            CheckpointError: ``fetch`` raised it, brought another model or a damaged one, or there is no room.
        """
        if _FINGERPRINT.fullmatch(fingerprint) is None:
            raise CheckpointError(f"expected a model's fingerprint, got {fingerprint[:80]!r}")
        folder = self._folder / fingerprint
        with ExitStack() as held:
            try:
                with self._reserved(fingerprint, fcntl.LOCK_EX):
                    card = self._whole(folder, fingerprint) or self._fetched(folder, fingerprint, fetch)
                    held.enter_context(_locked(folder, os.O_RDONLY, fcntl.LOCK_SH))
                    os.utime(folder)
                self._forget_old()
            except OSError as error:
                raise CheckpointError(f"{folder}: the copy of a model: {error.strerror or error}") from error
            yield folder, card

    def _whole(self, folder: Path, fingerprint: str) -> ModelCard | None:
        """The card of a model that is here and sound."""
        if not folder.is_dir():
            return None
        try:
            card = read_card(folder)
        except CheckpointError as error:
            _log.warning("it is fetched again: %s", error)
            return None
        return card if card.fingerprint == fingerprint else None

    def _fetched(self, folder: Path, fingerprint: str, fetch: Callable[[Path], None]) -> ModelCard:
        with replace_folder_whole(folder) as staged:
            fetch(staged)
            try:
                card = read_card(staged)
            except CheckpointError as error:
                said = str(error).replace(f"{staged}/", "")
                raise CheckpointError(f"expected the model {fingerprint[:12]}, got a damaged copy: {said}") from None
            if card.fingerprint != fingerprint:
                raise CheckpointError(f"expected the model {fingerprint[:12]}, got {card.short_fingerprint}")
        return card

    def _forget_old(self) -> None:
        """Delete what was not used for longest, and what a killed process left half fetched."""
        forget_abandoned(self._folder, ".*.part-*")
        models = [path for path in self._folder.iterdir() if _FINGERPRINT.fullmatch(path.name)]
        models.sort(key=lambda path: changed_at(path) or 0.0, reverse=True)
        for path in models[self._kept :]:
            with suppress(OSError), ExitStack() as held:  # somebody uses it, or it is gone already
                held.enter_context(self._reserved(path.name, fcntl.LOCK_EX | fcntl.LOCK_NB))
                held.enter_context(_locked(path, os.O_RDONLY, fcntl.LOCK_EX | fcntl.LOCK_NB))
                shutil.rmtree(path)

    def _reserved(self, fingerprint: str, how: int) -> AbstractContextManager[None]:
        """The right to fetch or delete a model."""
        return _locked(self._folder / f".{fingerprint}.lock", os.O_RDWR | os.O_CREAT, how)


@contextmanager
def _locked(path: Path, flags: int, how: int) -> Iterator[None]:
    """Hold a file or folder, which the kernel releases when this process ends, however it ends.

    Raises:
        OSError: it cannot be opened, or, where ``how`` does not wait, somebody else holds it.
    """
    descriptor = os.open(path, flags | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, how)
        yield
    finally:
        os.close(descriptor)
