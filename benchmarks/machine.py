"""What every benchmark says beside its numbers, and where it keeps them.

Benchmarks are started as modules, ``python -m benchmarks.NAME``, in the folder of the checkout that they measure: they
then import that checkout's code, whatever else is installed.
"""

from __future__ import annotations

import json
import os
import platform
import subprocess
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

RESULTS = Path(__file__).resolve().parent / "results"


def describe() -> dict[str, Any]:
    """Commit, date, hardware and the libraries that decide speed."""
    git = ["git", "-C", str(RESULTS.parent)]
    commit = subprocess.run([*git, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    changed = subprocess.run([*git, "status", "--porcelain"], capture_output=True, text=True, check=False)
    return {
        "commit": commit.stdout.strip() + ("+changes" if changed.stdout.strip() else ""),
        "date": datetime.now(UTC).date().isoformat(),
        "cpu": _cpu(),
        "cores": os.cpu_count(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def store(result: dict[str, Any]) -> None:
    """Keep a result under ``results/`` and print it as the one JSON line that ends a benchmark.

    Args:
        result: what was measured, with what ``describe`` says; ``measured_commit`` is that of the checkout it was
            measured on, where that need not be this one.
    """
    RESULTS.mkdir(exist_ok=True)
    commit = (result.get("measured_commit") or result["commit"]).split("+")[0]
    path = RESULTS / f"{result['benchmark']}-{result['date']}-{commit}.json"
    path.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    print(json.dumps(result))


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
        if line.startswith("model name"):
            return line.split(":", 1)[1].strip()
    return platform.processor()
