"""Nothing is lost and nothing doubled, whatever happens to Redis, to the disk or to the process that writes."""

import json
import random
import shutil
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from pipeline.sinks.parquet import ParquetSink, staging_folder
from pipeline.sinks.parquet_reader import read_clip_scores
from pipeline.sinks.redis_reader import read_alerts, read_scores
from pipeline.sinks.run_store import RunStore
from tests.faults.small_scorer import CAMERAS, PER_ADD, STEPS
from tests.sinks.made import SinkWithStore, alert, as_killed, score, wait_until

ROOT = Path(__file__).parents[2]


@pytest.fixture
def sink(server, tmp_path):
    """A sink with a store that has delivered one alert and one score."""
    running = SinkWithStore(server.url, tmp_path / "store")
    running.write([score(0)], [alert(0)])
    assert running.flush()
    yield running
    running.close(timeout_s=0.0)


def numbers(url, camera_id="gate") -> list[int]:
    return [entry["peak_index"] for entry in read_alerts(url) if entry["camera_id"] == camera_id]


def indices(url, camera_id="gate") -> list[int]:
    return [entry["index"] for entry in read_scores(url, camera_id, count=100_000)]


# Redis.


def full(server, admin):
    admin.config_set("maxmemory", "1")
    return lambda: admin.config_set("maxmemory", "0")


def read_only(server, admin):
    admin.execute_command("REPLICAOF", "127.0.0.1", "1")
    return lambda: admin.execute_command("REPLICAOF", "NO", "ONE")


def unable_to_save(server, admin):
    in_the_way = server.folder / "dump.rdb"
    in_the_way.mkdir()
    admin.config_set("save", "3600 1")
    admin.bgsave()
    wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "err")

    def mend():
        in_the_way.rmdir()
        admin.bgsave()
        wait_until(lambda: admin.info("persistence")["rdb_last_bgsave_status"] == "ok")

    return mend


