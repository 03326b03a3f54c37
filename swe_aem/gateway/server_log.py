"""The log of an HTTP server whose clients are not to be trusted."""

import logging
from typing import Any, cast

_LOGGER = logging.getLogger(__name__)


def server_log() -> logging.Logger:
    """What a server of aiohttp logs to. What fails here has its traceback. That clients break their connections, or
    send what is no HTTP, is one line for the first such connection, and for the others a line of the level DEBUG."""
    return cast(logging.Logger, _ServerLog(_LOGGER, {}))


class _ServerLog(logging.LoggerAdapter[logging.Logger]):
    _told = False

    def log(self, level: int, msg: object, *args: object, **kwargs: Any) -> None:
        """Called by aiohttp."""
        error = kwargs.get("exc_info")
        if not _is_of_client(error):
            super().log(level, msg, *args, **kwargs)
            return
        level, self._told = (logging.DEBUG if self._told else logging.INFO), True
        super().log(level, "a client broke its connection: %s", " ".join(str(error).split())[:200])


def _is_of_client(error: object) -> bool:
    from aiohttp.http_exceptions import HttpProcessingError
    from aiohttp.web import RequestPayloadError

    return isinstance(error, (ConnectionError, HttpProcessingError, RequestPayloadError))
