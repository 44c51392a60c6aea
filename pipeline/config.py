"""One tree of settings, frozen, checked before anything starts; the YAML files in ``configs/`` mirror it one to one.

Values that may hold credentials are pydantic secrets and never print. ``pipeline.config_file`` reads the files.
"""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    Field,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    SerializeAsAny,
    model_validator,
)

from pipeline.addresses import redis_address_error
from pipeline.camera_settings import CameraDefaults, CameraSettings, ImageRate, checked_address
from pipeline.evidence_settings import EvidenceSettings
from pipeline.model_settings import ModelSettings, Seed, Settings
from pipeline.sinks.base import SinkSettings
from pipeline.sinks.kinds import parse_sink

CAMERAS_PER_SCORER = 200
"""Where nobody says how many scorers there are to be: at 5 frames/s each, a tenth of what one process can score."""

RedisAddress = Annotated[SecretStr, Field(min_length=1), checked_address(redis_address_error)]


class PhotometricSettings(Settings):
    """Other light, and other cameras, that training shows the model beside the footage as it is.

    Attributes:
        variants: changed copies of every frame whose features are computed and kept beside its own; 0 is off.
        strength: how far they go, in (0, 1]. At 1: a stop of exposure up or down, tone curves of exponent .6 to 1.6, a
            fifth more or less red and blue, shadows that take half of a picture's values, noise of 6 grey levels, a
            blur of 1.2 pixels, JPEG of quality 30, and one variant in seven as an infrared camera sees it.
    """

    variants: Annotated[int, Field(ge=0, le=16)] = 0
    strength: Annotated[float, Field(gt=0.0, le=1.0)] = 1.0


class TrainingSettings(Settings):
    """How a model is fitted. PaDiM and SPADE go once over the footage and read the last seven settings alone.

    Attributes:
        epochs: passes over the training features; the last one's weights are kept, always.
        least_steps: optimiser steps that are done at least, in further passes where footage is short.
        batch_frames: frames whose features make one optimiser step.
        positions_per_frame: feature vectors drawn per frame, level and step; None takes all.
        learning_rate: Adam's, after warm-up, before cosine decay.
        warmup_fraction: part of all steps over which the rate rises linearly.
        holdout_fraction: part of the normal footage kept from training; scoring constants are measured on it.
        cross_fit: whether all of it is measured, by further models that have not seen it, and the model learns all of
            it; takes three times as long. None does so where a scene has less than ten minutes.
        frame_step: every how many-th frame of the footage is used.
        image_fps: how many images per second were filmed of those folders of which the data set does not tell; None
            takes 10. Replay then takes the same.
        augmentation: what light and cameras do to the frames that are learned from.
        seed: of initialisation, order and draws.
        checkpoint_every_s: how often an interrupted training could be resumed from.
    """

    epochs: PositiveInt = 4
    least_steps: Annotated[int, Field(ge=0, le=10**9)] = 0
    batch_frames: PositiveInt = 16
    positions_per_frame: PositiveInt | None = None
    learning_rate: PositiveFloat = 2e-4
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    holdout_fraction: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    cross_fit: bool | None = None
    frame_step: PositiveInt = 1
    image_fps: ImageRate | None = None
    augmentation: PhotometricSettings = PhotometricSettings()
    seed: Seed = 0
    checkpoint_every_s: PositiveFloat = 60.0


