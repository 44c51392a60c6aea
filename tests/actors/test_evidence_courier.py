"""Who is asked for pictures and clips of events, and who is told, whoever dies meanwhile; without Ray."""

from dataclasses import replace

import pytest

from actors.deliveries import Deliveries
from actors.evidence_courier import EvidenceCourier
from pipeline.alerts import Event
from pipeline.runtime.evidence import EvidenceAnswer, EvidenceReport, EvidenceRequest
from pipeline.runtime.messages import CameraReport, ScorerReport
from tests.actors.in_process import Actor


class Camera(Actor):
    """Answers what is put into ``answers``."""

    def __init__(self):
        super().__init__()
        self.number, self.requests, self.answers, self.readers = 0, (), (), {}

    def die(self):
        super().die()
        self.number, self.requests, self.answers = 0, (), ()

    def stands(self):
        return CameraReport(0, self.readers, evidence=EvidenceReport(self.number, self.answers))

    def want_evidence(self, desired):
        self.number, self.requests, self.node = desired.number, desired.requests, desired.node


class Scorer(Actor):
    """Wants what is put into ``wanted``."""

    def __init__(self):
        super().__init__()
        self.wanted, self.told = (), []

    def stands(self):
        return ScorerReport(0, 0, {}, evidence=self.wanted)

    def take_evidence(self, answers):
        self.told += answers


def request(camera, *, final=False, number=0):
    event = Event(f"{camera}-{number}", camera, 0, 1.0, None, 1.0, 6.0, 1.0, 5, 5.0)
    return EvidenceRequest(event, 1.0, 1.0, is_final=final)


class Run:
    def __init__(self, first_number=0):
        self.scorers = {"s0": Scorer(), "s1": Scorer()}
        self.cameras = {"c0": Camera(), "c1": Camera()}
        self.readers = {"gate": "c0", "yard": "c1"}
        self.deliveries = Deliveries()
        self.take_over(first_number)

    def take_over(self, first_number):
        self.courier = EvidenceCourier(self.deliveries, self.readers.get, "state", first_number)

    def step(self, times=1):
        for _ in range(times):
            for actor in (*self.scorers.values(), *self.cameras.values()):
                actor.collect(0.0)
            self.courier.step(self.scorers, self.cameras)


@pytest.fixture
def run():
    return Run()


def test_requests_go_to_whoever_reads_the_camera_and_answers_to_the_scorer_that_asked(run):
    gate, yard = request("gate"), request("yard", final=True)
    run.scorers["s0"].wanted, run.scorers["s1"].wanted = (gate,), (yard,)
    run.step(3)
    assert (run.cameras["c0"].requests, run.cameras["c1"].requests) == ((gate,), (yard,))
    assert run.cameras["c0"].node == "state"
    assert [len(camera.called("want_evidence")) for camera in run.cameras.values()] == [1, 1]  # only what is new
    answer = EvidenceAnswer(yard.name, True, "events/p.jpg")
    run.cameras["c1"].answers = (answer,)
    run.step()
    assert (run.scorers["s0"].told, run.scorers["s1"].told) == ([], [replace(answer, process="c1")])
    run.scorers["s1"].wanted = ()
    run.step(2)
    assert (run.cameras["c1"].requests, len(run.scorers["s1"].told)) == ((), 1)


def test_an_answer_is_repeated_until_its_scorer_wants_it_no_more_and_an_old_one_is_not_taken_for_a_new_one(run):
    run.scorers["s0"].wanted = (request("gate"),)
    run.step()
    run.cameras["c0"].answers = (EvidenceAnswer("gate-0", False, "events/p.jpg"),)
    run.step(3)
    assert len(run.scorers["s0"].told) == 3
    run.scorers["s0"].wanted = (replace(request("gate"), is_answered=True),)
    run.step(2)
    assert len(run.scorers["s0"].told) == 3
    run.scorers["s0"].wanted = (request("gate", final=True),)
    run.step(2)
    assert len(run.scorers["s0"].told) == 3


def test_whoever_is_started_again_is_told_once_more_and_nothing_is_dropped_while_a_scorer_is_away(run):
    wanted = (request("gate"),)
    run.scorers["s0"].wanted = wanted
    run.step()
    run.scorers["s0"].die()
    run.step(3)
    assert run.cameras["c0"].requests == wanted
    run.cameras["c0"].die()
    run.step()
    run.cameras["c0"].come_back()
    run.step(2)
    assert run.cameras["c0"].requests == wanted


def test_another_supervisor_takes_over_without_telling_anybody_to_stop(run):
    wanted = (request("gate"),)
    run.scorers["s0"].wanted = wanted
    run.step()
    run.scorers["s1"].die()
    run.take_over(1000)
    run.step(2)
    assert run.cameras["c0"].number == 1  # not all scorers were heard
    run.scorers["s1"].come_back()
    run.step()
    assert (run.cameras["c0"].number, run.cameras["c0"].requests) == (1001, wanted)
    assert run.cameras["c1"].called("want_evidence") == []


def test_a_camera_that_moves_is_asked_for_where_its_packets_are_and_one_that_is_gone_is_answered_for(run):
    run.scorers["s0"].wanted = (request("gate"),)
    run.step()
    run.readers["gate"] = "c1"
    run.scorers["s0"].wanted = (request("gate", final=True), request("gate", number=1))
    run.step()
    assert [r.name for r in run.cameras["c0"].requests] == ["gate-0"]
    assert [r.name for r in run.cameras["c1"].requests] == ["gate-1"]
    del run.readers["gate"]
    run.cameras["c1"].readers = {"gate": None}  # it has read it until a moment ago
    run.scorers["s0"].wanted = (request("gate", final=True, number=2), request("attic", final=True))
    run.step()
    assert [r.name for r in run.cameras["c1"].requests] == ["gate-2"]
    (answer,) = run.scorers["s0"].told
    assert answer.why == "no picture and no clip of it: its camera is not read any more"


def test_a_run_that_is_over_waits_for_its_last_clips_but_not_for_ever(run):
    def holds_up(now, done=True):
        run.step()
        return run.courier.holds_up(run.scorers, now, done=done)

    assert not holds_up(0.0, done=False)
    assert [holds_up(now) for now in (1.0, 1.2, 1.4, 1.6)] == [True, True, False, False]  # reports that are new enough
    run.scorers["s0"].wanted = (request("gate", final=True),)
    assert [holds_up(now) for now in (2.0, 15.9, 16.0)] == [True, True, False]
    assert not holds_up(17.0, done=False)
    assert holds_up(18.0)
