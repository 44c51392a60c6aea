"""Several processes that fit one model together, and what they tell each other.

Every worker takes every optimiser step, each with the frames whose features it has: sums over the workers are what one
process would have computed alone, but for the order of additions. Only tensors travel between them, JSON as bytes:
torch asks nobody who connects, so nothing that comes is unpickled.
"""

from __future__ import annotations

import json
import socket
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.distributed import ProcessGroup

import pipeline.errors
from pipeline.errors import CflowError

_T = TypeVar("_T")

_HEADER = 8  # numbers before a tensor that is handed over: its dtype, its dimensions, their sizes
_DTYPES = (torch.float32, torch.float16, torch.float64, torch.bool, torch.uint8, torch.int64)


class Workers:
    """The processes that fit a model, as one of them sees them. All must call the same methods in the same order.

    Args:
        group: connects them; None for a process that fits alone.

    Attributes:
        rank: number of this one, from 0.
        count: how many there are.
    """

    def __init__(self, group: ProcessGroup | None = None) -> None:
        self._group = group
        self.rank = 0 if group is None else group.rank()
        self.count = 1 if group is None else group.size()

    @property
    def is_alone(self) -> bool:
        """Whether it fits by itself; one that is left of several does not: others may come to it again."""
        return self._group is None

    @property
    def is_first(self) -> bool:
        """Whether this is the one that keeps state and writes the card."""
        return self.rank == 0

    def add(self, *tensors: Tensor) -> None:
        """Put the sum over all workers into each tensor; they have the same bits everywhere then."""
        for tensor in tensors:
            if self._group is not None:
                self._group.allreduce([tensor]).wait()

    def copy_first(self, tensors: Iterable[Tensor]) -> None:
        """Put the first worker's values into all workers' tensors."""
        for tensor in tensors:
            if self._group is not None:
                self._group.broadcast(tensor, 0).wait()

    def any(self, flag: bool) -> bool:
        """Whether any worker says so."""
        if self._group is None:
            return flag
        count = torch.tensor([int(flag)])
        self.add(count)
        return bool(count.item())

    def tell(self, value: Any) -> list[Any]:
        """What every worker says, by rank.

        Args:
            value: what JSON can say.
        """
        said = np.frombuffer(json.dumps(value).encode(), dtype=np.uint8)
        lengths = self.merge({self.rank: np.array([len(said)], dtype=np.int64)}, [(1,)] * self.count)
        every = self.merge({self.rank: said}, [(int(length[0]),) for length in lengths])
        return [json.loads(part.tobytes()) for part in every]

    def merge(
        self, own: Mapping[int, npt.NDArray[Any]], shapes: Sequence[tuple[int, ...]], dtype: Any = None
    ) -> list[npt.NDArray[Any]]:
        """All of some arrays, each of which one worker has.

        Args:
            own: those that this worker has, by their numbers; all of one dtype.
            shapes: of all of them.
            dtype: theirs, where a worker may have none.
        """
        if self._group is None:
            return [own[number] for number in range(len(shapes))]
        dtype = next(iter(own.values())).dtype if dtype is None else dtype
        sizes = [int(np.prod(shape)) for shape in shapes]
        ends = np.cumsum(sizes, dtype=np.int64)
        every = np.zeros(int(ends[-1]) if sizes else 0, dtype=dtype)
        for number, values in own.items():
            every[ends[number] - sizes[number] : ends[number]] = values.ravel()
        if every.size:  # nobody else has other than zeros where a worker's own values are
            self.add(torch.from_numpy(every))
        parts = np.split(every, ends[:-1]) if sizes else []
        return [part.reshape(shape) for part, shape in zip(parts, shapes, strict=True)]

    def collect(self, tensor: Tensor | None, owner: int) -> Tensor | None:
        """Hand a tensor to the first worker.

        Args:
            tensor: on the CPU, with four dimensions at most and a value or more; read at its owner alone.
            owner: rank of who has it.

        Returns:
            It, at the first worker; None at all others.
        """
        if self._group is None or owner == 0:
            return tensor if self.is_first else None
        if self.rank == owner:
            assert tensor is not None
            header = [_DTYPES.index(tensor.dtype), tensor.dim(), *tensor.shape]
            self._group.send([torch.tensor(header + [0] * (_HEADER - len(header)))], 0, 0).wait()
            self._group.send([_bytes(tensor.contiguous())], 0, 0).wait()
        if not self.is_first:
            return None
        said = torch.zeros(_HEADER, dtype=torch.int64)
        self._group.recv([said], owner, 0).wait()
        kind, dims, *sizes = said.tolist()
        found = torch.empty(sizes[:dims], dtype=_DTYPES[kind])
        self._group.recv([_bytes(found)], owner, 0).wait()
        return found

    def together(self, work: Callable[[], _T]) -> _T:
        """Do what may fail at one worker alone, so that it fails at all of them: none waits for another for ever.

        Raises:
            CflowError: that of the first worker at which it failed; a file's error at one of several is a RunError.
        """
        if self._group is None:
            return work()
        found: list[_T] = []
        failed = None
        try:
            found.append(work())
        except CflowError as error:
            failed = [type(error).__name__, f"{error} (on {socket.gethostname()})"]
        except OSError as error:
            named = f"{error.filename}: " if error.filename else ""
            failed = ["RunError", f"{named}{error.strerror or error} (on {socket.gethostname()})"]
        for said in self.tell(failed):
            if said is not None:
                raise getattr(pipeline.errors, said[0])(said[1])
        return found[0]

    def share(self, weights: Sequence[float], holders: Sequence[Sequence[int]]) -> npt.NDArray[np.int64]:
        """Which worker each item is for; see ``assign``."""
        return assign(weights, holders, self.count)

    def holders(self, has: Sequence[bool]) -> list[tuple[int, ...]]:
        """Who has each of some things.

        Args:
            has: which of them this worker has.
        """
        every = self.tell([bool(one) for one in has])
        return [tuple(rank for rank, said in enumerate(every) if said[at]) for at in range(len(has))]


ALONE = Workers()
"""A process that fits a model by itself."""


def assign(weights: Sequence[float], holders: Sequence[Sequence[int]], count: int) -> npt.NDArray[np.int64]:
    """Give each item to one of those that can take it, so that all have about as much to do.

    Items that few can take come first, heavy ones before light ones: whoever can take anything evens out the rest.

    Args:
        weights: of the items.
        holders: ranks of those that can take each; where nobody can, anybody gets it.
        count: of the workers.

    Returns:
        A rank for each item, int64.
    """
    owners = np.zeros(len(weights), dtype=np.int64)
    if count == 1:
        return owners
    loads = [0.0] * count
    everybody = range(count)
    able = [ranks or everybody for ranks in holders]
    for item in sorted(range(len(weights)), key=lambda at: (len(able[at]), -weights[at])):
        owners[item] = min(able[item], key=lambda rank: (loads[rank], rank))
        loads[owners[item]] += weights[item]
    return owners


def _bytes(tensor: Tensor) -> Tensor:
    """The same memory as bytes: not every backend knows every dtype."""
    return tensor.view(-1).view(torch.uint8)
