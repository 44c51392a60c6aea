"""Who answers at a cluster's address, and whether the token is there that they ask for.

Asked before Ray itself is: with nobody at the address Ray tries for minutes, with a token missing for 20 s, and what it
writes to the terminal meanwhile says neither.
"""

from __future__ import annotations

import os
import socket
from typing import Any

import grpc
import ray._raylet
from ray._private import services

from pipeline.addresses import scheme_of
from pipeline.errors import BadInputError

_raylet: Any = ray._raylet  # compiled, and without types
_WITHIN_S = 10.0  # a head that has much to do answers late
_QUESTION = "/ray.rpc.InternalKVGcsService/InternalKVKeys"  # changes nothing, and is answered to whoever shows a token
_HOW = "RAY_AUTH_TOKEN, RAY_AUTH_TOKEN_PATH or ~/.ray/auth_token"
_FORM = "expected HOST:PORT of a running Ray cluster's head, or auto"


def head_address(address: str) -> str:
    """Where a cluster's head is, as Ray calls it.

    Args:
        address: ``host:port``, or ``auto`` for what ``RAY_ADDRESS`` names or runs on this machine.

    Raises:
        BadInputError: it is no such address, or no cluster is found by itself.
    """
    named = os.environ.get("RAY_ADDRESS")
    if address == "auto" and named not in (None, "", "auto"):
        try:
            return head_address(named)
        except BadInputError as error:
            raise BadInputError(f"RAY_ADDRESS: {error}") from None
    scheme = scheme_of(address)
    if scheme == "ray":  # would leave scores and state on the head, and ask there for this machine's Redis
        raise BadInputError(f"{_FORM}, got ray://, Ray Client's; start this command on one of the cluster's nodes")
    if scheme is not None:
        raise BadInputError(f"{_FORM}, got {scheme[:30]}://")
    if address == "local":
        raise BadInputError(f"{_FORM}, got local; without --address, a Ray is started on this machine")
    try:
        found = services.canonicalize_bootstrap_address(address)
        host, port = _host_and_port(found or "")
    except ConnectionError:
        raise BadInputError("expected a Ray cluster that runs on this machine, or RAY_ADDRESS, found none") from None
    except (ValueError, OSError):
        raise BadInputError(f"{_FORM}, got neither") from None
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def authentication_mode(head: str) -> str:
    """Ask the head of a cluster whether it takes this process in; what ``RAY_AUTH_MODE`` has to be to join it.

    Args:
        head: its address, see ``head_address``.

    Returns:
        ``token`` or ``disabled``.

    Raises:
        BadInputError: nobody is there, or somebody else; it asks for a token, and there is none here or another; it
            asks for none where ``RAY_AUTH_MODE`` wants one.
    """
    if os.environ.get("RAY_USE_TLS", "0").lower() in ("1", "true"):
        _connect(head)
        return os.environ.get("RAY_AUTH_MODE", "disabled")  # Ray alone has the certificates: it finds out the rest
    wanted = os.environ.get("RAY_AUTH_MODE", "").lower()
    _connect(head)
    if _takes(head, token=None):
        if wanted not in ("", "disabled"):
            raise BadInputError(
                f"expected a Ray cluster that asks for a token (RAY_AUTH_MODE={wanted}), got one that asks for none"
            )
        return "disabled"
    if wanted == "disabled":
        raise BadInputError("the Ray cluster asks for a token, which RAY_AUTH_MODE=disabled shows to nobody")
    token = _token()
    if token is None:
        raise BadInputError(f"the Ray cluster asks for a token: expected it in {_HOW}, found none")
    if not (token.isascii() and token.isprintable() and _takes(head, token)):  # other letters are in no header
        raise BadInputError(f"the Ray cluster asks for a token: expected its own in {_HOW}, got another")
    return "token"


def check_node(head: str) -> None:
    """See that this machine is one of the cluster's nodes, for which Ray looks a minute without saying so.

    Args:
        head: its address; ``RAY_AUTH_MODE`` is what ``authentication_mode`` said.

    Raises:
        BadInputError: it is none.
    """
    try:
        here = set(services.find_node_ids())
        nodes = _raylet.GcsClient(address=head).get_all_node_info(timeout=_WITHIN_S)
    except (AttributeError, TypeError):  # another Ray, which is left to find out
        return
    if here.isdisjoint(node_id.hex() for node_id in nodes):
        raise BadInputError(
            "expected this machine, where scorer and files will be, to be a node of the Ray cluster, got another one;"
            f" start the command on a node, or make it one: ray start --address={head}"
        )


def _host_and_port(address: str) -> tuple[str, int]:
    """The two parts of an address.

    Raises:
        ValueError: there are no two.
    """
    host, _, port = address.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not host or "@" in host or not 0 < int(port) < 2**16:
        raise ValueError(address)
    return host, int(port)


def _connect(head: str) -> None:
    """See that somebody listens.

    Raises:
        BadInputError: nobody does, or the host is not known.
    """
    try:
        socket.create_connection(_host_and_port(head), timeout=_WITHIN_S).close()
    except (OSError, UnicodeError) as error:
        reason = getattr(error, "strerror", None) or str(error)
        raise BadInputError(f"expected a running Ray cluster, got nobody who listens at {head}: {reason}") from None


def _takes(head: str, token: str | None) -> bool:
    """Whether the head answers a question with this token, or without one.

    Raises:
        BadInputError: who answers is no head of a cluster, or nobody answers.
    """
    shown = () if token is None else (("authorization", f"Bearer {token}"),)
    options = [("grpc.enable_http_proxy", 0), ("grpc.enable_retries", 0)]
    with grpc.insecure_channel(head, options=options) as channel:
        ask = channel.unary_unary(_QUESTION)  # of bytes: an empty message is a valid one
        try:
            ask(b"", metadata=shown, timeout=_WITHIN_S)
        except grpc.RpcError as error:
            code = error.code() if isinstance(error, grpc.Call) else None
            if code == grpc.StatusCode.UNAUTHENTICATED:
                return False
            if code == grpc.StatusCode.DEADLINE_EXCEEDED:
                raise BadInputError(
                    f"expected a running Ray cluster, got no answer within {_WITHIN_S:g} s from who listens at {head}"
                ) from None
            raise BadInputError(
                f"expected a running Ray cluster, got something else that listens at {head} (a head's port is"
                " mostly 6379; 8265 and 10001 are not it; a cluster that speaks TLS wants RAY_USE_TLS here, too)"
            ) from None
    return True


def _token() -> str | None:
    """The token that Ray would show.

    Raises:
        BadInputError: it cannot be read from where ``RAY_AUTH_TOKEN_PATH`` says.
    """
    loader = _raylet.AuthenticationTokenLoader.instance()
    try:
        return loader.get_raw_token(ignore_auth_mode=True) if loader.has_token(ignore_auth_mode=True) else None
    except Exception as error:  # of a class that is private to Ray
        said = str(error).split("\n")[0].split(" Note:")[0][:200]
        raise BadInputError(f"the Ray cluster asks for a token: expected it in {_HOW}, got: {said}") from None
