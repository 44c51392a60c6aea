"""A Cluster, or a master that Sentinels watch, is a run's Redis: nothing is lost or comes twice, whoever dies."""

import signal
import threading
import time

import pytest
import redis

from pipeline.errors import RedisError
from pipeline.sinks.redis_client import check_redis
from pipeline.sinks.redis_probe import probe_redis
from pipeline.sinks.redis_reader import read_alerts, read_scores, read_statuses
from pipeline.sinks.redis_servers import RedisServers
from pipeline.sinks.run_status import RunStatusWriter, living_run, read_run
from pipeline.sinks.schema import ALERTS_KEY, scores_key
from tests.checks.test_machine import COMMANDS
from tests.sinks.made import alert, score, wait_until
from tests.sinks.redis_topologies import cluster, cluster_url, holder, sentinel
from tests.sinks.test_redis_reader import Follower
from tests.tcp_proxy import TcpProxy

pytestmark = [pytest.mark.server, pytest.mark.redis]

CAMERAS = ("gate", "yard", "hall", "dock")


@pytest.fixture(scope="module")
def nodes():
    with cluster() as running:
        yield running


@pytest.fixture(params=["a Cluster's address", "that of one server, which is a node"])
def url(request, nodes):
    for node in nodes:
        node.client().flushall()
    return cluster_url(nodes) if "Cluster" in request.param else f"redis://127.0.0.1:{nodes[0].port}"


def indices(url, camera_id="gate") -> list[int]:
    return [entry["index"] for entry in read_scores(url, camera_id, count=100_000)]


def numbers(url) -> list[int]:
    return [entry["peak_index"] for entry in read_alerts(url)]


def test_a_cluster_takes_scores_and_alerts_wherever_their_keys_lie(nodes, url, sink_of, caplog):
    assert len({holder(nodes, scores_key(camera_id)).port for camera_id in CAMERAS}) == len(nodes)
    for node in nodes:
        node.client().config_resetstat()
    follower = Follower(url)
    sink = sink_of(url)
    for number in range(120):
        sink.write([score(number, camera_id=camera_id) for camera_id in CAMERAS], [alert(number)])
    assert sink.flush()
    wait_until(lambda: len(follower.seen) == 120)
    follower.end()
    assert follower.seen == list(range(120))
    assert all(indices(url, camera_id) == list(range(120)) for camera_id in CAMERAS)
    assert caplog.text == ""
    # No node has a replica, and none is kept waiting for one.
    assert all("cmdstat_wait" not in node.client().info("commandstats") for node in nodes)


def test_a_cluster_tells_how_a_run_and_its_cameras_stand(url):
    assert read_run(url) is None
    with RunStatusWriter(url, "run-1") as told:
        wait_until(lambda: living_run(url) is not None)
        told.write("running", {"decoded": 1}, {"gate": {"camera_id": "gate"}})
        wait_until(lambda: read_statuses(url) == {"gate": {"camera_id": "gate"}})
        assert read_run(url)["is_alive"]
    assert (read_run(url)["state"], read_run(url)["is_alive"]) == ("ended", False)


def test_a_cluster_is_tried_and_nothing_is_left_there(nodes, url):
    assert probe_redis(url) < 1.0
    assert [node.client().keys() for node in nodes] == [[], []]


def test_keys_are_followed_on_their_way_to_another_node_and_there(nodes, sink_of, caplog):
    for node in nodes:
        node.client().flushall()
    url = cluster_url(nodes[:1])
    sink, follower = sink_of(url), Follower(url)
    sink.write([], [alert(0)])
    wait_until(lambda: follower.seen == [0])
    source = holder(nodes, ALERTS_KEY)
    target = nodes[nodes.index(source) - 1]
    servers = RedisServers(url)
    slot = source.client().execute_command("CLUSTER KEYSLOT", ALERTS_KEY)
    ids = {node: node.client().execute_command("CLUSTER MYID") for node in nodes}
    target.client().execute_command("CLUSTER SETSLOT", slot, "IMPORTING", ids[source])
    source.client().execute_command("CLUSTER SETSLOT", slot, "MIGRATING", ids[target])
    source.client().migrate("127.0.0.1", target.port, ALERTS_KEY, 0, 5000)
    for number in (1, 2):  # half way: one node has the slot, the other has the key
        sink.write([], [alert(number)])
        assert sink.flush()
    wait_until(lambda: follower.seen == [0, 1, 2])
    assert servers.transact([(ALERTS_KEY, lambda pipe: pipe.xlen(ALERTS_KEY))]) == [3]
    assert holder(nodes, ALERTS_KEY) is source
    for node in (target, source):
        node.client().execute_command("CLUSTER SETSLOT", slot, "NODE", ids[target])
    sink.write([], [alert(3)])
    assert sink.flush()
    wait_until(lambda: follower.seen == [0, 1, 2, 3])
    follower.end()
    assert servers.call(lambda: servers.holder(ALERTS_KEY).xlen(ALERTS_KEY)) == 4
    assert caplog.text == ""
    servers.close()


