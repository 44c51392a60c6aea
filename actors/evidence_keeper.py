"""What a scorer's process does for pictures and clips of events besides asking for them: fetch them, and let go."""

from __future__ import annotations

import logging
import queue
import threading
import time
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

from actors.actor_client import ActorClient
from pipeline.errors import CflowError
from pipeline.evidence.retention import enforce
from pipeline.evidence.store import FILES, FOLDER, EventPlace
from pipeline.files import replace_folder_whole
from pipeline.runtime.evidence import EvidenceAnswer
from pipeline.runtime.plan import EvidencePlan

_LOOK_EVERY_S = 60.0
_ANSWER_WITHIN_S = 20.0
_TRIES = 3
_MOST_BYTES = 600_000_000  # of a clip; camera processes make none of half of that

_log = logging.getLogger(__name__)


class EvidenceKeeper:
    """Brings files here that were written on other nodes, and deletes what is overdue, in a thread of its own.

    Args:
        plan: what is kept, and where.
        enforces: whether it deletes what is overdue: one scorer of a run does.
    """

    def __init__(self, plan: EvidencePlan, *, enforces: bool) -> None:
        self._plan, self._enforces = plan, enforces
        self._asked: queue.Queue[EvidenceAnswer] = queue.Queue()
        self._on_their_way: set[tuple[str, bool]] = set()
        self._lock = threading.Lock()
        self._here: list[EvidenceAnswer] = []

    def take(self, answers: Sequence[EvidenceAnswer]) -> list[EvidenceAnswer]:
        """Take in answers; returns those whose files are in place, others follow with ``arrived``."""
        for answer in answers:
            key = answer.name, answer.is_final
            if answer.files and key not in self._on_their_way:
                self._on_their_way.add(key)
                self._asked.put(answer)
        return [answer for answer in answers if not answer.files]

    def arrived(self) -> list[EvidenceAnswer]:
        """Answers whose files have come since the last call, or never will."""
        with self._lock:
            here, self._here = self._here, []
        self._on_their_way -= {(answer.name, answer.is_final) for answer in here}
        return here

    def keep(self) -> None:
        """Fetch and delete for ever; to be called in a thread of its own."""
        looked_at = time.monotonic() - _LOOK_EVERY_S
        while True:
            if self._enforces and time.monotonic() - looked_at >= _LOOK_EVERY_S:
                looked_at = time.monotonic()
                self._enforce()
            try:
                answer = self._asked.get(timeout=1.0)
            except queue.Empty:
                continue
            fetched = self._fetched(answer)
            with self._lock:
                self._here.append(fetched)

    def _enforce(self) -> None:
        settings = self._plan.settings
        gone = enforce(
            self._plan.output,
            time.time(),
            keep_s=settings.keep_days * 86_400.0,
            keep_bytes=round(settings.keep_gb * 1e9),
        )
        if gone:
            _log.info("%s: evidence of %d events was old enough to be deleted", self._plan.output / FOLDER, gone)

    def _fetched(self, answer: EvidenceAnswer) -> EvidenceAnswer:
        """The answer once its files are here, or without them."""
        path = answer.picture or answer.clip
        if path is None:
            return replace(answer, files={})
        try:
            folder = EventPlace.of(path).within(self._plan.output)
            folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            with replace_folder_whole(folder) as staged:
                client = ActorClient(answer.process)
                for name, size in answer.files.items():
                    _fetch(client, answer.name, name, size, staged)
        except (OSError, CflowError) as error:
            reason = (error.strerror if isinstance(error, OSError) else None) or str(error)
            why = f"no picture and no clip of it here: {reason}"
            return replace(answer, picture=None, clip=None, files={}, why=why)
        return replace(answer, files={})


def _fetch(client: ActorClient, event: str, name: str, size: int, folder: Path) -> None:
    """Copy a file in parts.

    Raises:
        OSError: it cannot be written here, or does not come.
    """
    if name not in FILES or size > _MOST_BYTES:
        raise OSError(f"expected one of {', '.join(FILES)}, got {name!r} of {size:,} bytes")
    with (folder / name).open("wb") as file:
        while file.tell() < size:
            file.write(_part(client, event, name, file.tell()))


def _part(client: ActorClient, event: str, name: str, offset: int) -> bytes:
    for _ in range(_TRIES):
        part = client.call("evidence_part", event, name, offset, answer_within_s=_ANSWER_WITHIN_S)
        if part:
            return part
    raise OSError(f"expected all of {name} from the node that has it, got {offset:,} bytes")
