"""Train, replay and evaluate UCSD Ped2 with configs/ped2.yaml by the very commands a user types, and time them.

Usage: python -m benchmarks.ped2 DATA [--keep FOLDER]
Prints a table and, last, one JSON line; writes the same into benchmarks/results/.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.machine import describe, store

ROOT = Path(__file__).resolve().parent.parent


def timed(*arguments: str) -> float:
    """Run a command of the project; returns its wall time in seconds."""
    started_at = time.monotonic()
    subprocess.run([sys.executable, str(ROOT / "run_cluster.py"), *arguments], check=True, cwd=ROOT)
    return time.monotonic() - started_at


def main() -> None:
    """Measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("data", type=Path, help="Ped2, in any layout the project reads")
    parser.add_argument("--keep", type=Path, help="keep model and scores in this folder")
    arguments = parser.parse_args()
    with tempfile.TemporaryDirectory() as scratch:
        folder = (arguments.keep or Path(scratch)).resolve()
        config, data = str(ROOT / "configs" / "ped2.yaml"), str(arguments.data.resolve())
        model, scores, numbers = (str(folder / name) for name in ("model", "scores", "numbers.json"))
        seconds = {
            "train_s": timed("train", "--config", config, "--data", data, "--out", model),
            "replay_s": timed("replay", "--config", config, "--data", data, "--model", model, "--out", scores),
            "evaluate_s": timed("evaluate", "--scores", scores, "--data", data, "--json", numbers),
        }
        found = json.loads(Path(numbers).read_text(encoding="utf-8"))
        card = json.loads((Path(model) / "model.json").read_text(encoding="utf-8"))
        size_mb = (Path(model) / "model.safetensors").stat().st_size / 1e6
    result = {
        "benchmark": "ped2",
        **describe(),
        **{key: round(value, 1) for key, value in seconds.items()},
        "replay_fps": round(found["frames"] / seconds["replay_s"], 1),
        "train_frames": card["provenance"]["train_frames"],
        "model_mb": round(size_mb, 1),
        **{key: found[key] for key in ("frame_auroc", "frame_auroc_macro", "pixel_auroc", "aupro", "frames")},
        "floors": found["floors"],
        "load_average": os.getloadavg()[0],
    }
    for key, value in result.items():
        print(f"{key:>18}  {value}")
    store(result)


if __name__ == "__main__":
    main()
