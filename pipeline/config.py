"""One tree of settings, frozen, checked before anything starts; the YAML files in ``configs/`` mirror it one to one.

Values that may hold credentials are pydantic secrets and never print. ``pipeline.config_file`` reads the files.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, Self

from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
    SecretStr,
    model_validator,
)

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")


def _check_id(value: str) -> str:
    """Ids become Redis keys and folder names, so they hold no separators and no ``..``."""
    if not _ID.fullmatch(value) or ".." in value:
        raise ValueError(
            "expected 1 to 64 letters, digits, '.', '_' or '-', starting with a letter or digit, without '..'"
        )
    return value


def _check_address(value: SecretStr) -> SecretStr:
    """Addresses are shown in messages of one line, and given to C libraries, for which a NUL is the end."""
    if any(character < " " or character == "\x7f" for character in value.get_secret_value()):
        raise ValueError("expected an address without line breaks and other control characters")
    return value


Identifier = Annotated[str, AfterValidator(_check_id)]
Address = Annotated[SecretStr, Field(min_length=1), AfterValidator(_check_address)]
Seed = Annotated[int, Field(ge=0, lt=2**63)]
# A model that is larger than any that was ever built is a slip of the pen, or damage: better refused than allocated.
ImageSide = Annotated[int, Field(gt=0, le=8192)]
Fraction01 = Annotated[float, Field(gt=0.0, lt=1.0)]
Method = Literal["cflow", "padim", "spade", "differnet"]


class Settings(BaseModel):
    """Base of all settings: frozen, and a key it does not know is an error."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=False, allow_inf_nan=False)


class EncoderSettings(Settings):
    """The frozen backbone.

    Attributes:
        name: any timm model that offers ``features_only``.
        weights: ``pretrained`` (timm's model hub), ``random`` (seeded; accuracy suffers) or a safetensors file.
        strides: strides of the pyramid's levels in pixels, finest first.
        mean: per-channel mean of the input in [0, 1] units; None takes timm's.
        std: per-channel standard deviation, likewise.
        arguments: extra constructor arguments for timm, such as ``pad_type: same``.
        seed: of the random weights.
    """

    name: str = "mobilenetv2_100"
    weights: str = "pretrained"
    strides: tuple[PositiveInt, ...] = Field(default=(8, 16, 32), min_length=1)
    mean: tuple[float, float, float] | None = None
    std: tuple[PositiveFloat, PositiveFloat, PositiveFloat] | None = None
    arguments: dict[str, Any] = Field(default_factory=dict)
    seed: Seed = 0

    @model_validator(mode="after")
    def _strides_rise(self) -> Self:
        if list(self.strides) != sorted(set(self.strides)):
            raise ValueError(f"strides: expected rising values without repeats, got {list(self.strides)}")
        return self


class FlowSettings(Settings):
    """The conditional normalizing flows, one per level (Gudovskiy et al. 2022, section 4).

    Attributes:
        blocks: affine coupling blocks per flow.
        clamp: soft limit of a block's log-scale.
        permutation: between blocks, ``soft`` (a random orthogonal matrix) or ``hard`` (a shuffle of channels).
        hidden_ratio: width of a block's hidden layer as a multiple of its input.
        condition_dims: length of the position encoding, a multiple of 4.
        camera_embedding: length of the learned embedding of the scene that is appended; 0 turns it off.
        condition: ``position`` as in the paper; ``none`` leaves the position out, which makes an unconditional flow to
            compare with (a camera embedding, if there is one, stays).
    """

    blocks: Annotated[int, Field(gt=0, le=256)] = 8
    clamp: PositiveFloat = 1.9
    permutation: Literal["soft", "hard"] = "soft"
    hidden_ratio: Annotated[float, Field(gt=0.0, le=64.0)] = 2.0
    condition_dims: Annotated[int, Field(gt=0, le=4096, multiple_of=4)] = 128
    camera_embedding: Annotated[int, Field(ge=0, le=4096)] = 0
    condition: Literal["position", "none"] = "position"

    @property
    def position_dims(self) -> int:
        """Length of the part of the condition vector that says where: 0 without one."""
        return self.condition_dims if self.condition == "position" else 0


class PadimSettings(Settings):
    """PaDiM: one Gaussian per position (Defard et al., ICPR 2020, arXiv 2011.08785).

    Attributes:
        channels: of all levels' channels together, how many are kept, drawn at random; all where there are fewer. A
            position costs their square.
        ridge: added to the diagonal of every covariance (0.01 in the paper).
        smoothing_px: standard deviation of the Gaussian that smooths the map, in pixels of the model's input; 0 is off.
    """

    channels: Annotated[int, Field(gt=0, le=4096)] = 100
    ridge: PositiveFloat = 0.01
    smoothing_px: Annotated[float, Field(ge=0.0, le=256.0)] = 4.0


