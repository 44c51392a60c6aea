"""What bfloat16 does to accuracy: one model replayed in both precisions by the very commands a user types.

Usage: python -m benchmarks.precision MODEL DATA [--config configs/ped2.yaml]
Prints a table and, last, one JSON line; writes the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

import yaml

from benchmarks.machine import describe, store

ROOT = Path(__file__).resolve().parent.parent
METRICS = ("frame_auroc", "frame_auroc_macro", "pixel_auroc", "aupro")


def replayed(precision: str, config: Path, model: Path, data: Path, folder: Path) -> dict[str, float]:
    """Replay and evaluate in one precision; returns the metrics."""
    settings: dict[str, Any] = yaml.safe_load(config.read_text(encoding="utf-8"))
    settings["runtime"] = {**settings.get("runtime", {}), "precision": precision}
    settings.pop("model", None)  # the checkpoint says it all, and paths in it are relative to the config
    own, scores, numbers = folder / f"{precision}.yaml", folder / precision, folder / f"{precision}.json"
    own.write_text(yaml.safe_dump(settings), encoding="utf-8")
    command = [sys.executable, str(ROOT / "run_cluster.py")]
    places = ["--data", str(data)]
    replay = ["replay", "--config", str(own), *places, "--model", str(model), "--out", str(scores)]
    for arguments in (replay, ["evaluate", "--scores", str(scores), *places, "--json", str(numbers)]):
        subprocess.run([*command, *arguments], check=True, cwd=ROOT, stdout=sys.stderr)
    found = json.loads(numbers.read_text(encoding="utf-8"))
    return {name: found[name] for name in METRICS}


def main() -> None:
    """Measure both and the difference."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("data", type=Path)
    parser.add_argument("--config", type=Path, default=ROOT / "configs" / "ped2.yaml")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        places = (arguments.config, arguments.model.resolve(), arguments.data.resolve(), Path(scratch))
        found = {precision: replayed(precision, *places) for precision in ("float32", "bfloat16")}
    change = {name: round(found["bfloat16"][name] - found["float32"][name], 6) for name in METRICS}
    print(f"{'':>18}  float32  bfloat16    change")
    for name in METRICS:
        print(f"{name:>18}  {found['float32'][name]:.4f}    {found['bfloat16'][name]:.4f}  {change[name]:+.5f}")
    store({"benchmark": "precision", **describe(), **found, "change": change})


if __name__ == "__main__":
    main()