@pytest.mark.parametrize(
    ("endpoints", "name"),
    [("unknown-endpoint", ""), ("hostname", ""), ("hostname", "localhost")],
    ids=["of no host", "of hosts without a name", "of names"],
)
def test_a_cluster_that_tells_of_its_nodes_otherwise_than_by_their_ip_is_found(nodes, sink_of, endpoints, name):
    if "cluster-preferred-endpoint-type" not in nodes[0].client().config_get("cluster-*"):
        pytest.skip("Redis 7 or later")
    for node in nodes:
        node.client().flushall()
        node.client().config_set("cluster-announce-hostname", name)
        node.client().config_set("cluster-preferred-endpoint-type", endpoints)
    try:
        wait_until(lambda: all(hosts(node) == {name or {"hostname": "?"}.get(endpoints)} for node in nodes))
        for url in (cluster_url(nodes[:1]), f"redis://127.0.0.1:{nodes[1].port}"):
            sink = sink_of(url)
            sink.write([score(0, camera_id=camera_id) for camera_id in CAMERAS], [alert(0)])
            assert sink.flush()
            assert [indices(url, camera_id) for camera_id in CAMERAS] == [[0]] * len(CAMERAS)
    finally:
        for node in nodes:
            node.client().config_set("cluster-preferred-endpoint-type", "ip")


def hosts(node) -> set[str | None]:
    return {master[0] for _, _, master, *_ in node.client().execute_command("CLUSTER SLOTS")}


def test_which_node_of_a_cluster_does_not_answer_is_said(nodes):
    silent = holder(nodes, ALERTS_KEY)
    other = nodes[nodes.index(silent) - 1]
    silent.send(signal.SIGSTOP)
    try:
        with pytest.raises(RedisError, match=rf"no answer from Redis in time \(.*127\.0\.0\.1:{silent.port}\)"):
            check_redis(cluster_url([other]), timeout_s=0.2)
    finally:
        silent.send(signal.SIGCONT)
        for node in nodes:
            wait_until(lambda node=node: node.client().cluster("INFO")["cluster_state"] == "ok")


def test_a_user_who_may_not_ask_a_cluster_for_its_nodes_is_told_so(nodes):
    url = f"redis+cluster://run:hunter2@127.0.0.1:{nodes[0].port}"
    for node in nodes:
        may = [f"+{command}" for command in COMMANDS]
        node.client().execute_command("ACL", "SETUSER", "run", "on", ">hunter2", "~cflow:*", *may, "+wait")
    with pytest.raises(RedisError, match=r"'cluster.*docs/operations.md") as caught:
        check_redis(url)
    assert "hunter2" not in str(caught.value)
    for node in nodes:
        node.client().execute_command("ACL", "SETUSER", "run", "+cluster|slots")
    probe_redis(url)


def test_a_server_that_refuses_to_tell_of_its_replicas_gets_everything_once_all_the_same(nodes, sink_of):
    for node in nodes:
        node.client().flushall()
        node.client().execute_command("ACL", "SETUSER", "run", "on", ">hunter2", "~cflow:*", "+@all", "-wait")
    sink = sink_of(f"redis+cluster://run:hunter2@127.0.0.1:{nodes[0].port}")
    for number in range(3):
        sink.write([score(number)], [alert(number)])
        assert sink.flush()
    assert numbers(cluster_url(nodes)) == indices(cluster_url(nodes)) == [0, 1, 2]