class SpadeSettings(Settings):
    """SPADE: nearest neighbours among all training frames (Cohen and Hoshen 2020, arXiv 2005.02357).

    Attributes:
        image_neighbours: K, nearest training frames by pooled features; the paper takes 50, and 1 on ShanghaiTech.
        pixel_neighbours: kappa, nearest feature vectors among those of the K frames.
        gallery_gib: most memory that the features of all training frames may take; more is refused, not thinned.
        smoothing_px: standard deviation of the Gaussian that smooths the map, in pixels of the model's input; 0 is off.
    """

    image_neighbours: Annotated[int, Field(gt=0, le=10_000)] = 50
    pixel_neighbours: Annotated[int, Field(gt=0, le=100)] = 1
    gallery_gib: PositiveFloat = 4.0
    smoothing_px: Annotated[float, Field(ge=0.0, le=256.0)] = 4.0


class DiffernetSettings(Settings):
    """DifferNet: an unconditional flow on pooled features of the whole image (Rudolph et al., WACV 2021).

    Attributes:
        blocks: Glow coupling blocks.
        clamp: soft limit of a block's log-scale.
        hidden_dims: width of a block's hidden layers.
        hidden_layers: their number.
        scales: sizes at which the image is encoded, as fractions of ``image_size_px``, falling.
        rotations: at how many angles, evenly over the circle, a frame is seen in training and when it is scored; 0 and
            1 leave it upright. Each costs one pass of the encoder per scale.
        learning_rate: in place of ``training.learning_rate``, at which flows of this width diverge.
    """

    blocks: Annotated[int, Field(gt=0, le=256)] = 8
    clamp: PositiveFloat = 3.0
    hidden_dims: Annotated[int, Field(gt=0, le=16_384)] = 2048
    hidden_layers: Annotated[int, Field(gt=0, le=8)] = 1
    scales: tuple[Annotated[float, Field(gt=0.0, le=1.0)], ...] = Field(default=(1.0, 0.5, 0.25), min_length=1)
    rotations: Annotated[int, Field(ge=0, le=360)] = 0
    learning_rate: PositiveFloat = 2e-4

    @model_validator(mode="after")
    def _scales_fall(self) -> Self:
        if list(self.scales) != sorted(set(self.scales), reverse=True):
            raise ValueError(f"scales: expected falling values without repeats, got {list(self.scales)}")
        return self


class ScoreSettings(Settings):
    """How a frame's anomaly score is read off its anomaly map (SPADE and DifferNet score whole frames instead).

    Attributes:
        top_fraction: the score is the mean of this fraction of the map's highest values; 0 takes the maximum, as the
            paper does.
        levels: of flows, whose surprise the score is read off: ``all``, as the map shows it, or the ``finest`` alone.
            Coarse levels find the place of an anomaly better than they tell whether there is one, where anomalies are
            small.
    """

    levels: Literal["all", "finest"] = "all"
    top_fraction: Annotated[float, Field(ge=0.0, le=1.0)] = 0.005


class ModelSettings(Settings):
    """Everything that makes a model, and with it a checkpoint.

    Attributes:
        image_size_px: (height, width) of the encoder's input; frames are resized to it without keeping the aspect.
        encoder: the frozen backbone.
        method: what is made of its features; each method reads the section below that bears its name, ``cflow`` reads
            ``flow``.
        flow: the flows.
        padim: the Gaussians.
        spade: the gallery.
        differnet: the flow on whole images.
        score: from map to score.
    """

    image_size_px: tuple[ImageSide, ImageSide] = (256, 256)
    encoder: EncoderSettings = EncoderSettings()
    method: Method = "cflow"
    flow: FlowSettings = FlowSettings()
    padim: PadimSettings = PadimSettings()
    spade: SpadeSettings = SpadeSettings()
    differnet: DiffernetSettings = DiffernetSettings()
    score: ScoreSettings = ScoreSettings()

    @model_validator(mode="after")
    def _size_fits_strides(self) -> Self:
        coarsest = self.encoder.strides[-1]
        if any(side % coarsest for side in self.image_size_px):
            raise ValueError(
                f"image_size_px: expected multiples of the coarsest stride {coarsest}, got {list(self.image_size_px)}"
            )
        return self


