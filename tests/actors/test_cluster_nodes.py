"""Which nodes there are, as a thread that asks the head sees it."""

import logging
import threading

from actors.cluster_nodes import NodeWatch
from pipeline.runtime.nodes import ClusterNode


def test_while_the_head_is_away_the_nodes_are_those_before_which_is_said_once_and_without_credentials(
    caplog, monkeypatch
):
    monkeypatch.setattr("actors.cluster_nodes._LOOK_EVERY_S", 0.001)
    before, after = (ClusterNode("a"),), (ClusterNode("b"),)
    looks, back = [], threading.Event()

    def look():
        looks.append(None)
        if len(looks) == 1:
            return before
        if len(looks) < 6:
            raise ConnectionError("no answer\nfrom redis://user:hunter2@10.0.0.1:6379")
        back.set()
        return after

    caplog.set_level(logging.WARNING)
    watch = NodeWatch(look)
    assert watch.nodes == before
    watch.start()
    assert back.wait(30.0)
    watch.end()
    assert watch.nodes == after
    assert [record.getMessage() for record in caplog.records] == [
        "which nodes the cluster has is not known at present: no answer from redis://***@10.0.0.1:6379"
    ]
