"""`require_head`: is a Ray cluster there, does it ask for a token, and is it this process's?

Ray's own client tries for long where it is not let in, prints what it tries, and aborts the process where the file of
its token is not there. So the head is asked first, with a call that every cluster answers: that of its id.
"""

import os
import socket
from pathlib import Path

from swe_aem.errors import UserError

_LIMIT_S = 10.0
_TOKEN, _TOKEN_PATH = "RAY_AUTH_TOKEN", "RAY_AUTH_TOKEN_PATH"
_CALL = "/ray.rpc.NodeInfoGcsService/GetClusterId"


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
            _require_listener(address)
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


def _require_listener(address: str) -> None:
    host, _, port = address.rpartition(":")
    socket.create_connection((host.strip("[]"), int(port)), timeout=_LIMIT_S).close()


def _lets_in(address: str, token: str | None) -> bool:
    """Does the head answer a caller with that token? Raises `ValueError` if nothing that speaks gRPC is there."""
    import grpc

    with grpc.insecure_channel(address, options=[("grpc.enable_http_proxy", 0)]) as channel:
        metadata = () if token is None else (("authorization", f"Bearer {token}"),)
        try:
            channel.unary_unary(_CALL)(b"", metadata=metadata, timeout=_LIMIT_S)
        except grpc.RpcError as error:
            if error.code() is grpc.StatusCode.UNAUTHENTICATED:
                return False
            raise ValueError(f"{error.code().name}: {error.details()}") from error
    return True
