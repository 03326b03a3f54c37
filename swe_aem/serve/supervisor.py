"""`Served`: a vLLM server for the length of a `with`. Its log is kept, and no process of it is left behind.

with Served(config, directory) as server:
    server.wait_ready(print)
"""

import json
import os
import re
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from swe_aem.errors import UserError
from swe_aem.serve.command import (
    VLLM_VERSIONS,
    ServeCommandConfig,
    find_program,
    vllm_command,
    vllm_environment,
)
from swe_aem.serve.guard import TERM_LIMIT_S
from swe_aem.serve.starting import starting_label

_PHASES = (
    ("Resolved architecture", "reading the configuration"),
    ("Starting to load model", "loading weights"),
    ("Compiling a graph", "compiling"),
    ("GPU KV cache size", "sizing the KV cache"),
    ("Capturing CUDA graphs", "capturing graphs"),
    ("Starting vLLM", "opening the port"),
)
"""Text that vLLM logs at the beginning of each phase of its start, and the phase's name."""
_ERROR = re.compile(r"^.*?((?:\w+\.)*\w*(?:Error|Exception): .+)$")
_POLL_S = 0.3
_LABEL_LIMIT_S = 60.0


class Served:
    """A vLLM server and its guard process."""

    def __init__(self, config: ServeCommandConfig, directory: Path) -> None:
        """`directory` gets `vllm-PORT.log`; that of the start before becomes `vllm-PORT.log.1`. Raises `UserError` if
        there is no such vllm command."""
        program = find_program(config.program)
        if program is None:
            raise UserError(
                f"no command {config.program}: run serving/vllm-gpu/install.sh of the sources on a host with GPUs, or "
                "name the command of another environment with --vllm, or in a training run with launch.vllm"
            )
        self.config = config.model_copy(update={"program": program})
        self.log = directory / f"vllm-{config.port}.log"
        self._label: str | None = None
        """The label of the weights that it loads; None if it may load others than those of the directory."""
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> "Served":
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with suppress(FileNotFoundError):
            self.log.replace(f"{self.log}.1")
        if not any(one.startswith("--load-format") for one in self.config.extra):
            self._label = starting_label(self.config.model)
        with self.log.open("wb") as log:
            self._process = subprocess.Popen(
                [sys.executable, str(Path(__file__).with_name("guard.py")), *vllm_command(self.config)],
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                env=vllm_environment(self.config, os.environ),
                start_new_session=True,
            )
        return self

    def __exit__(self, *exc: object) -> None:
        self.end()
        assert self._process is not None
        with suppress(subprocess.TimeoutExpired):
            self._process.wait(2 * TERM_LIMIT_S)

    def end(self) -> None:
        """Ask the server to end, from any thread, and return at once."""
        assert self._process is not None
        assert self._process.stdin is not None
        self._process.stdin.close()

    def wait_ready(self, tell: Callable[[str], None], limit_s: float = 1800.0) -> None:
        """Return once the server answers, and `tell` each phase of its start. Raises `UserError` if it ends or takes
        longer than the limit."""
        began, told = time.monotonic(), ""
        while not healthy(self.config.url):
            phase = self._phase()
            if self._ended() is not None:
                raise UserError(f"vLLM ended while {phase}: {self._cause()} (full log: {self.log})")
            if phase != told:
                tell(f"{time.monotonic() - began:4.0f} s  {phase}")
                told = phase
            if time.monotonic() - began > limit_s:
                raise UserError(f"vLLM is not ready after {limit_s:.0f} s, still {phase}; its log is {self.log}")
            time.sleep(_POLL_S)
        tell(f"{time.monotonic() - began:4.0f} s  making the first token")
        self._first_token(limit_s)
        self._name_weights()
        if (note := _untested(self.config.url)) is not None:
            tell(note)
        tell(f"{time.monotonic() - began:4.0f} s  ready")

    def _first_token(self, limit_s: float) -> None:
        """Send the first request, which compiles for up to half a minute while the server answers nothing else."""
        body = {"model": self.config.name, "prompt": [1] * 8, "max_tokens": 2, "logprobs": 20, "seed": 0}
        try:
            self._post("/v1/completions", body, limit_s)
        except OSError as error:
            raise UserError(f"vLLM generates no token: {error}; {self._cause()} (full log: {self.log})") from error

    def _name_weights(self) -> None:
        """Label the weights that it has loaded. Without a label a trainer sends them again, so a vLLM that takes none
        is as good."""
        if self._label is not None and self.config.sync in ("file", "gloo", "nccl"):
            with suppress(OSError):
                self._post("/update_weight_version", {"new_version": self._label}, _LABEL_LIMIT_S)

    def _post(self, path: str, body: object, limit_s: float) -> None:
        headers = {"content-type": "application/json"}
        request = urllib.request.Request(f"{self.config.url}{path}", json.dumps(body).encode(), headers)
        urllib.request.urlopen(request, timeout=limit_s).close()

    def wait(self) -> None:
        """Wait until the server ends, which it should not do by itself, and raise `UserError` with the cause."""
        assert self._process is not None
        self._process.wait()
        raise UserError(f"vLLM ended: {self._cause()} (full log: {self.log})")

    def _ended(self) -> int | None:
        assert self._process is not None
        return self._process.poll()

    def _phase(self) -> str:
        text = self.log.read_text(encoding="utf-8", errors="replace")
        return next((phase for words, phase in reversed(_PHASES) if words in text), "importing")

    def _cause(self) -> str:
        """The first error in the log, because later ones follow from it, and warnings only mention some; without errors
        the last line."""
        lines = self.log.read_text(encoding="utf-8", errors="replace").splitlines()
        errors = [match[1] for line in lines if " WARNING " not in line and (match := _ERROR.match(line))]
        return errors[0] if errors else (lines or ["it logged nothing"])[-1]


def _untested(url: str) -> str | None:
    """That the server is a version of vLLM that nobody has tried with this, if it says so."""
    try:
        with urllib.request.urlopen(f"{url}/version", timeout=5) as answer:
            version = str(json.load(answer)["version"])
        release = tuple(int(part) for part in version.split(".")[:2])
    except (OSError, ValueError, LookupError, TypeError):
        return None
    first, last = VLLM_VERSIONS
    if first <= release <= last:
        return None
    known = " to ".join(".".join(map(str, one)) for one in VLLM_VERSIONS)
    return f"vLLM {version} was not tested with this; {known} were, and serving/vllm-gpu has one of them"


def healthy(url: str) -> bool:
    """Does a healthy server answer at this URL?"""
    try:
        with urllib.request.urlopen(f"{url}/health", timeout=5) as answer:
            return answer.status == 200
    except (urllib.error.URLError, OSError):
        return False
