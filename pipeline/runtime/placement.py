"""Which process, on which node, reads which camera."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pipeline.runtime.assignment import PlacedProcess, SavedPlacement, split_cameras
from pipeline.runtime.nodes import ClusterNode, nodes_for

_GONE_AFTER_S = 5.0  # a camera process on a living node is back within three
_MOVES_AT_ONCE = 4  # where nothing hurries: each is a second without frames of that camera
_IN_FLIGHT_FOR_S = 3.0  # how long a camera that moves waits for the results of its last frames


@dataclass(slots=True)
class _Move:
    to: str
    begun: bool = False
    released_at: float | None = None


class CameraPlacement:
    """Places cameras in processes and processes on nodes, and moves them as nodes come, are to leave and are lost.

    A process stays on its node as long as there is that node. Cameras are spread over the nodes for ``decode`` in
    proportion to their CPUs. A camera stays where it is, except:

    - its process is dead for 5 s, or its node is gone: it is read elsewhere at once;
    - its node is about to leave, or is for something else now: it moves;
    - a node has so many more than another that a move evens them out, or there are fewer processes than detectors:
      a few move at a time.

    A camera that *moves* is first read on, until the process that it goes to is there; then it is read by nobody until
    the one that it leaves has released it and the results of its last frames are known. So no two readers meet at a
    camera, and its frames stay in order. Files, which would be read again from their start, do not move.

    Args:
        run: name of the run; names of processes begin with it.
        cameras_per_process: cameras in one process.
        max_processes: upper limit of processes on a node, which then hold as many cameras as they must; None is none.
    """

    def __init__(self, run: str, cameras_per_process: int, max_processes: int | None = None) -> None:
        self._run, self._per_process, self._max_processes = run, cameras_per_process, max_processes
        self._homes: dict[str, str] = {}
        self._processes_so_far = 0
        self._placed: dict[str, str] = {}
        self._moves: dict[str, _Move] = {}
        self._away: set[str] = set()
        self._hosts: dict[str, float] = {"": 1.0}  # nodes that cameras may be read on, and how many they can carry
        self._on_node: Counter[str] = Counter()  # cameras, where they are and where they are to go
        self._in_process: Counter[str] = Counter()

    @property
    def processes(self) -> dict[str, str]:
        """The camera processes that there are to be, and the id of each one's node; empty is any node."""
        return dict(self._homes)

    def process(self, camera_id: str) -> str | None:
        """The process that is to read a camera; None while nobody is to, since it moves, or it is not wanted."""
        move = self._moves.get(camera_id)
        return None if move is not None and move.begun else self._placed.get(camera_id)

    def is_reader(self, process: str, camera_id: str) -> bool:
        """Whether no other process is to read a camera, nor is this one to release it."""
        move = self._moves.get(camera_id)
        return (move is None or not move.begun) and self._placed.get(camera_id, process) == process

    def saved(self) -> SavedPlacement:
        """What is decided, to be gone on from; moves that have not begun are decided again."""
        moving = {camera_id: move.to for camera_id, move in self._moves.items() if move.begun}
        return SavedPlacement(dict(self._homes), dict(self._placed), moving, self._processes_so_far)

    def restore(self, saved: SavedPlacement) -> None:
        """Go on from what ``saved`` gave, instead of with ``begin``."""
        self._homes, self._placed = dict(saved.homes), dict(saved.placed)
        self._moves = {camera_id: _Move(to, begun=True) for camera_id, to in saved.moving.items()}
        self._processes_so_far = saved.processes_so_far

    def stay(self) -> None:
        """Give up moves: all cameras are to end."""
        self._moves.clear()

    def begin(
        self,
        camera_ids: Sequence[str],
        nodes: Sequence[ClusterNode],
        detectors: int,
        *,
        scorer_of: Callable[[str], str] | None = None,
    ) -> None:
        """Place the first cameras, those of one scorer together.

        A batch is told to every scorer that it has frames for, and a call costs as much for one frame as for many: were
        each process to read cameras of all scorers, every scorer would get a call for every batch in the cluster.

        Args:
            camera_ids: the cameras.
            nodes: the living nodes; none where they are not known.
            detectors: how many are to have a process to take from, where there are cameras enough.
            scorer_of: a camera's scorer; None where there is only one.
        """
        self._look_at(nodes)
        shares: dict[str, list[str]] = {node: [] for node in self._hosts}
        for camera_id in camera_ids:
            node = self._emptiest()
            shares[node].append(camera_id)
            self._on_node[node] += 1
        for node, share in shares.items():
            wanted = -(-detectors * len(share) // len(camera_ids)) if share else 0
            for members in split_cameras(
                share, per_process=self._per_process, detectors=wanted, max_processes=self._max_processes, key=scorer_of
            ):
                self._placed.update(dict.fromkeys(members, self._add_process(node)))

    def update(
        self,
        cameras: Mapping[str, bool],
        processes: Mapping[str, PlacedProcess],
        nodes: Sequence[ClusterNode],
        *,
        detectors: int,
        in_flight: Callable[[str], int],
        now: float,
    ) -> None:
        """Find a process for every camera, and begin, go on with and end moves.

        Args:
            cameras: ids of the wanted ones, and whether each may move: a live camera, not a file.
            processes: what is known of the processes, by name.
            nodes: the living nodes; none where they are not known.
            detectors: how many are to have a process to take from, where there are cameras enough.
            in_flight: of a camera, its frames that are decoded and neither scored nor dropped yet.
            now: monotonic seconds.
        """
        self._look_at(nodes)
        self._note_absent(processes, nodes, now)
        self._placed = {c: p for c, p in self._placed.items() if c in cameras and p in self._homes}
        homeless = [c for c in cameras if self._placed.get(c) in self._away or c not in self._placed]
        for camera_id in homeless:
            self._moves.pop(camera_id, None)
            self._placed.pop(camera_id, None)
        self._moves = {c: m for c, m in self._moves.items() if c in cameras and m.to in self._homes.keys() - self._away}
        for camera_id, move in list(self._moves.items()):
            self._go_on(camera_id, move, processes, in_flight, now)
        self._count()
        for camera_id in homeless:
            self._placed[camera_id] = self._still_reading(camera_id, processes) or self._room(self._emptiest())
        movable = [c for c, may_move in cameras.items() if may_move and c not in self._moves]
        self._leave_nodes(movable)
        if not self._moves:
            self._even_out(movable)
        if not self._moves:
            self._split(movable, processes, detectors)

    def _look_at(self, nodes: Sequence[ClusterNode]) -> None:
        hosts = nodes_for("decode", nodes)
        hosts = [node for node in hosts if node.cpus > 0] or hosts
        self._hosts = {node.id: node.cpus or 1.0 for node in hosts} or {"": 1.0}

    def _note_absent(self, processes: Mapping[str, PlacedProcess], nodes: Sequence[ClusterNode], now: float) -> None:
        """Forget processes whose node is gone, and note which ones are away."""
        there = {node.id for node in nodes}
        known = {name: processes[name] for name in self._homes if name in processes}
        for name, process in known.items():
            self._homes[name] = self._homes[name] or process.node
            if nodes and self._homes[name] not in there and not process.answers:
                del self._homes[name]
        self._away = set()
        if any(process.answers for process in known.values()):
            dead = {name: p.died_at for name, p in known.items() if p.died_at is not None and name in self._homes}
            self._away = {name for name, died_at in dead.items() if now - died_at > _GONE_AFTER_S}

    def _go_on(
        self,
        camera_id: str,
        move: _Move,
        processes: Mapping[str, PlacedProcess],
        in_flight: Callable[[str], int],
        now: float,
    ) -> None:
        """Go on with a move: it begins once the other process is there, and ends once nobody reads the camera."""
        if not move.begun:
            move.begun = move.to in processes and processes[move.to].answers
            return
        leaves = processes.get(self._placed[camera_id], PlacedProcess())
        if leaves.answers and (camera_id in leaves.reading or not leaves.follows):
            return
        move.released_at = now if move.released_at is None else move.released_at
        if in_flight(camera_id) <= 0 or now - move.released_at > _IN_FLIGHT_FOR_S:
            self._placed[camera_id] = move.to
            del self._moves[camera_id]

    def _count(self) -> None:
        moved = {camera_id: move.to for camera_id, move in self._moves.items()}
        self._in_process = Counter((self._placed | moved).values())
        self._on_node = Counter()
        for process, cameras in self._in_process.items():
            self._on_node[self._homes[process]] += cameras

    def _still_reading(self, camera_id: str, processes: Mapping[str, PlacedProcess]) -> str | None:
        """The process that has not released a camera yet, which was removed and is back."""
        for name, process in processes.items():
            if camera_id in process.reading and process.answers and name in self._homes and name not in self._away:
                self._in_process[name] += 1
                self._on_node[self._homes[name]] += 1
                return name
        return None

    def _room(self, node: str) -> str:
        """Take room for a camera on a node; gives the process that has it."""
        there = self._there(node)
        process = min(there, key=lambda name: self._in_process[name], default=None)
        limited = self._max_processes is not None and len(there) >= self._max_processes
        limited |= node in self._in_trouble()  # where processes stay away, another one may as well
        if process is None or (self._in_process[process] >= self._per_process and not limited):
            process = self._add_process(node)
        self._in_process[process] += 1
        self._on_node[node] += 1
        return process

    def _move(self, camera_id: str, to: str) -> None:
        """Have a camera move to a process in which room was taken for it."""
        self._moves[camera_id] = _Move(to)
        before = self._placed[camera_id]
        self._in_process[before] -= 1
        self._on_node[self._homes[before]] -= 1

    def _leave_nodes(self, movable: Sequence[str]) -> None:
        for camera_id in movable:
            if self._homes[self._placed[camera_id]] not in self._hosts and camera_id not in self._moves:
                self._move(camera_id, self._room(self._emptiest()))

    def _even_out(self, movable: Sequence[str]) -> None:
        """Begin to move cameras from nodes that have more than their share, while that makes it more even."""
        for _ in range(_MOVES_AT_ONCE):
            to = self._emptiest()
            ratio = (self._on_node[to] + 1) / self._hosts[to]
            full = {node for node, weight in self._hosts.items() if (self._on_node[node] - 1) / weight >= ratio}
            found = [c for c in movable if c not in self._moves and self._homes[self._placed[c]] in full]
            if not found:
                return
            self._move(max(found, key=self._fullness), self._room(to))

    def _fullness(self, camera_id: str) -> tuple[float, int]:
        process = self._placed[camera_id]
        node = self._homes[process]
        return self._on_node[node] / self._hosts[node], self._in_process[process]

    def _split(self, movable: Sequence[str], processes: Mapping[str, PlacedProcess], detectors: int) -> None:
        """Where detectors would find no process to take from, move half of the fullest one's cameras to another."""
        in_use = [name for name in self._homes if self._in_process[name] > 0]
        if len(in_use) >= detectors or self._away:
            return
        fullest = max(in_use, key=lambda name: self._in_process[name], default=None)
        if fullest is None:
            return
        there = self._there(self._homes[fullest])
        empty = [name for name in there if not self._in_process[name] and name in processes]
        leaving = [c for c in movable if self._placed[c] == fullest][: self._in_process[fullest] // 2]
        if leaving and (empty or self._max_processes is None or len(there) < self._max_processes):
            to = empty[0] if empty else self._add_process(self._homes[fullest])
            for camera_id in leaving:
                self._in_process[to] += 1
                self._on_node[self._homes[to]] += 1
                self._move(camera_id, to)

    def _there(self, node: str) -> list[str]:
        return [name for name, home in self._homes.items() if home == node and name not in self._away]

    def _in_trouble(self) -> set[str]:
        """Nodes of which a process stays away: lost, perhaps, and nobody has noticed yet."""
        return {self._homes[name] for name in self._away}

    def _emptiest(self) -> str:
        nodes = self._hosts.keys() - self._in_trouble() or self._hosts.keys()
        return min(
            (node for node in self._hosts if node in nodes),
            key=lambda node: (self._on_node[node] + 1) / self._hosts[node],
        )

    def _add_process(self, node: str) -> str:
        name = f"{self._run}-camera-{self._processes_so_far}"
        self._processes_so_far += 1
        self._homes[name] = node
        return name
