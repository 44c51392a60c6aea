"""Between scorers, which want pictures and clips of events, and camera processes, which have the packets."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace

from actors.actor_monitor import ActorMonitor
from actors.deliveries import Deliveries
from pipeline.runtime.evidence import DesiredEvidence, EvidenceAnswer, EvidenceRequest

_TOPIC = "evidence"
_UNREAD = "no picture and no clip of it: its camera is not read any more"
_HELD_UP_S = 15.0  # a run that is over waits so long for the clips of its last events
_REPORTS_TO_TRUST = 2  # the first may have been asked for before its scorer ended the last events


class EvidenceCourier:
    """Carries requests to camera processes and answers to scorers. It decides nothing but who is asked.

    Both sides report all of it again and again, so whoever dies is told once more by itself.

    Args:
        deliveries: makes the calls.
        reader_of: name of the camera process that is to read a camera; None where there is none.
        node: id of the node with the run's output folder.
        first_number: numbers of what is sent are above it.
    """

    def __init__(
        self, deliveries: Deliveries, reader_of: Callable[[str], str | None], node: str, first_number: int = 0
    ) -> None:
        self._deliveries, self._reader_of, self._node = deliveries, reader_of, node
        self._first_number = self._answers_sent = first_number
        self._wanted: dict[str, tuple[EvidenceRequest, ...]] = {}  # by scorer, also while it is away
        self._asked: dict[str, str] = {}  # who was asked, by the request's name
        self._desired: dict[str, DesiredEvidence] = {}
        self._last_answers: dict[str, tuple[int, tuple[EvidenceAnswer, ...]]] = {}
        self._ends_at: float | None = None
        self._reports: dict[str, tuple[object, int]] = {}  # by scorer, the last report, and how many came since

    def step(self, scorers: Mapping[str, ActorMonitor], processes: Mapping[str, ActorMonitor]) -> None:
        """Take in what they report, and send what has changed. Waits for nobody.

        Args:
            scorers: by name.
            processes: the camera processes by name.
        """
        for name, scorer in scorers.items():
            if scorer.report is not None:
                self._wanted[name] = scorer.report.evidence
        if self._wanted.keys() != scorers.keys():
            return  # of a run that goes on under another supervisor: not all is known yet
        answers = self._ask(processes)
        for name, scorer in scorers.items():
            if scorer.report is not None:
                self._tell(name, scorer, answers)

    def holds_up(self, scorers: Mapping[str, ActorMonitor], now: float, *, done: bool) -> bool:
        """Whether a run whose cameras are all done should go on for the pictures of its last events.

        Args:
            scorers: by name.
            now: monotonic seconds.
            done: whether they are; a run may get others later.
        """
        if not done:
            self._ends_at, self._reports = None, {}
            return False
        if self._ends_at is None:
            self._ends_at = now + _HELD_UP_S
        for name, scorer in scorers.items():
            last, count = self._reports.get(name, (None, -1))
            if scorer.report is not None and scorer.report is not last:
                self._reports[name] = scorer.report, count + 1
        is_known = all(name in self._reports and self._reports[name][1] >= _REPORTS_TO_TRUST for name in scorers)
        return now < self._ends_at and (not is_known or any(self._wanted.values()))

    def _ask(self, processes: Mapping[str, ActorMonitor]) -> dict[str, EvidenceAnswer]:
        """Have each process know what is wanted of it; what was answered so far, by the request's name."""
        wanted = [request for requests in self._wanted.values() for request in requests]
        self._asked = {request.name: self._asked.get(request.name, "") for request in wanted}
        by_process: dict[str, list[EvidenceRequest]] = {name: [] for name in processes}
        answers: dict[str, EvidenceAnswer] = {}
        for request in wanted:
            process = self._process_for(request, processes)
            if process is not None:
                by_process[process].append(request)
            elif request.is_final:
                answers[request.name] = EvidenceAnswer(request.name, is_final=True, why=_UNREAD)
        self._desired = {name: desired for name, desired in self._desired.items() if name in processes}
        for name, process in processes.items():
            desired = self._newest(name, by_process[name])
            if process.report is None:
                continue
            there = process.report.evidence
            if there.number != desired.number and (there.number or desired.requests):
                self._send(name, desired.number, process, "want_evidence", desired)
            answers |= {answer.name: replace(answer, process=name) for answer in there.answers}
        return answers

    def _process_for(self, request: EvidenceRequest, processes: Mapping[str, ActorMonitor]) -> str | None:
        """Who has the packets: whoever was asked first; else who reads the camera, or did until a moment ago."""
        before = self._asked[request.name]
        if before not in processes:
            camera_id = request.event.camera_id
            before = self._reader_of(camera_id) or next(_readers(camera_id, processes), "")
        self._asked[request.name] = before
        return before if before in processes else None

    def _newest(self, name: str, requests: Sequence[EvidenceRequest]) -> DesiredEvidence:
        before = self._desired.get(name) or DesiredEvidence(self._first_number, (), self._node)
        wanted = tuple(requests)
        if wanted != before.requests:
            before = replace(before, number=before.number + 1, requests=wanted)
        self._desired[name] = before
        return before

    def _tell(self, name: str, scorer: ActorMonitor, answers: Mapping[str, EvidenceAnswer]) -> None:
        """Answer what a scorer still wants to know."""
        open_requests = [request for request in self._wanted[name] if not request.is_answered]
        told = tuple(
            answer
            for request in open_requests
            if (answer := answers.get(request.name)) is not None and answer.is_final == request.is_final
        )
        if not told:
            return
        number, before = self._last_answers.get(name, (0, ()))
        if told != before:
            self._answers_sent += 1
            number = self._answers_sent
            self._last_answers[name] = number, told
        self._send(name, number, scorer, "take_evidence", told)

    def _send(self, name: str, number: int, actor: ActorMonitor, method: str, what: object) -> None:
        self._deliveries.send(name, number, lambda: actor.call(method, what), topic=_TOPIC)


def _readers(camera_id: str, processes: Mapping[str, ActorMonitor]) -> Iterator[str]:
    for name, process in processes.items():
        if process.report is not None and camera_id in process.report.readers:
            yield name
