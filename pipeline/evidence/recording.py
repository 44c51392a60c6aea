"""The evidence of one event, from its first picture to its clip."""

from __future__ import annotations

import math
import shutil
import tempfile
from dataclasses import replace
from datetime import datetime
from itertools import takewhile
from pathlib import Path

import numpy as np
import numpy.typing as npt

from pipeline.alerts import Event
from pipeline.errors import VideoError
from pipeline.evidence.clip import Clip
from pipeline.evidence.decoding import picture_at, picture_in_clip
from pipeline.evidence.footage import Footage
from pipeline.evidence.packets import Cut
from pipeline.evidence.store import EventPlace, Stored, store, stored
from pipeline.evidence_settings import EvidenceSettings
from pipeline.locked_folder import touch_folder
from pipeline.runtime.evidence import EvidenceAnswer, EvidenceRequest

_MOST_CLIP_BYTES = 256_000_000
_SAME_S = 0.001
_NEAR_S = 1.0  # a picture further from the peak shows something else; the clip may have the peak itself
_LOOK_AHEAD_S = 0.5


class EventRecording:
    """Writes what is wanted of one stretch of an event; belongs to one thread.

    A picture is stored as soon as it is wanted. A live camera's clip is begun then, too, and goes on as packets come,
    so that they need not stay in memory; at the end everything is stored once more, whole.

    Args:
        request: what is wanted.
        footage: of its camera; None where nobody has any.
        output: the folder into which it is written.
        settings: what is kept.

    Attributes:
        answer: to the newest request, once there is one.
        trouble: why the disk did not take something, one line; empty where it did.
    """

    def __init__(
        self, request: EvidenceRequest, footage: Footage | None, output: Path, settings: EvidenceSettings
    ) -> None:
        self._request, self._footage, self._output, self._settings = request, footage, output, settings
        self._place = place_of(request)
        self.answer: EvidenceAnswer | None = None
        self.trouble = ""
        self._picture: bytes | None = None
        self._picture_peak_s: float | None = None
        self._looked_for: tuple[float, bool] | None = None
        self._staging: Path | None = None
        self._clip: Clip | None = None
        self._newest = 0  # order of the newest packet in the clip
        self._is_cut_off = self._has_failed = False
        self._why = ""

    def follow(self, request: EvidenceRequest) -> None:
        """Take in how the event stands now."""
        if request.peak_map is None and request.event.peak_index == self._request.event.peak_index:
            known = self._request
            request = replace(request, map_shape=known.map_shape, map_float16=known.map_float16)
        if request.is_final != self._request.is_final:
            self.answer = None
        self._request = request

    def step(self) -> None:
        """Do what can be done now."""
        if self.answer is not None and self._request.is_final:
            return
        there = stored(self._output, self._place)
        if there is not None and there.is_final:
            self.answer = self._answered(there)
            return
        try:
            self._step(there)
        except OSError as error:  # also a VideoError
            self._give_up(error)

    def abandon(self) -> None:
        """Leave nothing half: nobody wants it any more."""
        if self._clip is not None:
            self._clip.abandon()
            self._clip = None
        if self._staging is not None:
            shutil.rmtree(self._staging, ignore_errors=True)
            self._staging = None

    def _step(self, there: Stored | None) -> None:
        if self._staging is not None:
            touch_folder(self._staging)  # an event may last for hours: or its clip would be taken for left
        self._take_picture()
        if self._footage is not None and (self._footage.is_live or self._request.is_final):
            self._go_on_with_clip(self._footage)
        if self._request.is_final:
            self._finish(there)
        elif self.answer is None:
            self._store_picture(there)

    def _take_picture(self) -> None:
        """Decode the peak, where there is a new one and its packets are still there."""
        peak_s, footage = self._request.peak_s, self._footage
        looked_for = peak_s, self._request.is_final
        if not self._settings.pictures or footage is None or peak_s == self._picture_peak_s:
            return
        if looked_for == self._looked_for:
            return
        self._looked_for = looked_for
        found = picture_at(footage.cut(self._request.event.session, peak_s, peak_s + _LOOK_AHEAD_S).packets, peak_s)
        off_s = math.inf if found is None else abs(found[1] - peak_s)
        if found is not None and (off_s <= _SAME_S or (self._picture is None and off_s <= _NEAR_S)):
            self._picture = _drawn(found[0], self._request)
            self._picture_peak_s = peak_s if off_s <= _SAME_S else None

    def _store_picture(self, there: Stored | None) -> None:
        """The first that is stored of an event, unless a process before this one did."""
        if there is None and self._picture is not None:
            store(self._output, self._place, self._request.event, picture=self._picture, clip=None, final=False)
            there = stored(self._output, self._place)
        self.answer = self._answered(there or Stored())
        self.trouble = ""

    def _go_on_with_clip(self, footage: Footage) -> None:
        if not self._settings.clips or self._is_cut_off or self._has_failed:
            return
        request, event = self._request, self._request.event
        ends_s = request.begins_s + self._settings.longest_s
        if request.is_final and event.end_s is not None:
            ends_s = min(ends_s, event.end_s)
        from_s = request.begins_s - self._settings.before_s
        if self._clip is None:
            cut = footage.cut(event.session, from_s, ends_s)
            if not cut.timed():
                return
            self._begin_clip(cut)
        else:
            cut = footage.after(event.session, self._newest)
            self._is_cut_off = not cut.reaches_back  # the disk was slower than the camera
        if self._clip is not None and not self._is_cut_off:
            self._write(self._clip, cut, ends_s)

    def _begin_clip(self, cut: Cut) -> None:
        folder = self._place.within(self._output)
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        self._staging = Path(tempfile.mkdtemp(prefix=f".{folder.name}.clip-", dir=folder.parent))
        self._clip = Clip(self._staging, cut.timed())
        if cut.is_late:
            self._why = "its clip begins late: earlier packets found no room in memory (output.evidence.ring_mb)"

    def _write(self, clip: Clip, cut: Cut, ends_s: float) -> None:
        until_s = ends_s + _LOOK_AHEAD_S
        wanted = list(takewhile(lambda pair: pair[1].media_s is None or pair[1].media_s <= until_s, cut.timed()))
        written = clip.write(wanted)
        if wanted:
            self._newest = wanted[-1][1].order
        is_long = clip.last_s >= self._request.begins_s + self._settings.longest_s
        self._is_cut_off = is_long or written < len(wanted) or clip.size > _MOST_CLIP_BYTES

    def _finish(self, there: Stored | None) -> None:
        """Store all of it."""
        clip_file = self._ended_clip()
        if self._picture is None and there is not None and there.picture is not None:
            self._picture = (self._output / there.picture).read_bytes()  # of a process before this one
        if self._picture is None and clip_file is None:
            self.answer = self._answered(there or Stored(), self._why or _LOST)
            self.abandon()
            return
        event = self._request.event
        store(self._output, self._place, event, picture=self._picture, clip=clip_file, final=True)
        self.abandon()  # the empty folder in which the clip was made
        why = self._why or (_CLIP_LOST if self._settings.clips and clip_file is None else "")
        self.answer = self._answered(stored(self._output, self._place) or Stored(), why)
        self.trouble = ""

    def _ended_clip(self) -> Path | None:
        """The clip's file, and the peak's picture out of it where there is no other; None where there is none."""
        clip, self._clip = self._clip, None
        if clip is None:
            return None
        peak_s = self._request.peak_s
        try:
            clip.close()
            if self._settings.pictures and self._picture_peak_s != peak_s and clip.first_s <= peak_s <= clip.last_s:
                image = picture_in_clip(clip.path, peak_s - clip.first_s)
                if image is not None:
                    self._picture, self._picture_peak_s = _drawn(image, self._request), peak_s
        except VideoError as error:
            self._why = f"no clip of it: {error}"
            return None
        return clip.path

    def _give_up(self, error: OSError) -> None:
        """What the disk does not take, or nobody can read, is not there; the picture of before may be."""
        self.abandon()
        self._has_failed = True
        reason = str(error) if isinstance(error, VideoError) else (error.strerror or str(error))
        self._why = f"it could not be written or read: {reason}"
        if not isinstance(error, VideoError):
            self.trouble = f"pictures and clips of events are not written: {self._output}: {reason}"
        if self._request.is_final or self.answer is None:
            self.answer = self._answered(stored(self._output, self._place) or Stored(), self._why)

    def _answered(self, there: Stored, why: str = "") -> EvidenceAnswer:
        request = self._request
        return EvidenceAnswer(request.name, request.is_final, there.picture, there.clip, why)


