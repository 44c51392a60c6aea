"""Normal footage of a run's models beside their cards, as the run's cameras need it."""

from __future__ import annotations

import logging
import threading
from collections.abc import Collection, Iterable
from pathlib import Path

from pipeline.camera_settings import CameraSettings
from pipeline.errors import CheckpointError
from pipeline.models.card import ModelCard
from pipeline.models.normal_store import NormalStore
from pipeline.normal_footage import AddedStretch
from pipeline.scoring.regimes import stretches_under
from pipeline.zoning import Regime

_log = logging.getLogger(__name__)

_Zoned = dict[str, tuple[AddedStretch, ...]]  # by the regime's key


class RunFootage:
    """What was added to each model, and what its stored maps score under the zones in use. Any thread may ask.

    A thousand cameras of one scene with the same zones cost as much as one. Where a store is damaged, this is said, and
    the model is taken for one that has none.
    """

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._models: dict[str, tuple[NormalStore, float]] = {}
        self._zoned: dict[tuple[str, str], _Zoned] = {}  # by model and scene

    def know(self, card: ModelCard, folder: Path) -> bool:
        """Take in what lies beside a model.

        Args:
            card: of the model.
            folder: with its files; need not be there.

        Returns:
            Whether it is something else than before.
        """
        try:
            store = NormalStore.read(folder, card.fingerprint)
        except CheckpointError as error:
            _log.error("%s; thresholds are made without it", error)
            store = NormalStore()
        with self._lock:
            before = self._models.get(card.fingerprint)
            if before is not None and before[0].version == store.version:
                return False
            self._models[card.fingerprint] = store, card.model.score.top_fraction
            self._zoned = {key: zoned for key, zoned in self._zoned.items() if key[0] != card.fingerprint}
            return True

    def keep(self, fingerprints: Collection[str]) -> None:
        """Forget all models but these."""
        with self._lock:
            self._models = {key: known for key, known in self._models.items() if key in fingerprints}
            self._zoned = {key: zoned for key, zoned in self._zoned.items() if key[0] in fingerprints}

    def of(self, cameras: Iterable[CameraSettings]) -> dict[str, tuple[AddedStretch, ...]]:
        """What scorers of these cameras are to know, by the model's fingerprint.

        Args:
            cameras: all of the run's.

        Returns:
            The same stretches as long as nothing else is wanted.
        """
        wanted: dict[str, dict[str, Regime]] = {}
        for camera in cameras:
            for regime in () if camera.zoning is None else camera.zoning.distinct:
                if regime.zones:
                    wanted.setdefault(camera.scene_name, {})[regime.key] = regime
        with self._lock:
            return {model: self._of_model(model, store, wanted) for model, (store, _) in self._models.items()}

    def _of_model(
        self, model: str, store: NormalStore, wanted: dict[str, dict[str, Regime]]
    ) -> tuple[AddedStretch, ...]:
        found = list(store.added)
        for scene, regimes in wanted.items():
            zoned = {key: known for key, known in self._zoned.get((model, scene), {}).items() if key in regimes}
            missing = [regime for key, regime in regimes.items() if key not in zoned]
            if missing:
                zoned |= self._read_under(missing, model, scene)
            self._zoned[model, scene] = zoned
            found += [stretch for key in regimes for stretch in zoned[key]]
        return tuple(found)

    def _read_under(self, regimes: list[Regime], model: str, scene: str) -> _Zoned:
        store, top_fraction = self._models[model]
        try:
            return stretches_under(regimes, store, scene, top_fraction)
        except CheckpointError as error:
            _log.error("%s; scene %s has the thresholds of the whole image within zones", error, scene)
            return {regime.key: () for regime in regimes}


def normal_footage(
    card: ModelCard, folder: Path, cameras: Iterable[CameraSettings]
) -> dict[str, tuple[AddedStretch, ...]]:
    """What scorers of some cameras are to know of one model, as ``RunFootage.of`` gives it.

    Args:
        card: of the model.
        folder: with its files.
        cameras: the cameras.
    """
    footage = RunFootage()
    footage.know(card, folder)
    return footage.of(cameras)