def locked_by_a_new_password(server, admin):
    admin.config_set("requirepass", "hunter2")
    admin.execute_command("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
    return lambda: admin.config_set("requirepass", "")


def gone(server, admin):
    server.kill()
    return server.start


def frozen(server, admin):
    server.freeze()
    return server.thaw


def slow(server, admin):
    admin.execute_command("CLIENT", "PAUSE", "3000")
    return lambda: None


def loading(server, admin):
    admin.config_set("rdbcompression", "no")
    with admin.pipeline(transaction=False) as pipe:
        for i in range(20_000):  # 20 MB: while it loads, it answers its clients every 2 MB
            pipe.set(f"load:{i}", "x" * 1000)
        pipe.execute()
    admin.bgrewriteaof()  # only what was rewritten is loaded slowly
    wait_until(lambda: not admin.info("persistence")["aof_rewrite_in_progress"])
    server.kill()
    server.options = ("--key-load-delay", "100")
    server.start(until_it_answers=False)
    return lambda: wait_until(server.answers)


@pytest.mark.parametrize(
    ("fault", "said"),
    [
        (full, "Redis refuses: command not allowed when used memory > 'maxmemory'"),
        (read_only, "Redis refuses: You can't write against a read only replica"),
        (unable_to_save, "Redis refuses: MISCONF"),
        (locked_by_a_new_password, "Redis refuses the password"),
        (gone, "nobody answers there"),
        (frozen, "no answer from Redis in time"),
        (slow, "no answer from Redis in time"),
        (loading, "Redis is still loading its data"),
    ],
    ids=lambda value: value.__name__ if callable(value) else "",
)
def test_redis_in_trouble_delays_alerts_and_scores_and_neither_loses_doubles_nor_blocks(
    server, sink, caplog, fault, said
):
    admin = server.client()
    admin.ping()
    mend = fault(server, admin)
    longest_s = 0.0
    for i in range(1, 150):
        started = time.monotonic()
        sink.write([score(i)], [alert(i)])
        longest_s = max(longest_s, time.monotonic() - started)
    wait_until(lambda: said in str(sink.trouble))
    assert longest_s < 0.5
    if fault not in (slow, loading):  # which pass by themselves
        assert not sink.flush(1.0)  # some more attempts
    mend()
    assert sink.flush(20.0)
    assert numbers(server.url) == indices(server.url) == list(range(150))
    wait_until(lambda: sink.trouble is None)
    assert caplog.text.count(said) == 1
    assert "hunter2" not in caplog.text
    assert sink.unwritten() == []


def test_a_redis_that_comes_back_empty_gets_what_waits_and_ids_go_on(server, sink):
    (before,) = (entry["id"] for entry in read_alerts(server.url))
    server.kill()
    sink.write([score(i) for i in range(1, 10)], [alert(i) for i in range(1, 10)])
    wait_until(lambda: sink.trouble)
    for log in server.folder.glob("appendonly*"):  # a folder of Redis 7, a file of Redis 6
        shutil.rmtree(log) if log.is_dir() else log.unlink()
    server.start()
    assert sink.flush()
    assert numbers(server.url) == indices(server.url) == list(range(1, 10))
    order = [tuple(map(int, entry["id"].split("-"))) for entry in read_alerts(server.url)]
    assert order == sorted(order)
    assert order[0] > tuple(map(int, before.split("-")))


@pytest.mark.parametrize("fault", [gone, frozen], ids=["gone", "frozen"])
def test_alerts_that_redis_did_not_take_before_the_end_are_delivered_first_by_the_next_run(
    server, sink, tmp_path, caplog, fault
):
    mend = fault(server, server.client())
    sink.write([], [alert(i) for i in range(1, 150)])
    started = time.monotonic()
    sink.close()
    assert time.monotonic() - started < 15.0
    assert "149 alerts were not delivered" in caplog.text
    assert "the next run delivers them" in sink.unwritten()[0]
    mend()
    following = SinkWithStore(server.url, tmp_path / "store", run="the next")
    following.write([], [alert(150)])
    following.close()
    assert numbers(server.url) == list(range(151))
    stats = following.stats()
    assert (stats.alerts_carried_over, stats.alerts_emitted, stats.alerts_delivered) == (149, 1, 150)


# Disk.


def test_on_a_full_disk_rows_are_counted_as_lost_and_writing_resumes_by_itself(disk, caplog):
    root = disk.folder / "scores"
    now = [0.0]
    sink = ParquetSink(root, maps=True, rotate_s=10.0, now=lambda: now[0])
    batches = [[score(50 * k + i, map_shape=(16, 16)) for i in range(50)] for k in range(6)]
    sink.write(batches[0])
    now[0] = 10.0
    sink.write(batches[1])
    closed = read_clip_scores(root)["gate"].index.tolist()
    assert sink.trouble is None
    disk.fill()
    for batch in batches[2:4]:
        sink.write(batch)
    assert "No space left on device" in str(sink.trouble)
    assert read_clip_scores(root)["gate"].index.tolist() == closed == list(range(50))
    now[0] = 20.0
    sink.write([])  # no room for files either
    assert read_clip_scores(root)["gate"].index.tolist() == closed
    assert [path.suffix for path in staging_folder(root).iterdir()] == [".arrows"]
    disk.free()
    now[0] = 30.0
    for batch in batches[4:]:
        sink.write(batch)
    assert sink.trouble is None
    sink.close()
    kept = read_clip_scores(root)["gate"].index.tolist()
    lost = sorted(set(range(300)) - set(kept))
    assert kept == sorted(set(kept))
    assert set(range(100)) | set(range(200, 300)) <= set(kept)
    assert sink.unwritten() == [
        f"Parquet: {len(lost)} rows could not be written to {root} ([Errno 28] No space left on device)"
    ]
    assert caplog.text.count("No space left on device") == 1


def test_on_a_read_only_disk_scoring_goes_on_and_writing_resumes_by_itself(disk, monkeypatch):
    root = disk.folder / "scores"
    monkeypatch.chdir("/")
    sink = ParquetSink(root, maps=False, rotate_s=1e9)
    disk.remount("ro")
    sink.write([score(i) for i in range(10)])
    assert "Read-only file system" in str(sink.trouble)
    disk.remount("rw")
    sink.write([score(i) for i in range(10, 20)])
    assert sink.trouble is None
    sink.close()
    assert read_clip_scores(root)["gate"].index.tolist() == list(range(10, 20))
    assert "10 rows could not be written" in sink.unwritten()[0]


def test_a_store_on_a_full_disk_goes_on_from_memory_and_writes_all_of_it_when_there_is_room(disk, tmp_path, caplog):
    path = disk.folder / "run.sqlite"
    store = RunStore(path, "run", ["redis", "webhook"])
    store.commit({"gate": "1"}, [alert(0)])
    disk.fill()
    for i in range(1, 300):
        store.commit({"gate": "x" * 1000 + str(i), f"camera-{i % 50}": "x" * 1000}, [alert(i)])
    assert "full" in (store.trouble or "")
    assert store.alerts("redis").counts.emitted == store.alerts("redis").counts.waiting == 300
    entries = store.alerts("redis").take()  # Redis is well meanwhile
    store.alerts("redis").keep_receipts({entry.serial: "receipt" for entry in entries}, "mark")
    store.alerts("redis").ack(entries)
    disk.free()
    wait_until(lambda: store.commit({"gate": "last"}, []) or store.trouble is None)
    assert caplog.text.count("database or disk is full") == 1
    again = RunStore(as_killed(path, tmp_path / "killed"), "run", ["redis", "webhook"])
    assert again.states() == store.states()
    assert again.states()["gate"] == "last"
    for sink in ("redis", "webhook"):
        assert again.alerts(sink).counts == store.alerts(sink).counts
        assert again.alerts(sink).take() == store.alerts(sink).take()
    store.close()


def test_a_scorer_that_starts_anew_on_a_read_only_disk_remembers_everything(disk, tmp_path):
    path = disk.folder / "run.sqlite"
    store = RunStore(path, "run", ["redis"])
    store.commit({"gate": "1"}, [alert(0)])
    left = as_killed(path, tmp_path / "killed").parent
    store.close()
    shutil.copytree(left, disk.folder / "left")
    disk.remount("ro")
    again = RunStore(disk.folder / "left" / "run.sqlite", "run", ["redis"])
    assert again.states() == {"gate": "1"}
    assert again.alerts("redis").counts.waiting == 1
    assert again.trouble is not None
    again.commit({"gate": "2"}, [])
    disk.remount("rw")
    wait_until(lambda: again.commit({"gate": "3"}, []) or again.trouble is None)
    again.close()
    assert RunStore(disk.folder / "left" / "run.sqlite", "run", ["redis"]).states() == {"gate": "3"}


def test_a_first_start_on_a_full_disk_goes_on_from_memory(disk):
    disk.fill()
    store = RunStore(disk.folder / "run.sqlite", "run", ["redis"])
    store.commit({"gate": "1"}, [alert(0)])
    assert store.trouble is not None
    assert len(store.alerts("redis").take()) == 1
    disk.free()
    wait_until(lambda: store.commit({}, []) or store.trouble is None)
    store.close()
    assert RunStore(disk.folder / "run.sqlite", "run", ["redis"]).states() == {"gate": "1"}


# The process that writes.


class Detector:
    """Sends adds in order, each again until it is acknowledged, to a scorer that is started again when it dies."""

    def __init__(self, folder: Path, url: str, deaths: list[str]) -> None:
        self.folder, self.url, self.deaths = folder, url, deaths
        self.died = 0
        self.scorer = self._start()

    def _start(self) -> subprocess.Popen:
        die_at = self.deaths.pop(0) if self.deaths else "-"
        return subprocess.Popen(
            [sys.executable, "-m", "tests.faults.small_scorer", str(self.folder), self.url, die_at],
            cwd=ROOT,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )

    def _ask(self, text: str) -> str:
        """The answer, or "" from a scorer that died over it."""
        assert self.scorer.stdin is not None
        assert self.scorer.stdout is not None
        try:
            self.scorer.stdin.write(text)
            self.scorer.stdin.flush()
        except BrokenPipeError:
            return ""
        return self.scorer.stdout.readline()

    def _replace(self) -> None:
        self.scorer.wait(10)
        self.died += 1
        self.scorer = self._start()

    def send(self, number: int) -> None:
        while self._ask(f"{number}\n") == "":
            self._replace()

    def finish(self) -> list[int]:
        """End the run in good order; the scorer's counts: emitted, delivered, dropped, waiting."""
        while True:
            assert self.scorer.stdin is not None
            assert self.scorer.stdout is not None
            self.scorer.stdin.close()
            if counts := self.scorer.stdout.read():
                assert self.scorer.wait(20) == 0
                return json.loads(counts)
            self._replace()


def check_everything_is_there_once(detector: Detector, adds: int) -> None:
    emitted = 2 * adds * PER_ADD // 5
    assert detector.finish() == [emitted, emitted, 0, 0]
    for camera_id in CAMERAS:
        assert numbers(detector.url, camera_id) == list(range(emitted // 2))
        assert read_clip_scores(detector.folder / "scores")[camera_id].index.tolist() == list(range(PER_ADD * adds))
        in_redis = indices(detector.url, camera_id)
        assert in_redis == sorted(set(in_redis))  # what waited in memory is lost, and is in Parquet
    order = [entry["emitted_at_s"] for entry in read_alerts(detector.url)]
    assert order == sorted(order)
    assert not staging_folder(detector.folder / "scores").exists()


DEATHS = [[f"{step}:2"] for step in STEPS] + [
    ["journaled:3", "file written:1"],  # while what it left is being replayed
    ["journaled:1", "journaled:1", "committed:1"],
    ["ids chosen:1", "sent:1", "sent:2"],
]


@pytest.mark.parametrize("deaths", DEATHS, ids=lambda deaths: ", then ".join(deaths).replace(":", " "))
def test_a_scorer_killed_after_any_step_loses_and_doubles_nothing(server, tmp_path, deaths):
    expected = len(deaths)
    detector = Detector(tmp_path / "run", server.url, list(deaths))
    for number in range(5):
        detector.send(number)
    check_everything_is_there_once(detector, 5)
    assert detector.died == expected


def test_scorer_and_redis_killed_again_and_again_at_any_moment_lose_and_double_nothing(server, tmp_path):
    chaos = random.Random(0)
    detector = Detector(tmp_path / "run", server.url, [])
    done = threading.Event()

    def kill_now_and_then() -> None:
        for _ in range(4):
            if done.wait(chaos.uniform(0.5, 1.2)):
                return
            detector.scorer.kill()
            if done.wait(chaos.uniform(0.0, 0.7)):
                return
            server.kill()
            server.start()

    killer = threading.Thread(target=kill_now_and_then)
    killer.start()
    number = 0
    while killer.is_alive() or number < 20:
        detector.send(number)
        number += 1
    done.set()
    killer.join()
    check_everything_is_there_once(detector, number)
    assert detector.died >= 2