_LOST = "no picture and no clip of it: its camera's packets are not kept any more, or never were"
_CLIP_LOST = "no clip of it: its camera's packets are not kept any more"


def place_of(request: EvidenceRequest) -> EventPlace:
    """Where evidence of an event belongs.

    Args:
        request: for it.

    Raises:
        BadInputError: its ids cannot name folders.
    """
    event = request.event
    date = event.started_local[:10] or datetime.fromtimestamp(event.started_at_s).astimezone().date().isoformat()
    return EventPlace(date, event.camera_id, request.name)


def _drawn(image: npt.NDArray[np.uint8], request: EvidenceRequest) -> bytes:
    from pipeline.evidence.picture import Shown, draw_peak  # Pillow only where there are events

    event = request.event
    said = [event.camera_id, _local_time(event), f"score {event.peak_score:.2f} over {event.threshold:.2f}"]
    if event.channel is not None:
        said.insert(2, event.channel)
    if event.zone is not None:
        said.insert(2, f"zone {event.zone}")
    return draw_peak(image, Shown(request.peak_map, request.region, "  ".join(said)))


def _local_time(event: Event) -> str:
    """The peak's, in the camera's time zone."""
    zone = datetime.fromisoformat(event.started_local).tzinfo if event.started_local else None
    return datetime.fromtimestamp(event.peak_at_s, zone).astimezone(zone).isoformat(sep=" ", timespec="seconds")
