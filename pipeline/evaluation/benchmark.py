"""How many cameras a machine carries: from what each stage costs alone to a number and the stage that limits it. Pure.

With d, i and s the CPU seconds of a frame in decoding, inference and sinks, g the frames/s that a camera sends and f
those of them that are scored, C cores and h the part of the machine that may be used, N cameras fit while::

    N (g d + f (i + s)) <= h C      all processes share the cores
    N f w <= h                      one device; w its seconds per frame at the best batch size
    n f s <= h                      a scorer, which is one thread, and scores n of the cameras

Scorers are as many as the config says, or one per 200 cameras. On a GPU inference is counted with the device, and with
its host thread's CPU time in i.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from pipeline.config import CAMERAS_PER_SCORER

PipelineStage = Literal["decode", "inference", "sinks"]
STAGES: tuple[PipelineStage, ...] = ("decode", "inference", "sinks")

USABLE = 0.75
"""Part of the machine that is planned for: the rest is for Ray's calls, the system, and frames that come together."""


@dataclass(frozen=True, slots=True)
class BatchCost:
    """Inference at one batch size.

    Attributes:
        frames: in a batch.
        wall_s: seconds per frame.
        cpu_s: CPU seconds per frame.
    """

    frames: int
    wall_s: float
    cpu_s: float


@dataclass(frozen=True, slots=True)
class Costs:
    """What a frame costs in each stage, measured alone.

    Attributes:
        decode_cpu_s: CPU seconds per frame that is decoded and resized, on one core.
        inference: at growing batch sizes, at least one.
        sinks_cpu_s: CPU seconds per frame that is scored, in scorer, Redis and Parquet.
        cores: of the machine.
        device: ``cpu``, where inference shares the cores with everything else, or another device.
    """

    decode_cpu_s: float
    inference: tuple[BatchCost, ...]
    sinks_cpu_s: float
    cores: int
    device: str

    @property
    def best_batch(self) -> BatchCost:
        """The batch size at which a frame takes the least time."""
        return min(self.inference, key=lambda batch: batch.wall_s)


@dataclass(frozen=True, slots=True)
class Capacity:
    """What a machine carries.

    Attributes:
        cameras: how many.
        bottleneck: the stage that takes most of what runs out first.
        alone: cameras that each stage would carry had it the whole usable machine.
        cores_used: by these cameras, by stage.
        device_used: part of the inference device that they use; None where that is the CPU.
    """

    cameras: int
    bottleneck: PipelineStage
    alone: dict[PipelineStage, float]
    cores_used: dict[PipelineStage, float]
    device_used: float | None


def capacity(
    costs: Costs, *, scored_fps: float, stream_fps: float, scorers: int | None = None, usable: float = USABLE
) -> Capacity:
    """How many cameras fit.

    Args:
        costs: of a frame.
        scored_fps: frames per second of a camera that are scored.
        stream_fps: frames per second that it sends; all of them are decoded.
        scorers: ``runtime.scorers``.
        usable: part of the machine that may be used, in (0, 1].

    Raises:
        ValueError: a rate is not positive, or a camera is to score more frames than it sends.
    """
    if not 0.0 < scored_fps <= stream_fps < math.inf:
        raise ValueError(f"expected 0 < scored frames/s <= frames/s sent, got {scored_fps:g} and {stream_fps:g}")
    best, on_cpu = costs.best_batch, costs.device == "cpu"
    # Threads that wait for each other are not busy, and yet nobody else finishes sooner: the larger of both counts.
    inference_s = max(best.cpu_s, best.wall_s) if on_cpu else best.cpu_s
    cores: dict[PipelineStage, float] = {
        "decode": stream_fps * costs.decode_cpu_s,
        "inference": scored_fps * inference_s,
        "sinks": scored_fps * costs.sinks_cpu_s,
    }
    limits: list[tuple[float, PipelineStage]] = [
        (usable * costs.cores / sum(cores.values()), max(STAGES, key=lambda stage: cores[stage])),
        (scorers_carry := _scorers_carry(usable / cores["sinks"], scorers), "sinks"),
    ]
    alone: dict[PipelineStage, float] = {stage: usable * costs.cores / cores[stage] for stage in STAGES}
    alone["sinks"] = min(alone["sinks"], scorers_carry)
    if not on_cpu:
        alone["inference"] = usable / (scored_fps * best.wall_s)
        limits.append((alone["inference"], "inference"))
    most, bottleneck = min(limits, key=lambda limit: limit[0])
    # Rounding must not take away the camera that just fits.
    cameras = math.floor(most + 1e-9)
    return Capacity(
        cameras=cameras,
        bottleneck=bottleneck,
        alone=alone,
        cores_used={stage: cameras * spent for stage, spent in cores.items()},
        device_used=None if on_cpu else cameras * scored_fps * best.wall_s,
    )


def _scorers_carry(one: float, scorers: int | None) -> float:
    """Cameras that all scorers together carry, where one carries so many."""
    if scorers is not None:
        return scorers * one
    return math.inf if one >= CAMERAS_PER_SCORER else one


def batch_sizes(largest: int) -> Sequence[int]:
    """1, 2, 4... up to and with the largest."""
    return [*(2**power for power in range(largest.bit_length()) if 2**power < largest), largest]
