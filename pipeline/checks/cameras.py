"""Every camera opened and looked at once, several at the same time, however long some of them hang."""

from __future__ import annotations

import queue
import threading
import time
from collections import deque
from collections.abc import Sequence

from pipeline.camera_settings import CameraSettings
from pipeline.checks.finding import Finding
from pipeline.errors import VideoError
from pipeline.redaction import redact
from pipeline.video.failures import unexpected
from pipeline.video.source import DecodedFrame, VideoSource, open_camera

_AT_ONCE = 8
_SIZE_PX = (32, 32)  # what frames are resized to, which nobody looks at
_RATE_FRAMES = 10
_RATE_WITHIN_S = 3.0  # of looking at more frames, to say how many come per second
_LATE_S = 1.0


def check_cameras(cameras: Sequence[CameraSettings]) -> list[Finding]:
    """Open every camera with its own time limits, and decode a first frame.

    Args:
        cameras: the cameras.

    Returns:
        A finding for each, in their order. One whose library call hangs is left to itself after its limits.
    """
    findings: dict[str, Finding] = {}
    done: queue.SimpleQueue[Finding] = queue.SimpleQueue()
    waiting, deadlines = deque(cameras), dict[str, float]()
    while waiting or deadlines:
        while waiting and len(deadlines) < _AT_ONCE:
            camera = waiting.popleft()
            deadlines[camera.id] = time.monotonic() + longest_s(camera)
            threading.Thread(target=_report, args=(camera, done), name=f"check {camera.id}", daemon=True).start()
        try:
            finding = done.get(timeout=max(0.0, min(deadlines.values()) - time.monotonic()))
            findings.setdefault(finding.what, finding)
            deadlines = {name: at for name, at in deadlines.items() if _what(name) not in findings}
        except queue.Empty:
            hung = [name for name, at in deadlines.items() if at <= time.monotonic()]
            for name in hung:
                del deadlines[name]
                findings[_what(name)] = Finding(_what(name), "failed", "expected an answer in time, got none: it hangs")
    return [findings[_what(camera.id)] for camera in cameras]


def check_camera(camera: CameraSettings) -> Finding:
    """Open a camera and decode its first frames; waits as long as the camera's settings say."""
    url = camera.url.get_secret_value()
    started_at = time.monotonic()
    try:
        with open_camera(camera, _SIZE_PX) as source:
            times_s = _media_times(camera, source)
            if not times_s:
                return Finding(_what(camera.id), "warning", _waits(camera, source))
            seen = _seen(source, times_s, time.monotonic() - started_at)
            return Finding(_what(camera.id), "ok", seen + ", a file that stands in for a camera" * camera.loop)
    except VideoError as error:
        return Finding(_what(camera.id), "failed", str(error))
    except Exception as error:  # whatever one camera brings out, the others are still looked at
        return Finding(_what(camera.id), "failed", unexpected(f"{camera.id} ({redact(url)})", error))


def _report(camera: CameraSettings, done: queue.SimpleQueue[Finding]) -> None:
    done.put(check_camera(camera))


def _media_times(camera: CameraSettings, source: VideoSource) -> list[float]:
    """Media times in seconds of the first frame, and of a live camera's next ones, from which its rate is known.

    None where pictures come, and the keyframe that they refer to does not.

    Raises:
        VideoError: no frame comes, nor will.
    """
    times_s: list[float] = []
    enough_at = time.monotonic() + camera.stall_timeout_s
    for arrival in source.arrivals():
        if isinstance(arrival, DecodedFrame):
            if not times_s:
                enough_at = time.monotonic() + _RATE_WITHIN_S
            times_s.append(float(arrival.pts * arrival.time_base))
        if len(times_s) >= _RATE_FRAMES or (source.live and time.monotonic() > enough_at):
            break
    waits = source.before_keyframe and not source.corrupt + source.decode_errors
    if not times_s and not waits:
        raise VideoError(
            f"{camera.id} ({redact(camera.url.get_secret_value())}): expected a frame within "
            f"{camera.stall_timeout_s:g} s (stall_timeout_s), got packets that make none: no keyframe, or all damaged"
        )
    return times_s


def _waits(camera: CameraSettings, source: VideoSource) -> str:
    return (
        f"{source.codec}, no keyframe within {camera.stall_timeout_s:g} s (stall_timeout_s): pictures come, and can be "
        "decoded from the next keyframe on; set a keyframe interval of 1 to 4 s in the camera"
    )


def _seen(source: VideoSource, times_s: Sequence[float], took_s: float) -> str:
    height, width = source.size_px or (0, 0)
    lasted_s = times_s[-1] - times_s[0]
    stated_fps = None if source.untimed else source.frame_rate_fps  # which FFmpeg only guessed
    rate_fps = (len(times_s) - 1) / lasted_s if lasted_s > 0.0 else stated_fps
    words = [f"{width} x {height}", source.codec, "rate unknown" if rate_fps is None else f"{rate_fps:.3g} fps"]
    if source.untimed:
        words.append(f"timed by arrival ({source.untimed})")
    if source.live:
        words.append(f"{took_s:.1f} s to open and see {len(times_s)} frames")
    elif source.expected_frames:
        words.append(f"{source.expected_frames:,} frames")
    return ", ".join(words)


def longest_s(camera: CameraSettings) -> float:
    """What FFmpeg's own limits add up to; whoever takes longer hangs."""
    reading_s = max(camera.stall_timeout_s, _RATE_WITHIN_S) + 2 * camera.read_timeout_s
    return 2 * camera.open_timeout_s + reading_s + _RATE_WITHIN_S + _LATE_S


def _what(camera_id: str) -> str:
    return f"camera {camera_id}"