def written_while(sink, happens) -> int:
    """How many alerts and scores were written, one after the other, before, while and after something happened."""
    count, over = 0, threading.Event()
    thread = threading.Thread(target=lambda: (happens(), over.set()), daemon=True)
    while not (over.is_set() and count % 50 == 0):
        sink.write([score(count)], [alert(count)])
        count += 1
        if count == 50:
            assert sink.flush()
            thread.start()
        time.sleep(0.002)
    thread.join()
    return count


def is_master(node) -> bool:
    try:
        return node.client().role()[0] == "master"
    except redis.RedisError:
        return False


def test_a_replica_that_sentinels_make_the_master_gets_all_that_is_left_and_nothing_twice(sink_of):
    with sentinel() as (url, (master, replica)):
        sink, follower = sink_of(url), Follower(url)

        def fail_over():
            master.kill()
            wait_until(lambda: is_master(replica))

        total = written_while(sink, fail_over)
        assert sink.flush(20.0)
        here = f"redis://127.0.0.1:{replica.port}"
        assert numbers(here) == indices(here) == list(range(total))
        wait_until(lambda: len(follower.seen) == total)
        follower.end()
        assert follower.seen == list(range(total))
        assert sink.unwritten() == []


def test_a_master_that_froze_and_goes_on_after_its_replica_took_over_is_not_believed(sink_of):
    with sentinel() as (url, (master, replica)):
        sink = sink_of(url)

        def fail_over():
            master.send(signal.SIGSTOP)
            wait_until(lambda: is_master(replica))

        total = written_while(sink, fail_over)
        master.send(signal.SIGCONT)  # it does what it was sent before
        assert sink.flush(20.0)
        here = f"redis://127.0.0.1:{replica.port}"
        assert numbers(here) == indices(here) == list(range(total))


def test_a_name_that_leads_to_the_new_master_is_looked_up_anew_where_the_old_one_only_may_be_read(sink_of, caplog):
    with sentinel() as (_, (master, replica)), TcpProxy(replica.port) as proxy:
        sink = sink_of(f"redis://127.0.0.1:{proxy.port}")
        sink.write([score(0)], [alert(0)])
        wait_until(lambda: "it is a replica; name its master" in caplog.text)
        proxy.target_port = master.port
        assert sink.flush()
        here = f"redis://127.0.0.1:{master.port}"
        assert numbers(here) == indices(here) == [0]


def test_a_replica_that_takes_over_in_a_cluster_gets_all_that_is_left_and_nothing_twice(sink_of):
    with cluster(3, replica_of=ALERTS_KEY) as nodes:
        url, master, replica = cluster_url(nodes), holder(nodes, ALERTS_KEY), nodes[-1]
        sink, follower = sink_of(url), Follower(url)

        def fail_over():
            master.kill()
            wait_until(lambda: is_master(replica))

        total = written_while(sink, fail_over)
        assert sink.flush(20.0)
        assert numbers(url) == indices(url) == list(range(total))
        wait_until(lambda: len(follower.seen) == total)
        follower.end()
        assert follower.seen == list(range(total))


def test_a_sentinel_wants_its_own_password_and_a_name_that_it_knows(caplog):
    with sentinel("hunter2") as (url, (master, _)):
        check_redis(f"{url}?sentinel_password=hunter2")
        for wrong, said in (
            (url, "the Sentinels refuse ?sentinel_password="),
            (f"{url}?sentinel_password=hunter3", "the Sentinels refuse ?sentinel_password="),
            (f"{url}?sentinel_password=hunter2".replace("mymaster", "other"), "know no living master of the name"),
            (url.replace("/mymaster/0", ""), "with the name under which the Sentinels watch the master"),
            (url.replace("/mymaster/0", "/mymaster/x"), "got something else"),
        ):
            with pytest.raises(RedisError, match="redis") as caught:
                check_redis(wrong)
            assert said in str(caught.value)
            assert "hunter" not in str(caught.value)
        master.send(signal.SIGSTOP)
        with pytest.raises(RedisError, match=rf"no answer from Redis in time \(.*127\.0\.0\.1:{master.port}\)"):
            check_redis(f"{url}?sentinel_password=hunter2", timeout_s=0.2)
