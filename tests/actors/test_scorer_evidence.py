"""A scorer that wants pictures and clips of its events, and dies meanwhile: each is told once."""

from dataclasses import replace

import numpy as np

from actors.scorer import ScorerActor
from pipeline.runtime.evidence import EvidenceAnswer
from pipeline.runtime.messages import DesiredScorerState
from pipeline.sinks.redis_reader import read_alerts
from tests.actors.test_scorer import killed, kinds, plan, predictions  # noqa: F401


def restarted(scorer, plan):  # noqa: F811
    killed(scorer)
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    return scorer


def test_evidence_is_wanted_until_it_is_answered_and_told_once_however_often_the_scorer_dies(plan, redis_url):  # noqa: F811
    scorer = ScorerActor(plan)
    scorer.configure(DesiredScorerState(1, plan.cameras))
    maps = [np.full((2, 3), number, np.float16) for number in range(3)]
    frames = [replace(f, anomaly_map=m) for f, m in zip(predictions("gate", 0, 3), maps, strict=True)]
    assert scorer.add(frames)
    (wanted,) = scorer.report().evidence
    assert (wanted.is_final, wanted.peak_s, wanted.peak_map.tolist()) == (False, 0.0, [[0.0] * 3] * 2)
    scorer = restarted(scorer, plan)
    assert scorer.report().evidence == (wanted,)
    picture = f"events/2026-11-26/gate/{wanted.name}/picture.jpg"
    early = EvidenceAnswer(wanted.name, False, picture)
    scorer.take_evidence((early,))
    assert scorer.report().evidence[0].is_answered
    scorer = restarted(scorer, plan)
    scorer.take_evidence((early,))  # whoever carries it has not heard that it arrived
    scorer.finish(["gate"])
    (wanted,) = scorer.report().evidence
    assert (wanted.is_final, wanted.peak_map.tolist()) == (True, [[0.0] * 3] * 2)
    late = EvidenceAnswer(wanted.name, True, picture, picture.replace("picture.jpg", "clip.mp4"))
    scorer.take_evidence((late,))
    scorer.take_evidence((late,))
    assert scorer.report().evidence == ()
    scorer = restarted(scorer, plan)
    scorer.take_evidence((late,))
    assert scorer.close()[0] == []
    assert kinds(redis_url, "gate") == ["new", "evidence", "end", "evidence"]
    _, first, end, second = [alert for alert in read_alerts(redis_url) if alert["camera_id"] == "gate"]
    assert (first["picture"], first["clip"], end["picture"]) == (picture, None, picture)
    assert (second["picture"], second["clip"]) == (late.picture, late.clip)
