"""The cameras of a run: who is wanted, how each stands, and what is to be said of it. Pure: no clock, no processes."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pipeline.alerts import Notice
from pipeline.camera_settings import CameraSettings
from pipeline.runtime.accounting import CameraAccounting, ReaderCounts
from pipeline.runtime.health import HealthTracker
from pipeline.runtime.saved_cameras import SavedCamera, SavedRegistry, revealed
from pipeline.runtime.status import CameraStatus, ReaderStatus, RunStatus, ScoringStatus, sum_counts
from pipeline.types import FrameCounts

_SHOWN_REMOVED = 100  # a run may go on for months, with cameras that come and go
_UNSEEN_SESSIONS = 8  # that a lost node may have begun after its last report
_LOST_AFTER_S = 20.0  # longer than a detector needs to come back and to answer for what it holds


@dataclass(slots=True)
class _Camera:
    settings: CameraSettings
    accounting: CameraAccounting
    health: HealthTracker
    reader: ReaderStatus | None = None
    scoring: ScoringStatus | None = None
    session: int | None = None
    removed: bool = False
    settled: bool = False
    finished: bool = False


class CameraRegistry:
    """Everything that is known of the cameras of a run, those that were removed included.

    Of cameras that were removed, whose counts are final and events ended, the newest hundred are reported one by one.
    Of those before, only the frame counts and the newest session are kept, for the totals and for their return.

    Args:
        cameras: the cameras at first.
        saved: how it stood before, with the same cameras at first; None where it is new.
    """

    def __init__(self, cameras: Sequence[CameraSettings], saved: SavedRegistry | None = None) -> None:
        self.paused: frozenset[str] = frozenset()
        """Ids of the cameras not to be read at present."""
        self.cameras: tuple[CameraSettings, ...] = ()
        """The cameras that are wanted."""
        self._cameras: dict[str, _Camera] = {}
        self._archive: dict[str, tuple[CameraAccounting, int | None]] = {}
        self._alerts: dict[str, Mapping[str, Any]] = {}  # by scorer
        self._first = {camera.id: camera for camera in cameras}
        if saved is not None:
            self._restore(saved)
        else:
            self.apply(cameras, (), 0.0)  # there is no notice yet that a time would be needed for

    @property
    def removed_cameras(self) -> tuple[CameraSettings, ...]:
        """The cameras that were removed, but for those before the newest hundred."""
        return tuple(camera.settings for camera in self._cameras.values() if camera.removed)

    def saved(self) -> SavedRegistry:
        """All of it, to be gone on from."""
        return SavedRegistry(
            cameras=tuple(self._saved(camera_id, camera) for camera_id, camera in self._cameras.items()),
            paused=self.paused,
            archive={name: (accounting.saved(), session) for name, (accounting, session) in self._archive.items()},
        )

    def unreported(self) -> tuple[object, ...]:
        """What in it no actor will report again, in a form that is compared quickly."""
        cameras = tuple(
            (c.settings, c.removed, c.accounting.unreported(), c.health.conditions) for c in self._cameras.values()
        )
        return cameras, self.paused, len(self._archive)

    def apply(self, cameras: Sequence[CameraSettings], paused: Iterable[str], now_s: float) -> list[Notice]:
        """Want these cameras from now on, and no others.

        Args:
            cameras: the cameras.
            paused: ids of those not to be read at present.
            now_s: Unix time.

        Returns:
            Notices of cameras that are no longer watched.
        """
        wanted = {camera.id: camera for camera in cameras}
        notices: list[Notice] = []
        for camera_id, camera in list(self._cameras.items()):
            if camera_id not in wanted and not camera.removed:
                camera.removed = True
                self._cameras[camera_id] = self._cameras.pop(camera_id)  # in the order of their removal
                notices += camera.health.finish("the camera was removed", now_s)
        for camera_id, settings in wanted.items():
            known = self._cameras.get(camera_id)
            if known is None:
                accounting, session = self._archive.get(camera_id) or (CameraAccounting(_LOST_AFTER_S), None)
                health = HealthTracker(camera_id, settings.health)
                self._cameras[camera_id] = _Camera(settings, accounting, health, session=session)
            elif known.removed or known.settings != settings:
                notices += known.health.finish("the camera's settings were changed", now_s)
                known.settings = settings
                known.health = HealthTracker(camera_id, settings.health)
                known.removed = known.settled = known.finished = False
                known.reader = None  # it is of the former settings
        self._note_wanted()
        self.paused = frozenset(wanted.keys() & set(paused))
        return notices

    def update_reader(self, camera_id: str, reader: ReaderStatus) -> None:
        """Take in what a camera's reader says."""
        camera = self._cameras.get(camera_id)
        if camera is None:  # removed long ago
            return
        camera.reader = reader
        camera.session = max(reader.session, camera.session or 0)
        camera.accounting.update_reader(*_counted(reader))

    def update_former_reader(self, camera_id: str, reader: ReaderStatus) -> None:
        """Take in the last that is said by somebody who read a camera before: its counts."""
        camera = self._cameras.get(camera_id)
        if camera is not None and reader.live:  # a file is read again from its start, and counted again
            camera.accounting.update_former_reader(*_counted(reader))

    def update_scoring(self, scoring: Mapping[str, ScoringStatus]) -> None:
        """Take in what the scorer says of cameras."""
        for camera_id, status in scoring.items():
            camera = self._cameras.get(camera_id)
            if camera is None:
                continue
            camera.scoring = status
            camera.accounting.update_scorer(status.scored, status.dropped, status.counted)

    def update_alerts(self, scorer: str, alerts: Mapping[str, Any]) -> None:
        """Take in how many alerts a scorer has emitted, delivered to Redis, dropped, and how many wait."""
        self._alerts[scorer] = alerts

    def check_health(self, now_s: float) -> list[Notice]:
        """Notices of live cameras.

        Args:
            now_s: Unix time.
        """
        notices: list[Notice] = []
        for camera_id, camera in self._cameras.items():
            reader = camera.reader
            if camera.removed or reader is None or not reader.live:
                continue
            notices += camera.health.update(
                last_frame_at_s=reader.last_frame_at_s,
                conditions=reader.conditions,
                error=reader.error,
                paused=camera_id in self.paused,
                now_s=now_s,
            )
        return notices

    def next_session(self, camera_id: str) -> int:
        """The number of a wanted camera's first session on a node that does not know it: above all that were used.

        A file has one session, wherever it is read, so that frames whose result is known are known again.
        """
        camera = self._cameras[camera_id]
        if camera.session is None:
            return 0
        is_read_again = not camera.settings.is_live and camera.reader is not None
        return camera.session if is_read_again else camera.session + 1 + _UNSEEN_SESSIONS

    def counter_id(self, camera_id: str) -> str | None:
        """The frame counters that a wanted camera was counted in last; None where nobody has said so."""
        reader = self._cameras[camera_id].reader
        return None if reader is None else reader.counter_id

    def newly_settled(self, now: float, *, draining: bool) -> list[str]:
        """Cameras that are done and whose events are still to be closed.

        Args:
            now: monotonic seconds.
            draining: whether all cameras were asked to end.
        """
        for camera in self._cameras.values():
            ended = self._has_ended(camera, draining)
            camera.settled = camera.scoring is not None and camera.accounting.settled(ended, now)
        return [name for name, camera in self._cameras.items() if camera.settled and not camera.finished]

    def finish(self, camera_ids: Iterable[str]) -> None:
        """Note that the events of these cameras are closed."""
        for camera_id in camera_ids:
            if camera_id in self._cameras:
                self._cameras[camera_id].finished = True

    def is_shown(self, camera_id: str) -> bool:
        """Whether it is reported on its own: wanted, or removed not long ago."""
        return camera_id in self._cameras

    def archive(self) -> None:
        """Keep only the frame counts of cameras that were removed long ago."""
        over = [
            name for name, camera in self._cameras.items() if camera.removed and (camera.finished or not camera.reader)
        ]
        for camera_id in over[:-_SHOWN_REMOVED]:
            camera = self._cameras.pop(camera_id)
            self._archive[camera_id] = camera.accounting, camera.session

    def in_flight(self, camera_id: str | None = None) -> int:
        """Frames in flight, of one camera or of all."""
        cameras = self._cameras.values() if camera_id is None else [self._cameras[camera_id]]
        return sum(camera.accounting.counts().in_flight for camera in cameras)

    def dropped_late(self) -> int:
        """Frames that were too many or too late for the detectors, since the run began."""
        reasons = ("overload", "stale")
        counts = (camera.accounting.counts().dropped for camera in self._cameras.values())
        return sum(dropped.get(reason, 0) for dropped in counts for reason in reasons)

    def write_off(self, reason: str) -> None:
        """Give up all frames in flight."""
        for camera in self._cameras.values():
            camera.accounting.write_off(reason)

    def status(self, *, draining: bool) -> RunStatus:
        """Status of the run.

        Args:
            draining: whether all cameras were asked to end.
        """
        cameras = tuple(
            self._status(camera, camera.reader, camera.scoring)
            for camera in self._cameras.values()
            if camera.reader is not None and camera.scoring is not None
        )
        shown = {camera.camera_id for camera in cameras}
        wanted = [camera for camera in self._cameras.values() if not camera.removed]
        done = (bool(wanted) or draining) and all(camera.finished for camera in wanted)
        return RunStatus(
            cameras,
            done,
            alerts=sum_counts(self._alerts.values()),
            archived=self._left_out(shown),
            paused=self.paused,
            unread=tuple(camera.settings.id for camera in wanted if camera.settings.id not in shown),
        )

    def _left_out(self, shown: Collection[str]) -> FrameCounts:
        """The counts of all other cameras: of which only they are kept, or whose reader has not reported yet."""
        accountings = {name: accounting for name, (accounting, _) in self._archive.items()}
        accountings |= {name: camera.accounting for name, camera in self._cameras.items()}
        all_counts = [accounting.counts() for name, accounting in accountings.items() if name not in shown]
        dropped: Counter[str] = Counter()
        for counts in all_counts:
            dropped.update(counts.dropped)
        return FrameCounts(sum(a.decoded for a in all_counts), sum(a.scored for a in all_counts), dict(dropped))

    def _has_ended(self, camera: _Camera, draining: bool) -> bool:
        if camera.reader is None:
            return draining
        return camera.reader.ended

    def _status(self, camera: _Camera, reader: ReaderStatus, scoring: ScoringStatus) -> CameraStatus:
        of_scores = {name for name in ("light_changed", "drifted") if getattr(scoring, name)}
        return CameraStatus(
            camera_id=camera.settings.id,
            scene=camera.settings.scene_name,
            state="removed" if camera.removed else reader.state,
            live=reader.live,
            session=reader.session,
            counts=camera.accounting.counts(),
            scoring=scoring,
            conditions=tuple(sorted(camera.health.conditions | of_scores)),
            missing=reader.missing,
            last_frame_at_s=reader.last_frame_at_s,
            error=reader.error,
            settled=camera.settled,
            untimed=reader.untimed,
        )

    def _note_wanted(self) -> None:
        self.cameras = tuple(camera.settings for camera in self._cameras.values() if not camera.removed)

    def _saved(self, camera_id: str, camera: _Camera) -> SavedCamera:
        settings = None if camera.settings == self._first.get(camera_id) else revealed(camera.settings)
        return SavedCamera(
            camera_id=camera_id,
            settings=settings,
            removed=camera.removed,
            session=camera.session,
            reader=camera.reader,
            accounting=camera.accounting.saved(),
            health=camera.health.saved(),
        )

    def _restore(self, saved: SavedRegistry) -> None:
        self.paused = saved.paused
        for camera in saved.cameras:
            name, given = camera.camera_id, camera.settings
            settings = self._first[name] if given is None else CameraSettings.model_validate(given)
            self._cameras[name] = _Camera(
                settings,
                CameraAccounting(_LOST_AFTER_S, camera.accounting),
                HealthTracker(name, settings.health, camera.health),
                reader=camera.reader,
                session=camera.session,
                removed=camera.removed,
            )
        for name, (accounting, session) in saved.archive.items():
            self._archive[name] = CameraAccounting(_LOST_AFTER_S, accounting), session
        self._note_wanted()


def _counted(reader: ReaderStatus) -> tuple[str, ReaderCounts]:
    """In which frame counters, and what; a file's are those of its session, wherever it is read."""
    counter_id = reader.counter_id if reader.live else f"{reader.session}"
    return counter_id, ReaderCounts(reader.decoded, reader.dispatched, reader.dropped)
