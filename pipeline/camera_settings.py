"""Settings of cameras: where each is, when it is out of order, and when it raises an alarm.

Addresses may hold credentials: they are pydantic secrets and never print.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Annotated, Any, Literal, Self

from pydantic import AfterValidator, Field, PositiveFloat, PositiveInt, SecretStr, model_validator

from pipeline.addresses import camera_address_error, is_live, scheme_of
from pipeline.budget import events_per_hour
from pipeline.model_settings import Settings
from pipeline.zone_settings import TimeZone, Zones, machine_time_zone
from pipeline.zoning import Zoning, zones_error

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


def checked_address(error_of: Callable[[str], str | None]) -> AfterValidator:
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
CameraAddress = Annotated[SecretStr, Field(min_length=1), checked_address(camera_address_error)]
DEFAULT_BUDGET = "1/day"


def _check_budget(value: str) -> str:
    events_per_hour(value)
    return value


Budget = Annotated[str, AfterValidator(_check_budget)]
Fraction01 = Annotated[float, Field(gt=0.0, lt=1.0)]

SLOWEST_IMAGES_FPS, FASTEST_IMAGES_FPS = 0.001, 1000.0
ImageRate = Annotated[float, Field(ge=SLOWEST_IMAGES_FPS, le=FASTEST_IMAGES_FPS)]


class AlertSettings(Settings):
    """When a camera raises an alarm. Each key can be overridden per camera.

    Attributes:
        budget: how many events normal footage may open, such as ``1/day``, ``1/week``, ``2/hour`` or ``1/4h``; the
            threshold is made for it (docs/alarms.md). None where ``quantile`` says what the threshold is, else
            ``DEFAULT_BUDGET``.
        quantile: instead of a budget, the threshold is this quantile of the scores of held-out normal frames, smoothed
            alike.
        close_quantile: an open event ends when smoothed scores stay below this quantile.
        smoothing_s: time constant of the causal exponential smoothing, in seconds of media time; 0 turns it off.
        open_frames: consecutive anomalous frames that open an event.
        open_s: media time that must also pass from the first of them to the frame with which the event opens: where
            many frames come, a few of them are no time at all.
        close_s: media time without a score above ``close_quantile`` that ends it.
        update_s: media time to the first ``update`` of an open event; the next ones come after twice, four times as
            long and so on.
        cooldown_s: media time after an event within which what opens at its place continues it; 0 turns that off.
        still_after_s: media time after which an event that stays in one place ends as ``still_there``; None turns that
            off.
        light_pause_s: longest time for which no event opens while the whole image looks different; 0 turns that off.
        adapt: ``slow`` has thresholds follow the camera's normal scores, by one of their spreads in all and in a day
            at most; None leaves them as they were made.
    """

    budget: Budget | None = None
    quantile: Fraction01 | None = None
    close_quantile: Fraction01 = 0.98
    smoothing_s: Annotated[float, Field(ge=0.0)] = 0.3
    open_frames: PositiveInt = 3
    open_s: Annotated[float, Field(ge=0.0)] = 0.2
    close_s: PositiveFloat = 2.0
    update_s: PositiveFloat = 5.0
    cooldown_s: Annotated[float, Field(ge=0.0)] = 60.0
    still_after_s: PositiveFloat | None = 120.0
    light_pause_s: Annotated[float, Field(ge=0.0)] = 60.0
    adapt: Literal["slow"] | None = None

    @model_validator(mode="before")
    @classmethod
    def _has_a_budget_or_a_quantile(cls, data: Any) -> Any:
        if isinstance(data, dict) and data.get("budget") is None and data.get("quantile") is None:
            return {**data, "budget": DEFAULT_BUDGET}
        return data

    @model_validator(mode="after")
    def _closes_below_opening(self) -> Self:
        if self.quantile is None:
            return self
        if self.budget is not None:
            raise ValueError(f"expected a budget or a quantile, got both ({self.budget!r} and {self.quantile})")
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
        drift_falsely_h: a camera whose normal scores are no longer those of its normal footage has drifted; where they
            are, that is told falsely once in that many watched hours on average.
    """

    offline_s: PositiveFloat | None = 5.0
    frozen_s: PositiveFloat | None = 30.0
    dark_s: PositiveFloat | None = 10.0
    moved_s: PositiveFloat | None = 20.0
    light_changed_s: PositiveFloat | None = 10.0
    drift_falsely_h: PositiveFloat | None = 720.0


def _check_zones_together(zones: Zones) -> Zones:
    if (error := zones_error(zones)) is not None:
        raise ValueError(error)
    return zones


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
        zones: parts of the image that alarms come from, or do not; all of it where there are none.
        time_zone: by whose clock zones hold and times are told; by default that of the machine that reads the config.
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
    zones: Annotated[Zones, AfterValidator(_check_zones_together)] = ()
    time_zone: TimeZone = Field(default_factory=machine_time_zone)

    @property
    def zoning(self) -> Zoning | None:
        """Its zones over the week; None where there are none."""
        return Zoning.of(self.zones, self.time_zone)


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