class TrainingSettings(Settings):
    """How a model is fitted. PaDiM and SPADE go once over the footage and read the last four settings alone.

    Attributes:
        epochs: passes over the training features; the last one's weights are kept, always.
        batch_frames: frames whose features make one optimiser step.
        positions_per_frame: feature vectors drawn per frame, level and step; None takes all.
        learning_rate: Adam's, after warm-up, before cosine decay.
        warmup_fraction: part of all steps over which the rate rises linearly.
        holdout_fraction: part of the normal footage kept from training; scoring constants are measured on it.
        frame_step: every how many-th frame of the footage is used.
        seed: of initialisation, order and draws.
        checkpoint_every_s: how often an interrupted training could be resumed from.
    """

    epochs: PositiveInt = 4
    batch_frames: PositiveInt = 16
    positions_per_frame: PositiveInt | None = None
    learning_rate: PositiveFloat = 2e-4
    warmup_fraction: Annotated[float, Field(ge=0.0, lt=1.0)] = 0.05
    holdout_fraction: Annotated[float, Field(gt=0.0, le=0.5)] = 0.1
    frame_step: PositiveInt = 1
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
    """

    offline_s: PositiveFloat | None = 5.0
    frozen_s: PositiveFloat | None = 30.0
    dark_s: PositiveFloat | None = 10.0
    moved_s: PositiveFloat | None = 20.0


class CameraDefaults(Settings):
    """Settings that hold for every camera unless it says otherwise.

    Attributes:
        sample_fps: frames per second that are scored; None scores all.
        open_timeout_s: longest wait for a stream to open.
        read_timeout_s: longest wait for a packet of a live stream.
        stall_timeout_s: longest time an open live stream may go without a frame before it is opened anew.
        reconnect_max_s: longest pause before a live camera that failed is tried again.
        max_frame_age_s: a live camera's frames older than this are no longer scored.
        buffer_frames: decoded frames that wait for a detector; a file's decoder then blocks, a live camera's oldest
            frame gives way.
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
        url: RTSP or HTTP address, video file, or folder of images.
        scene: the name under which the model was trained on this camera's view; None takes the id.
    """

    id: Identifier
    url: Address
    scene: Identifier | None = None

    @property
    def trained_as(self) -> str:
        """Name of the camera's scene in the model."""
        return self.scene or self.id


class RuntimeSettings(Settings):
    """Processes and batches.

    Attributes:
        device: ``auto`` (GPUs where the cluster has any, else the CPU), ``cpu`` or ``cuda``.
        detectors: detector actors; None takes one per GPU, or one on a CPU.
        spare_detectors: further ones that are loaded and idle, to take over at once when one dies (a new one takes as
            long as importing torch); None keeps one beside a single detector of live cameras.
        cameras_per_process: cameras whose decoders share one process.
        batch_frames: frames of any cameras in one forward pass, at most.
        batch_wait_s: how long a frame waits for others although the detector is idle; what comes while it is busy
            makes the next batch in any case.
        threads: CPU threads of one detector; None shares the machine's cores among the detectors.
        precision: of the flows' matrix products: ``float32``, ``bfloat16``, or ``auto``, which measures at the start
            what the machine does fastest, and says so. The encoder is float32 always.
        compile: whether a detector compiles its model before the first frame, which takes longest on the first start on
            a machine; None does where a C++ compiler (on GPUs Triton) is there.
    """

    device: Literal["auto", "cpu", "cuda"] = "auto"
    detectors: PositiveInt | None = None
    spare_detectors: NonNegativeInt | None = None
    cameras_per_process: PositiveInt = 8
    batch_frames: PositiveInt = 16
    batch_wait_s: Annotated[float, Field(ge=0.0)] = 0.0
    threads: PositiveInt | None = None
    precision: Literal["auto", "float32", "bfloat16"] = "auto"
    compile: bool | None = None


class RedisSettings(Settings):
    """Where scores and alerts can be read in real time.

    Attributes:
        url: ``redis://``, ``rediss://`` or ``unix://`` address, or ``embedded`` for a private server that lives as
            long as the command.
        scores_maxlen: entries kept per camera, approximately.
        alerts_maxlen: alerts kept, approximately.
    """

    url: Address = SecretStr("embedded")
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
        maps: whether Parquet also holds every frame's anomaly map (float16).
        rotate_s: longest time before rows that were scored stand in a finished Parquet file.
    """

    folder: Path = Path("runs/stream")
    maps: bool = False
    rotate_s: PositiveFloat = 60.0


class Config(Settings):
    """The whole tree.

    Attributes:
        model: what makes a model; read by ``train``, and compared with the checkpoint by ``replay`` and ``stream``.
        model_folder: the trained model that ``stream`` uses when none is named on the command line.
        training: how the flows are fitted.
        camera_defaults: settings of every camera.
        cameras: the cameras; each may override any key of ``camera_defaults``.
        runtime: processes and batches.
        redis: where to read in real time.
        output: what is kept on disk.
    """

    model: ModelSettings = ModelSettings()
    model_folder: Path | None = None
    training: TrainingSettings = TrainingSettings()
    camera_defaults: CameraDefaults = CameraDefaults()
    cameras: tuple[CameraSettings, ...] = ()
    runtime: RuntimeSettings = RuntimeSettings()
    redis: RedisSettings = RedisSettings()
    output: OutputSettings = OutputSettings()

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


def _merged(under: Mapping[str, Any], over: Mapping[str, Any]) -> dict[str, Any]:
    """Lay one mapping over another, going down into mappings that both have."""
    result = dict(under)
    for key, value in over.items():
        below = result.get(key)
        result[key] = _merged(below, value) if isinstance(below, dict) and isinstance(value, dict) else value
    return result
