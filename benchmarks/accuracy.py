"""How well one configuration finds anomalies on footage of several kinds: one matrix, over seeds.

Usage: python -m benchmarks.accuracy [--sets ped2,avenue,carpark,bag,demo] [--seeds 0,1,2] [--config FILE]
           [--epochs N] [--out FOLDER]
Trains, replays and evaluates every set with every seed as users do, each in processes of its own. Only the image's size
differs between sets. What is complete in FOLDER is not done again as long as settings, footage and the code that
decides are the same; evaluation is always done anew. Prints the matrix (mean, and the lowest and the highest of the
seeds), the events of the two recordings and, last, one JSON line; writes the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from rich.console import Console

from benchmarks.accuracy_matrix import Evaluated, Found, events_lines, matrix
from benchmarks.accuracy_sets import SETS, AccuracySet, chosen_sets
from benchmarks.machine import describe, store
from pipeline.config_file import load_config
from pipeline.console.comparison_process import in_subprocess
from pipeline.console.training import train_with_bars
from pipeline.datasets.detect import open_dataset
from pipeline.errors import BadInputError, CflowError
from pipeline.files import write_whole
from pipeline.models.card import CARD_FILE, read_card

ROOT = Path(__file__).resolve().parent.parent
CONFIG = Path(__file__).resolve().parent / "accuracy.yaml"
_STDERR = 2  # where the tables of commands go: this one's own output is the matrix
_DECIDING = ("baselines", "datasets", "inference", "models", "scoring", "training", "video")
"""Packages whose code decides what a model and its scores are."""


@dataclass(frozen=True)
class Run:
    """One set with one seed.

    Attributes:
        of: the set.
        seed: of the training.
        root: the data set's folder.
        folder: of this run.
        settings: the whole configuration.
    """

    of: AccuracySet
    seed: int
    root: Path
    folder: Path
    settings: Mapping[str, Any]

    def score(self, features: Path) -> None:
        """Train and replay, unless an earlier call has.

        Args:
            features: folder of the features that all seeds of the set share.
        """
        stamp = json.dumps([self.settings, _footage_stamp(self.root), _code_stamp()], indent=1, default=str)
        if not _holds(self.folder / "stamp.json", stamp):
            shutil.rmtree(self.folder, ignore_errors=True)
            self.folder.mkdir(parents=True)
            write_whole(self._config, yaml.safe_dump(dict(self.settings)))
            write_whole(self.folder / "stamp.json", stamp)
        if not _is_complete(self._model):
            in_subprocess(_train, self._config, self.root, self._model, features)
        if not (self.folder / "replayed").exists():
            shutil.rmtree(self._scores, ignore_errors=True)
            places = ["--data", self.root, "--model", self._model, "--out", self._scores]
            _command("replay", "--config", self._config, *places)
            (self.folder / "replayed").touch()

    def evaluate(self) -> Evaluated:
        """What ``evaluate`` writes as JSON."""
        numbers = self.folder / "numbers.json"
        _command("evaluate", "--scores", self._scores, "--data", self.root, "--json", numbers)
        return json.loads(numbers.read_text(encoding="utf-8"))

    @property
    def _config(self) -> Path:
        return self.folder / "config.yaml"

    @property
    def _model(self) -> Path:
        return self.folder / "model"

    @property
    def _scores(self) -> Path:
        return self.folder / "scores"


def settings_of(config: Path, of: AccuracySet, seed: int, epochs: int | None) -> dict[str, Any]:
    """The one configuration with a set's image size; paths in it are made to hold anywhere."""
    settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["model"]["image_size_px"] = list(of.image_size_px)
    weights = config.parent / str(settings["model"]["encoder"]["weights"])
    if weights.is_file():
        settings["model"]["encoder"]["weights"] = str(weights.resolve())
    training = settings.setdefault("training", {})
    training["seed"] = seed
    if epochs is not None:
        training["epochs"] = epochs
    settings["output"] = {"maps": True}
    return settings


def measure(sets: Sequence[AccuracySet], seeds: Sequence[int], config: Path, epochs: int | None, folder: Path) -> Found:
    """Train, replay and evaluate; returns what ``evaluate`` says, by set and seed."""
    found: dict[str, dict[int, Evaluated]] = {}
    for of in sets:
        place = folder / of.name
        root = of.footage(place / "footage")
        runs = [Run(of, seed, root, place / f"seed-{seed}", settings_of(config, of, seed, epochs)) for seed in seeds]
        for run in runs:
            print(f"{of.name}, seed {run.seed}", file=sys.stderr, flush=True)
            run.score(place / "features")
        shutil.rmtree(place / "features", ignore_errors=True)
        found[of.name] = {run.seed: run.evaluate() for run in runs}
    return found


def main() -> None:
    """Measure."""
    names = ",".join(of.name for of in SETS)
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--sets", default=names, help=f"some of {names}")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument("--config", type=Path, default=CONFIG)
    parser.add_argument("--epochs", type=int, help="in place of the configuration's")
    parser.add_argument("--out", type=Path, default=Path("runs/accuracy"), help="keeps models and scores")
    arguments = parser.parse_args()
    try:
        sets = chosen_sets(SETS, arguments.sets)
        seeds = chosen_seeds(arguments.seeds)
        found = measure(sets, seeds, arguments.config.resolve(), arguments.epochs, arguments.out.resolve())
    except (CflowError, subprocess.CalledProcessError) as error:
        sys.exit(f"error: {error}")
    print(matrix(found))
    for line in events_lines(sets, found):
        print(line)
    settings = yaml.safe_load(arguments.config.read_text(encoding="utf-8"))
    store(
        {
            "benchmark": "accuracy",
            **describe(),
            "settings": settings,
            "epochs": arguments.epochs or settings["training"]["epochs"],
            "found": _kept(found),
        }
    )


def chosen_seeds(text: str) -> list[int]:
    """The seeds that are asked for.

    Raises:
        BadInputError: there is none, or one is no number.
    """
    try:
        return list(dict.fromkeys(int(seed) for seed in text.split(",")))
    except ValueError:
        raise BadInputError(f"--seeds: expected numbers and commas (0,1,2), got {text!r}") from None


def _kept(found: Found) -> Found:
    """Without what the clips and the whole say as well."""
    left_out = ("scenes", "scene_mean")
    return {
        name: {seed: {key: of[key] for key in of if key not in left_out} for seed, of in by_seed.items()}
        for name, by_seed in found.items()
    }


def _train(config: Path, root: Path, model: Path, features: Path) -> None:
    console = Console(stderr=True, soft_wrap=True)
    settings, dataset = load_config(config), open_dataset(root, need="train")
    train_with_bars(settings, dataset, model, out=console, err=console, features=features)


def _command(*arguments: object) -> None:
    command = [sys.executable, str(ROOT / "run_cluster.py"), *map(str, arguments)]
    subprocess.run(command, check=True, cwd=ROOT, stdout=_STDERR)


def _footage_stamp(root: Path) -> list[Any]:
    dataset = open_dataset(root, need="any")
    return [clip.stamp() for clip in (*dataset.train, *dataset.test)]


def _code_stamp() -> str:
    """Changes with the code that decides what models and scores are."""
    files = sorted(path for package in _DECIDING for path in (ROOT / "pipeline" / package).rglob("*.py"))
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()


def _holds(file: Path, text: str) -> bool:
    return file.exists() and file.read_text(encoding="utf-8") == text


def _is_complete(model: Path) -> bool:
    return (model / CARD_FILE).exists() and read_card(model).provenance.completed


if __name__ == "__main__":
    main()
