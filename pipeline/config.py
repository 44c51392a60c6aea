"""One tree of settings, frozen, checked before anything starts; the YAML files in ``configs/`` mirror it one to one.

Values that may hold credentials are pydantic secrets and never print. ``pipeline.config_file`` reads the files.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    Field,
    NonNegativeInt,
    PlainValidator,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    SerializeAsAny,
    model_validator,
)

from pipeline.addresses import camera_address_error, is_live, redis_address_error, scheme_of
from pipeline.model_settings import ModelSettings, Seed, Settings
from pipeline.sinks.base import SinkSettings
from pipeline.sinks.kinds import parse_sink

CAMERAS_PER_SCORER = 200
"""Where nobody says how many scorers there are to be: at 5 frames/s each, a tenth of what one process can score."""

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def is_identifier(text: str) -> bool:
    """Whether a text can be an id: ids become Redis keys and folder names, so they hold no separators and no ``..``."""
    return _ID.fullmatch(text) is not None and ".." not in text


def _check_id(value: str) -> str:
    if not is_identifier(value):
        raise ValueError(
            "expected 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, without '..'"
        )
    return value


def _address(error_of: Callable[[str], str | None]) -> AfterValidator:
    """Addresses are shown in messages of one line, and given to C libraries, for which a NUL is the end."""

    def check(value: SecretStr) -> SecretStr:
        address = value.get_secret_value()
        if any(character < " " or character == "\x7f" for character in address):
            raise ValueError("expected an address without line breaks and other control characters")
        if (error := error_of(address)) is not None:
            raise ValueError(error)
        return value

    return AfterValidator(check)


Identifier = Annotated[str, AfterValidator(_check_id)]
CameraAddress = Annotated[SecretStr, Field(min_length=1), _address(camera_address_error)]
RedisAddress = Annotated[SecretStr, Field(min_length=1), _address(redis_address_error)]
Fraction01 = Annotated[float, Field(gt=0.0, lt=1.0)]

SLOWEST_IMAGES_FPS, FASTEST_IMAGES_FPS = 0.001, 1000.0
ImageRate = Annotated[float, Field(ge=SLOWEST_IMAGES_FPS, le=FASTEST_IMAGES_FPS)]


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
    """How a model is fitted. PaDiM and SPADE go once over the footage and read the last six settings alone.

    Attributes:
        epochs: passes over the training features; the last one's weights are kept, always.
        least_steps: optimiser steps that are done at least, in further passes where footage is short.
        batch_frames: frames whose features make one optimiser step.
        positions_per_frame: feature vectors drawn per frame, level and step; None takes all.
        learning_rate: Adam's, after warm-up, before cosine decay.
        warmup_fraction: part of all steps over which the rate rises linearly.
        holdout_fraction: part of the normal footage kept from training; scoring constants are measured on it.
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
    frame_step: PositiveInt = 1
    image_fps: ImageRate | None = None
    augmentation: PhotometricSettings = PhotometricSettings()
    seed: Seed = 0
    checkpoint_every_s: PositiveFloat = 60.0


class AlertSettings(Settings):
    """When a camera raises an alarm. Each key can be overridden per camera.

    Attributes:
        quantile: of the scores of held-out normal frames, smoothed alike; it is the threshold.
        close_quantile: an open event ends when smoothed scores stay below this quantile.
        smoothing_s: time constant of the causal exponential smoothing, in seconds of media time; 0 turns it off.
        open_frames: consecutive anomalous frames that open an event.
        close_s: media time without a score above ``close_quantile`` that ends it.
        update_s: media time between two ``update`` alerts of an open event.
    """

    quantile: Fraction01 = 0.995
    close_quantile: Fraction01 = 0.98
    smoothing_s: Annotated[float, Field(ge=0.0)] = 0.3
    open_frames: PositiveInt = 3
    close_s: PositiveFloat = 2.0
    update_s: PositiveFloat = 5.0

    @model_validator(mode="after")
    def _closes_below_opening(self) -> Self:
        if self.close_quantile > self.quantile:
            raise ValueError(f"close_quantile: expected at most quantile ({self.quantile}), got {self.close_quantile}")
        return self


