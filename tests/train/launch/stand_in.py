#!/usr/bin/env python3
"""In vLLM's place: answers as a healthy server at `--port`, after it has written its process id to $PIDS. Ends at once
if $PIDS is followed by a file `.broken`, and never answers if by `.mute`."""

import os
import sys
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

pids = Path(os.environ["PIDS"])
with pids.open("a") as file:
    file.write(f"{os.getpid()}\n")
if pids.with_suffix(".broken").exists():
    sys.exit("ValueError: no such model")
while pids.with_suffix(".mute").exists():
    time.sleep(0.05)


class Healthy(BaseHTTPRequestHandler):
    """Everything is well."""

    def do_GET(self) -> None:
        self.send_response(200)
        self.end_headers()

    do_POST = do_GET

    def log_message(self, format: str, *args: object) -> None:
        """Nothing."""


ThreadingHTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Healthy).serve_forever()
