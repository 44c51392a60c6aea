"""Several ways of doing something, by turns, so that what else the machine does meets all alike."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any


def rounds_of(ways: dict[str, Callable[[], object]], rounds: int, device: Any) -> dict[str, list[tuple[float, float]]]:
    """Wall seconds of every way in every round, and seconds of processor time."""
    import torch

    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in ways}
    for number in range(rounds + 1):
        for name, way in ways.items():
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            started, started_cpu = time.perf_counter(), time.process_time()
            way()
            if device.type == "cuda":
                torch.cuda.synchronize(device)
            if number:  # the first round warms up
                taken[name].append((time.perf_counter() - started, time.process_time() - started_cpu))
    return taken
