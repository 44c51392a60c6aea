"""An event's peak as a person is to see it: the camera's picture with what stands out laid over it."""

from __future__ import annotations

import io
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from PIL import Image, ImageDraw, ImageFont

from pipeline.alerts import Region

_QUALITY = 88
_STRONGEST = 0.45  # of the colours, where the map is highest: what is there must still be seen
_FAINTEST = 0.25  # of the way from the map's median to its maximum, below which nothing is laid over
_CAPTION_SHARE = 0.045  # of the picture's height, or of its width where that is less
_SMALLEST_TEXT_PX = 11
# Matplotlib's inferno at every sixteenth: it rises evenly in brightness, so that it reads in grey and for the colour
# blind, too. Matplotlib itself would cost every camera process 60 MB.
_COLOURS = np.array(
    [
        (0, 0, 4), (11, 7, 36), (33, 12, 74), (61, 9, 101), (87, 16, 110), (113, 25, 110), (138, 34, 106),
        (163, 44, 97), (188, 55, 84), (210, 70, 68), (228, 90, 49), (241, 115, 29), (249, 142, 9), (252, 172, 17),
        (249, 203, 53), (242, 234, 105), (252, 255, 164),
    ],
    np.float32,
)  # fmt: skip


@dataclass(frozen=True, slots=True)
class Shown:
    """What is said of an event's peak in its picture.

    Attributes:
        anomaly_map: shape (h, w), any float; None where there is none.
        region: the box that is drawn; None draws none.
        caption: one line.
    """

    anomaly_map: npt.NDArray[np.float16] | None
    region: Region | None
    caption: str


def draw_peak(image: npt.NDArray[np.uint8], shown: Shown) -> bytes:
    """The picture as a JPEG, at its full size with a caption below it.

    Args:
        image: uint8, shape (H, W, 3), RGB.
        shown: what is laid over it.
    """
    picture = Image.fromarray(image)
    if shown.anomaly_map is not None and (heat := _heat(shown.anomaly_map, picture.size)) is not None:
        picture = _laid_over(image, heat)
    if shown.region is not None:
        _draw_box(picture, shown.region)
    picture = _captioned(picture, shown.caption)
    written = io.BytesIO()
    picture.save(written, "JPEG", quality=_QUALITY)
    return written.getvalue()


def colours(heat: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Colours of values from 0 to 1: shape (...), to shape (..., 3), 0 to 255."""
    at = np.linspace(0.0, 1.0, len(_COLOURS))
    return np.stack([np.interp(heat, at, _COLOURS[:, channel]) for channel in range(3)], axis=-1).astype(np.float32)


def _heat(anomaly_map: npt.NDArray[np.float16], size: tuple[int, int]) -> npt.NDArray[np.float32] | None:
    """How far the map stands out above what is usual in it, 0 to 1, at the picture's size; None where it is flat."""
    values = anomaly_map.astype(np.float32)
    median, highest = float(np.median(values)), float(values.max())
    if not np.isfinite(values).all() or highest <= median:
        return None
    scaled = np.clip((values - median) / (highest - median), 0.0, 1.0)
    return np.clip(np.asarray(Image.fromarray(scaled).resize(size, Image.Resampling.BICUBIC)), 0.0, 1.0)


def _laid_over(image: npt.NDArray[np.uint8], heat: npt.NDArray[np.float32]) -> Image.Image:
    """Bands of rows by turns: of a picture of 50 megapixels floats fill gigabytes."""
    out = np.empty_like(image)
    for top in range(0, len(image), 64):
        rows = slice(top, top + 64)
        above = np.clip((heat[rows] - _FAINTEST) / (1.0 - _FAINTEST), 0.0, 1.0)
        share = _STRONGEST * np.sqrt(above)[..., None]
        out[rows] = np.rint(image[rows] * (1.0 - share) + colours(heat[rows]) * share)
    return Image.fromarray(out)


def _draw_box(picture: Image.Image, region: Region) -> None:
    """White within black: one of the two is seen on whatever there is."""
    width, height = picture.size
    line_px = max(1, round(min(width, height) / 300))
    left, top = round(region.left * width), round(region.top * height)
    right, bottom = max(left + 1, round(region.right * width) - 1), max(top + 1, round(region.bottom * height) - 1)
    draw = ImageDraw.Draw(picture)
    draw.rectangle((left, top, right, bottom), outline=(0, 0, 0), width=3 * line_px)
    inner = (left + line_px, top + line_px, right - line_px, bottom - line_px)
    if inner[0] < inner[2] and inner[1] < inner[3]:
        draw.rectangle(inner, outline=(255, 255, 255), width=line_px)


def _captioned(picture: Image.Image, caption: str) -> Image.Image:
    """Below the picture, so that it hides nothing of it; as small as it must be to fit."""
    width, height = picture.size
    text_px = max(_SMALLEST_TEXT_PX, round(_CAPTION_SHARE * min(width, height)))
    font = ImageFont.load_default(text_px)
    while text_px > _SMALLEST_TEXT_PX and font.getlength(caption) > width - text_px:
        text_px -= 1
        font = ImageFont.load_default(text_px)
    bar_px = round(1.8 * text_px)
    whole = Image.new("RGB", (width, height + bar_px), (16, 16, 16))
    whole.paste(picture, (0, 0))
    ImageDraw.Draw(whole).text((text_px // 2, height + bar_px // 2), caption, (240, 240, 240), font, anchor="lm")
    return whole