class RuntimeSettings(Settings):
    """Processes and batches.

    Attributes:
        device: ``auto`` (GPUs where the cluster has any, else the CPU), ``cpu`` or ``cuda``.
        detectors: detector actors at first, and at least; None takes as many as the GPUs hold, or one on a CPU.
        max_detectors: how many there may be, where those there are stay overloaded; None leaves it at ``detectors``.
        gpus_per_detector: share of a GPU that each takes for itself; several share one below 1.
        spare_detectors: further ones that are loaded and idle, to take over at once when one dies (a new one takes as
            long as importing torch); None keeps one beside a single detector of live cameras.
        scorers: scorer processes, each with a fixed share of the cameras; None takes one per 200 cameras of the start.
        cameras_per_process: cameras whose decoders share one process.
        batch_frames: frames of any cameras in one forward pass, at most.
        batch_wait_s: how long a frame waits for others although the detector is idle; what comes while it is busy
            makes the next batch in any case. None lets frames of live cameras wait once they come in hundreds per
            second, up to 40 ms, and all others not at all.
        threads: CPU threads of one detector; None shares the machine's cores among the detectors.
        precision: of the flows' matrix products: ``float32``, ``bfloat16``, or ``auto``, which measures at the start
            what the machine does fastest, and says so. The encoder is float32 always.
        compile: whether a detector compiles its model before the first frame, which takes longest on the first start on
            a machine; None does where a C++ compiler (on GPUs Triton) is there.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    detectors: PositiveInt | None = None
    max_detectors: PositiveInt | None = None
    gpus_per_detector: PositiveFloat = 1.0
    spare_detectors: NonNegativeInt | None = None
    scorers: PositiveInt | None = None
    cameras_per_process: PositiveInt = 8
    batch_frames: PositiveInt = 16
    batch_wait_s: Annotated[float, Field(ge=0.0)] | None = None
    threads: PositiveInt | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | None = None

    @model_validator(mode="after")
    def _has_room_for_detectors(self) -> Self:
        if self.max_detectors is not None and self.max_detectors < (self.detectors or 1):
            raise ValueError(f"max_detectors: expected at least detectors ({self.detectors}), got {self.max_detectors}")
        return self


class RedisSettings(Settings):
    """Where scores and alerts can be read in real time.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://`` address, ``redis+cluster://`` or ``redis+sentinel://`` with
            several servers, or ``embedded`` for a private server that lives as long as the command.
        scores_maxlen: entries kept per camera, approximately.
        alerts_maxlen: alerts kept, approximately.
    """

    url: RedisAddress = SecretStr("embedded")
    scores_maxlen: PositiveInt = 100_000
    alerts_maxlen: PositiveInt = 10_000

    @property
    def is_embedded(self) -> bool:
        """Whether the command starts a Redis of its own."""
        return self.url.get_secret_value() == "embedded"


class OutputSettings(Settings):
    """What is kept on disk.

    Attributes:
        folder: where this run writes: ``scores/`` (Parquet), ``redis/`` (an embedded Redis's data), ``run.json``.
        maps: whether Parquet also holds every frame's anomaly map.
        rotate_s: longest time before rows that were scored stand in a finished Parquet file.
        evidence: which pictures and clips of events ``stream`` keeps there, and for how long.
        shared: whether ``folder`` is one and the same on all nodes of a cluster that may keep it, so that a service
            goes on on another one when its own is lost.
    """

    folder: Path = Path("runs/stream")
    maps: bool = False
    rotate_s: PositiveFloat = 60.0
    shared: bool = False
    evidence: EvidenceSettings = EvidenceSettings()


class MetricsSettings(Settings):
    """Where Prometheus and probes ask how ``stream`` stands: ``/metrics`` and ``/health`` (docs/monitoring.md).

    Attributes:
        host: address to listen at; whoever reaches it reads the names of cameras and how each stands, without a
            password.
        port: None is off.
    """

    host: Annotated[str, Field(pattern=r"^[A-Za-z0-9.:_-]{1,255}$")] = "127.0.0.1"
    port: Annotated[int, Field(ge=1, le=65535)] | None = None


AnySink = Annotated[SerializeAsAny[SinkSettings], PlainValidator(parse_sink)]
_RIVALS = ("budget", "quantile")  # of a camera's alerts: it has either
_BUILT_IN_SINKS = ("redis", "parquet")  # names that a run's own two have


class Config(Settings):
    """The whole tree.

    Attributes:
        model: what makes a model; read by ``train``, and compared with the checkpoint by ``replay`` and ``stream``.
        model_folder: the trained model that ``stream`` uses when none is named on the command line; a folder, or an
            address such as ``s3://bucket/model``.
        training: how the flows are fitted.
        camera_defaults: settings of every camera.
        cameras: the cameras; each may override any key of ``camera_defaults``.
        runtime: processes and batches.
        redis: where to read in real time.
        output: what is kept on disk.
        sinks: where ``stream`` sends alerts beside Redis; the key ``kind`` of each says what else it has.
        metrics: where Prometheus and probes ask how ``stream`` stands.
    """

    model: ModelSettings = ModelSettings()
    model_folder: str | None = None
    training: TrainingSettings = TrainingSettings()
    camera_defaults: CameraDefaults = CameraDefaults()
    cameras: tuple[CameraSettings, ...] = ()
    runtime: RuntimeSettings = RuntimeSettings()
    redis: RedisSettings = RedisSettings()
    output: OutputSettings = OutputSettings()
    sinks: tuple[AnySink, ...] = ()
    metrics: MetricsSettings = MetricsSettings()

    def clip_settings(self, name: str, url: str, scene: str, image_fps: float | None = None) -> CameraSettings:
        """Settings of a clip that takes a camera's place, as ``replay`` reads it: those of every camera.

        Args:
            name: its id.
            url: file or folder.
            scene: name of its scene in the model.
            image_fps: how many images of a folder were filmed per second.
        """
        # Every frame of a clip is scored, whatever live cameras are thinned to; and a clip tells no time of day.
        zones = tuple(zone.model_copy(update={"active": None}) for zone in self.camera_defaults.zones)
        settings = {**self.camera_defaults.model_dump(), "sample_fps": None, "zones": zones}
        return CameraSettings(**settings, id=name, url=SecretStr(url), scene=scene, image_fps=image_fps)

    @model_validator(mode="before")
    @classmethod
    def _fill_camera_defaults(cls, data: Any) -> Any:
        """Lay ``camera_defaults`` under every camera, key by key, before either is checked."""
        if not isinstance(data, dict):
            return data
        defaults, cameras = data.get("camera_defaults"), data.get("cameras")
        if not isinstance(defaults, dict) or not isinstance(cameras, list | tuple):
            return data
        filled = [
            _merged(_without_rivals(defaults, camera), camera) if isinstance(camera, dict) else camera
            for camera in cameras
        ]
        return {**data, "cameras": filled}

    @model_validator(mode="after")
    def _camera_ids_differ(self) -> Self:
        seen: set[str] = set()
        for camera in self.cameras:
            # Parquet folders must differ on file systems that ignore case, too.
            if camera.id.lower() in seen:
                raise ValueError(f"cameras: expected every id once, got {camera.id!r} twice")
            seen.add(camera.id.lower())
        return self

    @model_validator(mode="after")
    def _sink_names_differ(self) -> Self:
        taken: set[str] = set(_BUILT_IN_SINKS)
        for sink in self.sinks:
            if sink.sink_name in taken:
                raise ValueError(f"sinks: expected a name of its own for each, got {sink.sink_name!r} twice")
            taken.add(sink.sink_name)
        return self


def _without_rivals(defaults: Mapping[str, Any], camera: Mapping[str, Any]) -> Mapping[str, Any]:
    """The defaults under a camera: its own way to choose a threshold, whichever it is, takes the place of theirs."""
    below, own = defaults.get("alerts"), camera.get("alerts")
    if not (isinstance(below, dict) and isinstance(own, dict) and any(own.get(key) is not None for key in _RIVALS)):
        return defaults
    return {**defaults, "alerts": {key: value for key, value in below.items() if key not in _RIVALS}}


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, going down into mappings that both have."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
