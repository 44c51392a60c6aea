"""What the supervisor and the actors send each other: named, frozen values that are cheap to send.

A desired state says all of what an actor is to do. Desired states are numbered; an actor that was started again follows
number 0, its report says so, and it is sent the newest one.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from pipeline.camera_settings import CameraSettings
from pipeline.models.card import ModelCard
from pipeline.normal_footage import AddedStretch
from pipeline.runtime.evidence import EvidenceReport, EvidenceRequest
from pipeline.runtime.status import ReaderStatus, ScoringStatus
from pipeline.runtime.tally import DetectorLoad, Tally
from pipeline.types import SceneReference, Trouble
from pipeline.zoning import Zoning


class TakeRequest(NamedTuple):
    """What a detector asks a camera process for. Sent for every batch, as one argument: Ray serialises each by itself.

    Attributes:
        consumer: name of the detector that asks; another than the desired state's gets nothing.
        incarnation: name of its process: another one gets what the one before was given and is not confirmed.
        confirmed: by camera, the serial below which the scorer knows what became of every frame.
        max_frames: frames at most.
        timeout_s: longest wait for a first frame.
        unwanted: ids of cameras whose frames are to wait there: their scorer is away.
        wait_s: how long the first frame may wait for others.
    """

    consumer: str
    incarnation: str
    confirmed: Mapping[str, int]
    max_frames: int
    timeout_s: float
    unwanted: frozenset[str] = frozenset()
    wait_s: float = 0.0


@dataclass(frozen=True, slots=True)
class DesiredCameraState:
    """What a camera process is to do.

    Attributes:
        version: number of the desired state; 0 is none.
        cameras: the cameras to read.
        scene_references: what their scenes looked like in training, by camera id.
        paused: ids of those not to be read at present.
        sessions: by camera id, the session number to begin with where there are no frame counters of it to go on in.
        counter_ids: by camera id, the frame counters that a live camera was counted in last; others on this node are of
            a time before that. Absent where it is the first to be read.
        consumer: name of the detector that may take frames; None while there is none.
        deaths: how many detectors have died while they took from this process.
        forgotten: ids of former cameras, read here, which are no longer reported.
        paced: whether files are read at the speed at which they were filmed: beside live cameras, whose frames would be
            dropped for theirs.
    """

    version: int = 0
    cameras: tuple[CameraSettings, ...] = ()
    scene_references: Mapping[str, SceneReference] = field(default_factory=dict[str, SceneReference])
    paused: frozenset[str] = frozenset()
    sessions: Mapping[str, int] = field(default_factory=dict[str, int])
    counter_ids: Mapping[str, str] = field(default_factory=dict[str, str])
    consumer: str | None = None
    deaths: int = 0
    forgotten: frozenset[str] = frozenset()
    paced: bool = False


@dataclass(frozen=True, slots=True)
class CameraReport:
    """Report of a camera process.

    Attributes:
        version: of the desired state it follows.
        readers: what each camera's reader has done, by camera id, former cameras included until they are forgotten.
        troubles: why cameras cannot be read at all.
        node: id of its node.
        waiting: frames that wait in it at present.
        tally: what its process has counted.
        evidence: how it stands with pictures and clips of events.
    """

    version: int
    readers: Mapping[str, ReaderStatus]
    troubles: tuple[Trouble, ...] = ()
    node: str = ""
    waiting: int = 0
    tally: Tally = field(default_factory=Tally)
    evidence: EvidenceReport = field(default_factory=EvidenceReport)


@dataclass(frozen=True, slots=True)
class CameraRole:
    """What a detector, and the model in it, need to know of a camera.

    Attributes:
        scene: its scene in the model.
        live: whether newer frames are worth more than older ones.
        max_frame_age_s: of a live camera's frames; older ones are not scored.
        zoning: its zones over the week; None where there are none.
    """

    scene: str
    live: bool
    max_frame_age_s: float
    zoning: Zoning | None = None

    @classmethod
    def of(cls, camera: CameraSettings) -> CameraRole:
        """The role of a camera with these settings."""
        return cls(camera.scene_name, camera.is_live, camera.max_frame_age_s, camera.zoning)


@dataclass(frozen=True, slots=True)
class DesiredDetectorState:
    """What a detector is to do.

    Attributes:
        version: number of the desired state; 0 is none.
        processes: names of the camera processes it takes from.
        cameras: by camera id, of all cameras it may get frames of.
    """

    version: int = 0
    processes: tuple[str, ...] = ()
    cameras: Mapping[str, CameraRole] = field(default_factory=dict[str, CameraRole])


@dataclass(frozen=True, slots=True)
class DetectorReport:
    """How a detector stands.

    Attributes:
        version: of the desired state it follows.
        holding: frames in it, by camera process; processes without frames may be absent.
        tuning: how its model is run, in words.
        load: how busy it is.
        node: id of its node.
        tally: what its process has counted.
        model: fingerprint of its model.
    """

    version: int
    holding: Mapping[str, int] = field(default_factory=dict[str, int])
    tuning: str = ""
    load: DetectorLoad = field(default_factory=DetectorLoad)
    node: str = ""
    tally: Tally = field(default_factory=Tally)
    model: str = ""


@dataclass(frozen=True, slots=True)
class DesiredScorerState:
    """What a scorer is to do.

    Attributes:
        version: number of the desired state; 0 is none.
        cameras: the cameras to score, all of its slice.
        removed_cameras: those of its slice that were removed; frames of theirs may still be on their way.
        cards: of the models whose predictions may come, the one that is wanted last; none where it is the plan's alone.
        normal: normal footage of these models beside what their cards hold, by fingerprint.
    """

    version: int = 0
    cameras: tuple[CameraSettings, ...] = ()
    removed_cameras: tuple[CameraSettings, ...] = ()
    cards: tuple[ModelCard, ...] = ()
    normal: Mapping[str, tuple[AddedStretch, ...]] = field(default_factory=dict[str, tuple[AddedStretch, ...]])


@dataclass(frozen=True, slots=True)
class ScorerReport:
    """Report of a scorer.

    Attributes:
        version: of the desired state it follows.
        notices: number of the newest notice it has taken in.
        cameras: what is known of each camera.
        troubles: what stands in the way of writing at present.
        alerts: how many were emitted, delivered to Redis, dropped, and wait; under ``sinks`` the same of other sinks.
        storage: why it cannot keep every row at present, one of its troubles; empty where it can.
        node: id of its node.
        failing: by sink, whether it cannot be written to at present.
        tally: what its process has counted.
        evidence: the pictures and clips of events that it wants.
    """

    version: int
    notices: int
    cameras: Mapping[str, ScoringStatus]
    troubles: tuple[Trouble, ...] = ()
    alerts: Mapping[str, Any] = field(default_factory=dict[str, Any])
    storage: str = ""
    node: str = ""
    failing: Mapping[str, bool] = field(default_factory=dict[str, bool])
    tally: Tally = field(default_factory=Tally)
    evidence: tuple[EvidenceRequest, ...] = ()
