"""What a cluster's head knows of services: their records, requests to them and answers.

They lie in the key-value store of Ray's head, which is reached from any machine that has the cluster's token. Whoever
has it may run any code there, so that a record holds nothing that they could not have anyway.
"""

from __future__ import annotations

import json
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

import ray._raylet
from pydantic import SecretStr, TypeAdapter, ValidationError
from ray.exceptions import RayError

from pipeline.errors import BadInputError, RunError

_raylet: Any = ray._raylet  # compiled, and without types
_NAMESPACE = b"cflow"
_WITHIN_S = 10.0  # a head that has much to do answers late

ServiceState = Literal["starting", "running", "ended", "failed"]


@dataclass(frozen=True, slots=True)
class ServiceRecord:
    """One service.

    Attributes:
        run: name of its run.
        state: how it stands; ``running``, too, while it ends, and where nobody was left to say how it ended.
        started_at_s: Unix time at which it was started.
        node: address of the node on which its supervisor runs.
        folder: where it writes, on that node.
        redis_url: its Redis, as its node reaches it; a secret, it may hold a password.
        reason: why it failed, one line; else empty.
        is_bad_input: whether that was for what it was given.
    """

    run: str
    state: ServiceState
    started_at_s: float
    node: str
    folder: str
    redis_url: SecretStr
    reason: str = ""
    is_bad_input: bool = False

    @property
    def is_over(self) -> bool:
        """Whether it has said that it will do nothing more."""
        return self.state in {"ended", "failed"}


class ServiceDirectory:
    """Records of services, requests and answers in the head's store. Any thread may use it.

    Args:
        store: the head's, as Ray's client of it is; see ``at``.
    """

    def __init__(self, store: Any) -> None:
        self._store = store

    @classmethod
    def at(cls, head: str) -> ServiceDirectory:
        """That of a cluster.

        Args:
            head: its address; ``RAY_AUTH_MODE`` is what ``ray_head.authentication_mode`` said.
        """
        return cls(_raylet.GcsClient(address=head))

    def put(self, record: ServiceRecord) -> None:
        """Write a service's record.

        Raises:
            RunError: the head does not answer.
        """
        fields = {name: getattr(record, name) for name in record.__slots__}
        said = json.dumps({**fields, "redis_url": record.redis_url.get_secret_value()})
        with _asking():
            self._store.internal_kv_put(_key("service", record.run), said.encode(), True, _NAMESPACE, _WITHIN_S)

    def records(self) -> list[ServiceRecord]:
        """Records of all services, the newest last; what is none of ours is passed over.

        Raises:
            RunError: the head does not answer.
        """
        found: list[ServiceRecord] = []
        with _asking():
            for key in self._store.internal_kv_keys(_key("service", ""), _NAMESPACE, _WITHIN_S):
                try:
                    found.append(_adapter().validate_json(self._get(key) or b""))
                except ValidationError:
                    continue
        return sorted(found, key=lambda record: record.started_at_s)

    def forget(self, run: str) -> None:
        """Delete what is there of a service that is over.

        Raises:
            RunError: the head does not answer.
        """
        with _asking():
            self._delete(_key("service", run))
            for kind in ("request", "answer"):
                for key in self._store.internal_kv_keys(_key(kind, run, ""), _NAMESPACE, _WITHIN_S):
                    self._delete(key)

    def send(self, run: str, request: Mapping[str, Any]) -> str:
        """Send a request to a service; returns its number.

        Raises:
            RunError: the head does not answer.
        """
        number = secrets.token_hex(8)
        with _asking():
            said = json.dumps(request).encode()
            self._store.internal_kv_put(_key("request", run, number), said, True, _NAMESPACE, _WITHIN_S)
        return number

    def take_answer(self, run: str, number: str) -> bytes | None:
        """The answer to a request, once; None while there is none.

        Raises:
            RunError: the head does not answer.
        """
        with _asking():
            answer = self._get(_key("answer", run, number))
            if answer is not None:
                self._delete(_key("answer", run, number))
        return answer

    def take_back(self, run: str, number: str) -> None:
        """Take back a request that was not answered.

        Raises:
            RunError: the head does not answer.
        """
        with _asking():
            self._delete(_key("request", run, number))

    def requests(self, run: str) -> dict[str, bytes]:
        """Requests to a service that were not answered, by number.

        Raises:
            RunError: the head does not answer.
        """
        with _asking():
            keys: list[bytes] = self._store.internal_kv_keys(_key("request", run, ""), _NAMESPACE, _WITHIN_S)
            found = {key.decode().rpartition("/")[2]: self._get(key) for key in keys}
        return {number: request for number, request in found.items() if request is not None}

    def answer(self, run: str, number: str, answer: bytes) -> None:
        """Answer a request, which is gone then.

        Raises:
            RunError: the head does not answer.
        """
        with _asking():
            self._store.internal_kv_put(_key("answer", run, number), answer, True, _NAMESPACE, _WITHIN_S)
            self._delete(_key("request", run, number))

    def _get(self, key: bytes) -> bytes | None:
        return self._store.internal_kv_get(key, _NAMESPACE, _WITHIN_S)

    def _delete(self, key: bytes) -> None:
        self._store.internal_kv_del(key, False, _NAMESPACE, _WITHIN_S)


def chosen(records: list[ServiceRecord], run: str | None, *, may_be_over: bool) -> ServiceRecord:
    """The service that is meant.

    Args:
        records: all of them, the newest last.
        run: the name of its run; None where there is one only.
        may_be_over: whether the newest will do where all are over.

    Raises:
        BadInputError: there is none, or there are several.
    """
    there = [record for record in records if not record.is_over]
    if run is not None:
        there = [record for record in (records if may_be_over else there) if record.run == run]
    elif not there and may_be_over:
        there = records[-1:]
    if len(there) == 1:
        return there[0]
    if there:
        raise BadInputError(f"expected one service, or --run NAME, got {', '.join(record.run for record in there)}")
    known = ", ".join(f"{record.run} ({record.state})" for record in records) or "none"
    raise BadInputError(f"expected {'a service' if run is None else f'service {run}'}, found {known}")


def _key(*parts: str) -> bytes:
    return "/".join(parts).encode()


@cache
def _adapter() -> TypeAdapter[ServiceRecord]:
    return TypeAdapter(ServiceRecord)


@contextmanager
def _asking() -> Iterator[None]:
    """What Ray raises where the head does not answer, in a line.

    Raises:
        RunError: the head does not answer.
    """
    try:
        yield
    except (RayError, TimeoutError, ConnectionError) as error:
        said = " ".join(str(error).split())[:200]
        raise RunError(f"expected an answer of the Ray cluster's head, got: {said or type(error).__name__}") from error
