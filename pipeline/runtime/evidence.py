"""What scorers, supervisor and camera processes say to each other of pictures and clips of events.

Pixels never travel to a scorer. It says which events it wants evidence of, again and again until it is answered; the
process that reads the camera has the packets, writes, and answers. Both are complete lists, so whoever is started again
is simply told once more.
"""

from __future__ import annotations

import base64
from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from pipeline.alerts import Event, Region

Shape = tuple[int, int]


@dataclass(frozen=True, slots=True)
class EvidenceRequest:
    """Evidence that is wanted of an event: of the stretch ``event.stretches`` of it.

    Attributes:
        event: as it stands.
        begins_s: media time, in seconds, at which the stretch begins.
        peak_s: media time of its peak.
        region: where in the image that is anomalous; None where nobody can tell.
        is_final: whether the stretch is over: then a clip is wanted, too. Before, a picture is, at once.
        is_answered: whether the picture that was wanted at once is there, or cannot be.
        map_shape: (h, w) of the peak's anomaly map; None where it is not known (any more), or was sent before.
        map_float16: the map, float16, little-endian, row by row, as base64.
    """

    event: Event
    begins_s: float
    peak_s: float
    region: Region | None = None
    is_final: bool = False
    is_answered: bool = False
    map_shape: Shape | None = None
    map_float16: str = ""

    @property
    def name(self) -> str:
        """Names the stretch, and its folder."""
        event = self.event
        return event.event_id if event.stretches == 1 else f"{event.event_id}-{event.stretches}"

    @property
    def peak_map(self) -> npt.NDArray[np.float16] | None:
        """The peak's anomaly map, float16, shape (h, w); None where there is none."""
        if self.map_shape is None:
            return None
        values = np.frombuffer(base64.b64decode(self.map_float16), "<f2")
        return values.reshape(self.map_shape).astype(np.float16)


def encoded_map(anomaly_map: npt.NDArray[np.float16] | None) -> tuple[Shape | None, str]:
    """``map_shape`` and ``map_float16`` of a map, float16, shape (h, w), or of none."""
    if anomaly_map is None:
        return None, ""
    height, width = anomaly_map.shape
    return (height, width), base64.b64encode(anomaly_map.astype("<f2").tobytes()).decode()


@dataclass(frozen=True, slots=True)
class EvidenceAnswer:
    """What became of a request.

    Attributes:
        name: of the request.
        is_final: of the request.
        picture: path of the picture relative to the run's output folder; None where there is none.
        clip: the same of the clip.
        why: why something that was wanted is not there, one line; empty where it is.
        files: bytes by name of the files of its folder where they are not in the run's output folder but with
            ``process``, to be fetched there.
        process: name of the camera process that answers; filled in on the way.
    """

    name: str
    is_final: bool
    picture: str | None = None
    clip: str | None = None
    why: str = ""
    files: Mapping[str, int] = field(default_factory=dict[str, int])
    process: str = ""


@dataclass(frozen=True, slots=True)
class DesiredEvidence:
    """All evidence that a camera process is to provide.

    Attributes:
        number: rises with every change; 0 is none.
        requests: those that are not answered for good.
        node: id of the node with the run's output folder.
    """

    number: int = 0
    requests: tuple[EvidenceRequest, ...] = ()
    node: str = ""


@dataclass(frozen=True, slots=True)
class EvidenceReport:
    """How a camera process stands with it.

    Attributes:
        number: of the ``DesiredEvidence`` that it follows.
        answers: to those of its requests that it could answer.
    """

    number: int = 0
    answers: tuple[EvidenceAnswer, ...] = ()
