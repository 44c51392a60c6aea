"""Asking a service from any machine that has the cluster's token, and how it answers."""

from __future__ import annotations

import json
import logging
import threading
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

from actors.control import RunControl
from actors.joined_ray import reached_head
from actors.ray_settings import authentication_reader
from actors.requests import ANSWER_WITHIN_S, Underway, answered, checked
from actors.service_directory import ServiceDirectory, ServiceRecord, chosen
from pipeline.errors import RunError

_log = logging.getLogger(__name__)

_LOOK_EVERY_S = 1.0
_ASK_EVERY_S = 0.2


@contextmanager
def answering(directory: ServiceDirectory, run: str, run_control: RunControl) -> Iterator[None]:
    """Answer requests to a service while the block lasts.

    Args:
        directory: where requests lie. It may be away meanwhile: who asks then waits.
        run: name of the service's run.
        run_control: answers.
    """
    done, underway, taken = threading.Event(), Underway(), set[str]()

    def answer(number: str, request: bytes) -> None:
        with underway:
            said = answered(run_control, request)
            try:
                directory.answer(run, number, said)
            except RunError as error:
                _log.warning("a request was not answered: %s", error)
        taken.discard(number)

    def look() -> None:
        while not done.is_set():
            try:
                requests = directory.requests(run)
            except RunError as error:  # the head is started again
                _log.warning("requests cannot be looked at: %s", error)
                requests = {}
            for number, request in requests.items():
                if number not in taken:
                    taken.add(number)
                    threading.Thread(target=answer, args=(number, request), name="request", daemon=True).start()
            done.wait(_LOOK_EVERY_S)

    threading.Thread(target=look, name="requests", daemon=True).start()
    try:
        yield
    finally:
        done.set()
        run_control.over(None)  # unless it is over in good order, which was said before
        underway.wait_for_none()


def ask_service(address: str, run: str | None, request: Mapping[str, Any]) -> dict[str, Any]:
    """Send a request to a service.

    Args:
        address: of the cluster's head.
        run: name of the service's run; None where there is one only.
        request: see ``RunControl.answer``.

    Raises:
        BadInputError: no such service is there, or it cannot meet the request.
        RunError: it does not answer, or failed.
    """
    with _reached(address) as directory:
        record = chosen(directory.records(), run, may_be_over=False)
        number = directory.send(record.run, request)
        try:
            answer = _awaited(directory, record, number)
        except BaseException:
            directory.take_back(record.run, number)
            raise
    return checked(json.loads(answer))


def service_at(address: str, run: str | None) -> ServiceRecord:
    """The record of a service; of one that is over, where no other is there.

    Args:
        address: of the cluster's head.
        run: name of the service's run; None where there is one only.

    Raises:
        BadInputError: no such service is there.
        RunError: the head does not answer.
    """
    with _reached(address) as directory:
        return chosen(directory.records(), run, may_be_over=True)


@contextmanager
def _reached(address: str) -> Iterator[ServiceDirectory]:
    try:
        with reached_head(address) as head:
            yield ServiceDirectory.at(head)
    finally:
        authentication_reader()()


def _awaited(directory: ServiceDirectory, record: ServiceRecord, number: str) -> bytes:
    give_up_at = time.monotonic() + ANSWER_WITHIN_S
    while (answer := directory.take_answer(record.run, number)) is None:
        if time.monotonic() >= give_up_at:
            raise RunError(
                f"{record.run}: expected an answer within {ANSWER_WITHIN_S:g} s, got none: its supervisor on "
                f"{record.node} is away; what was asked is taken back"
            )
        time.sleep(_ASK_EVERY_S)
    return answer
