"""`require_head`: is a Ray cluster there, does it ask for a token, and is it this process's?

Ray's own client tries for long where it is not let in, prints what it tries, and aborts the process where the file of
its token is not there. So the head is asked first, with a call that every cluster answers: that of its id.
"""

import os
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from swe_aem.errors import UserError

_LIMIT_S = 10.0
_TOKEN, _TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"
# HTTP/2, which gRPC is made of (RFC 9113; its headers are RFC 7541)
_PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_DATA, _HEADERS, _SETTINGS = 0, 1, 4
_END_STREAM, _END_HEADERS = 1, 4
_STREAM = 1
_EMPTY_MESSAGE = bytes(5)
_UNAUTHENTICATED = b"grpc-status\x0216"


def require_head(address: str) -> None:
    """Raises `UserError` unless HOST:PORT is the head of a Ray cluster that asks for a token, and for this process's.

    With TLS, only whether something listens there.
    """
    if os.environ.get("RAY_AUTH_MODE", "").lower() != "token":
        raise UserError(
            "Ray asks for no token here: whoever reaches such a cluster may run code there, and read answer keys. "
            f"Start it on all hosts, and this, with RAY_AUTH_MODE=token and {_TOKEN_PATH}, a file that only you "
            "may read (`ray get-auth-token --generate` makes one)"
        )
    token = _own_token()
    try:
        if os.environ.get("RAY_USE_TLS", "0") != "0":
            _connected(address).close()
            return
        if _lets_in(address, None):
            raise UserError(
                f"the Ray cluster at {address} asks for no token: whoever reaches it may run code there, and read "
                f"answer keys. End it, and start it on all hosts with RAY_AUTH_MODE=token and {_TOKEN_PATH}, a file "
                "that only you may read"
            )
        if not _lets_in(address, token):
            raise UserError(
                f"the Ray cluster at {address} has another token than this process: set {_TOKEN_PATH} to a copy of the "
                "file with which its head was started (`sha256sum` says whether two are the same)"
            )
    except (OSError, ValueError) as error:
        raise UserError(
            f"no Ray cluster answers at {address} ({error}); give HOST:PORT of its head, as `ray start --head` says"
        ) from error


def _own_token() -> str:
    """From where Ray takes it; raises `UserError` if it is not there."""
    if token := os.environ.get(_TOKEN, "").strip():
        return token
    named = os.environ.get(_TOKEN_PATH)
    path = Path(named) if named else Path.home() / ".ray" / "auth_token"
    try:
        if token := path.read_text().strip():
            return token
        why = "it is empty"
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or "it is no text"
    raise UserError(
        f"this process has no token for the Ray cluster: {path}: {why}. Copy the file of the cluster's head there "
        f"(mode 600), or name it in {_TOKEN_PATH}"
    )


def _lets_in(address: str, token: str | None) -> bool:
    """Does the head answer a caller with that token? Raises `OSError`, and `ValueError` if it is no server of gRPC."""
    with _connected(address) as connection:
        headers = _headers(address, token)
        connection.sendall(
            _PREFACE
            + _frame(_SETTINGS, 0, 0, b"")
            + _frame(_HEADERS, _END_HEADERS, _STREAM, headers)
            + _frame(_DATA, _END_STREAM, _STREAM, _EMPTY_MESSAGE)
        )
        for kind, flags, content in _answer(connection.makefile("rb")):
            if kind == _HEADERS and flags & _END_STREAM:
                return _UNAUTHENTICATED not in content
            if kind == _DATA:
                return True
    raise ValueError("it ended the connection")


def _connected(address: str) -> socket.socket:
    host, _, port = address.rpartition(":")
    return socket.create_connection((host.strip("[]"), int(port)), timeout=_LIMIT_S)


def _answer(stream: BinaryIO) -> Iterator[tuple[int, int, bytes]]:
    """Kind, flags and content of the frames that answer the call."""
    kind = None
    while len(head := stream.read(9)) == 9:
        if kind is None and head[3] != _SETTINGS:
            raise ValueError("what listens there is another program")
        kind = head[3]
        content = stream.read(int.from_bytes(head[:3]))
        if int.from_bytes(head[5:]) == _STREAM:
            yield kind, head[4], content


def _frame(kind: int, flags: int, stream: int, content: bytes) -> bytes:
    return len(content).to_bytes(3) + bytes([kind, flags]) + stream.to_bytes(4) + content


def _headers(address: str, token: str | None) -> bytes:
    """Those of a call of gRPC. Numbers are places in HPACK's table of names."""
    post, http, path, authority = b"\x83", b"\x86", b"\x04", b"\x01"
    content_type, authorization, own_name = b"\x0f\x10", b"\x0f\x08", b"\x00"
    block = post + http + path + _text(_CALL) + authority + _text(address)
    block += content_type + _text("application/grpc") + own_name + _text("te") + _text("trailers")
    return block if token is None else block + authorization + _text(f"Bearer {token}")


def _text(value: str) -> bytes:
    """A string of HPACK: its length, seven bits at first, and its bytes."""
    content = value.encode()
    if len(content) < 127:
        return bytes([len(content)]) + content
    rest, length = len(content) - 127, bytearray([127])
    while rest >= 128:
        length.append(rest % 128 | 128)
        rest //= 128
    return bytes([*length, rest]) + content