class HealthSettings(Settings):
    """When a live camera counts as out of order. Each key can be overridden per camera; None turns a check off.

    Attributes:
        offline_s: without a frame for that long, it is offline.
        frozen_s: identical frames for that long: the picture is frozen.
        dark_s: next to no light for that long: unlit, or the lens is covered.
        moved_s: a scene unlike the one it was trained on for that long: the camera was turned, or its view is blocked.
        light_changed_s: the whole image looks different for that long, in media time: light, weather, exposure, a dirty
            lens. The scorer tells it, of files too.
    """

    offline_s: PositiveFloat | None = 5.0
    frozen_s: PositiveFloat | None = 30.0
    dark_s: PositiveFloat | None = 10.0
    moved_s: PositiveFloat | None = 20.0
    light_changed_s: PositiveFloat | None = 10.0


class CameraDefaults(Settings):
    """Settings that hold for every camera unless it says otherwise.

    Attributes:
        sample_fps: frames per second that are scored; None scores all. A camera that answers with one picture is asked
            that often (None: once a second; at least every two seconds).
        open_timeout_s: longest wait for a stream to open.
        read_timeout_s: longest wait for a packet of a live stream.
        stall_timeout_s: longest time an open live stream may go without a frame before it is opened anew; ten times as
            long where it was joined between keyframes and its other pictures come.
        reconnect_max_s: longest pause before a live camera that failed is tried again.
        max_frame_age_s: a live camera's frames older than this are no longer scored.
        buffer_frames: decoded frames that wait for a detector; a file's decoder then blocks, a live camera's oldest
            frame is dropped.
        alerts: when it raises an alarm.
        health: when it counts as out of order.
    """

    sample_fps: PositiveFloat | None = None
    open_timeout_s: PositiveFloat = 5.0
    read_timeout_s: PositiveFloat = 3.0
    stall_timeout_s: PositiveFloat = 10.0
    reconnect_max_s: PositiveFloat = 4.0
    max_frame_age_s: PositiveFloat = 2.0
    buffer_frames: PositiveInt = 16
    alerts: AlertSettings = AlertSettings()
    health: HealthSettings = HealthSettings()


class CameraSettings(CameraDefaults):
    """One camera.

    Attributes:
        id: its name in Redis, Parquet and alerts.
        url: RTSP or HTTP address (``pipeline.addresses`` lists the schemes), video file, or folder of images.
        scene: the name under which the model was trained on this camera's view; None takes the id.
        loop: whether a file or folder stands in for a live camera: played in real time, over and over.
        image_fps: how many images of a folder were filmed per second; None takes 10.
    """

    id: Identifier
    url: CameraAddress
    scene: Identifier | None = None
    loop: bool = False
    image_fps: ImageRate | None = None

    @property
    def scene_name(self) -> str:
        """Name of the camera's scene in the model."""
        return self.scene or self.id

    @property
    def is_live(self) -> bool:
        """Whether it is a live stream, or a file or folder that stands in for one."""
        return self.loop or is_live(self.url.get_secret_value())

    @model_validator(mode="after")
    def _loops_what_ends(self) -> Self:
        url = self.url.get_secret_value()
        if self.loop and is_live(url):
            raise ValueError(
                f"loop: expected a file or a folder as url, got {scheme_of(url)}://, which is live as it is"
            )
        if self.image_fps is not None and is_live(url):
            raise ValueError(f"image_fps: expected a folder of images as url, got {scheme_of(url)}://")
        return self


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
        shared: whether ``folder`` is one and the same on all nodes of a cluster that may keep it, so that a service
            goes on on another one when its own is lost.
    """

    folder: Path = Path("runs/stream")
    maps: bool = False
    rotate_s: PositiveFloat = 60.0
    shared: bool = False


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
        # Every frame of a clip is scored, whatever live cameras are thinned to.
        settings = {**self.camera_defaults.model_dump(), "sample_fps": None}
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
        filled = [_merged(defaults, camera) if isinstance(camera, dict) else camera for camera in cameras]
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


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, going down into mappings that both have."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
