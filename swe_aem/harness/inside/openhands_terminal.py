"""OpenHands' terminal tool on an interactive bash in the sandbox.

Protocol, timeouts and texts are OpenHands' own (`TerminalSession`, `SubprocessTerminal`); only the process differs. A
pseudoterminal of `script` (util-linux, in every Debian and Ubuntu image) runs in the sandbox between two named pipes.
Keys are written into one; reading the screen reads what has come out of the other, without waiting for a whole command.
A program that prints more than is read waits, so that no output fills the disk.
"""

# pyright: reportMissingImports=false
import base64
import codecs
import itertools
import shlex
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from typing import Any

from openhands.sdk.tool import register_tool
from openhands.tools.terminal import TerminalTool
from openhands.tools.terminal.constants import CMD_OUTPUT_PS1_END
from openhands.tools.terminal.definition import TerminalAction, TerminalObservation
from openhands.tools.terminal.impl import TerminalExecutor
from openhands.tools.terminal.terminal.subprocess_terminal import SubprocessTerminal
from openhands.tools.terminal.terminal.terminal_session import TerminalSession
from swe_aem_worker import Conversation, Over

_ROOT = "/tmp/.openhands-terminal"
_START = """
cd {workdir} && mkdir -p {place} && cd {place} && mkfifo in out || exit 1
command -v script >/dev/null || {{ echo 'the image has no script(1): install bsdutils'; exit 1; }}
setsid -f sh -c 'echo $$ >pid; exec 0<>in 1<>out 2>/dev/null; cd "$0"; exec script -qfc "$1" /dev/null' \
    {workdir} 'stty cols 256 rows 200; exec bash --noediting -i' </dev/null >/dev/null 2>&1
"""
_READ = """
rm -f {last}
cd {place} || exit 3
LC_ALL=C
exec 3<>out
if IFS= read -r -d '' -t {wait_s} -N 1 -u 3 first; then
    printf %s "$first"
    dd bs=65536 count=15 iflag=nonblock <&3 2>/dev/null
    exit 0
fi
kill -0 "$(cat pid)" 2>/dev/null || exit 3
"""
_GONE = 3
_READY_S = 30.0
_WAIT_S = 0.25
"""How long reading the screen of a busy shell waits for new output."""
_LONGEST_LINE_BYTES = 4000
"""A terminal cuts longer lines off."""

_conversations: dict[str, Conversation] = {}
_numbers = itertools.count()


class ShellExited(RuntimeError):
    """The shell of the terminal has ended."""


class SandboxTerminal(SubprocessTerminal):
    """A shell in the sandbox in place of a process of this host."""

    def __init__(self, conversation: Conversation, work_dir: str) -> None:
        super().__init__(work_dir)
        self._sandbox = conversation.sandbox
        self._place = f"{_ROOT}/{next(_numbers)}"
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._busy = False
        self._last = ""

    def initialize(self) -> None:
        """Start the shell and wait for its prompt."""
        if self._initialized:
            return
        place, workdir = shlex.quote(self._place), shlex.quote(self.work_dir)
        started = self._sandbox.run(_START.format(place=place, workdir=workdir), cwd="/")
        if started.exit_code != 0:
            raise RuntimeError(f"no terminal in the sandbox: {started.text}")
        self._initialized = True
        self._write_pty(f'set +H; export PROMPT_COMMAND=\'export PS1="{self.PS1}"\'; export PS2=""\n'.encode())
        deadline = time.monotonic() + _READY_S
        while self._busy:
            if time.monotonic() > deadline:
                raise RuntimeError(f"the terminal shows no prompt: {self.read_screen()[-500:]}")
            self.read_screen()
        self.clear_screen()

    def send_keys(self, text: str, enter: bool = True) -> None:
        """Type the text; a command with a line that no terminal takes is run from a file."""
        if (
            enter
            and not self._busy
            and any(len(line.encode("utf-8", "ignore")) > _LONGEST_LINE_BYTES for line in text.split("\n"))
        ):
            self._sandbox.write_file(f"{self._place}/command", text.encode("utf-8", "ignore") + b"\n")
            text = f". {self._place}/command"
        super().send_keys(text, enter)

    def _send_multiline_with_flow_control(self, lines: list[str], enter: bool) -> None:
        self._write_pty("\n".join([*lines, ""] if enter else lines).encode("utf-8", "ignore"))
        self._current_command_running = True

    def _write_pty(self, data: bytes) -> None:
        keys = base64.b64encode(data).decode()
        sent = self._sandbox.run(f"base64 -d >{self._place}/in <<<{keys}", timeout_s=10, cwd="/")
        if sent.exit_code != 0:
            raise OSError(f"the terminal takes no input: {sent.text or 'the program does not read it'}")
        self._busy = True

    def read_screen(self) -> str:
        """What the terminal shows, including output since the last call."""
        if not self._initialized:
            raise RuntimeError("the terminal is not initialized")
        read = _READ.format(last=self._last or "''", place=self._place, wait_s=_WAIT_S if self._busy else 0.01)
        seen = self._sandbox.run(read, cwd="/")
        self._last = seen.output_path
        with self.output_lock:
            self._add_text_to_buffer(self._decoder.decode(seen.output))
            screen = "".join(self.output_buffer).replace("\r", "")
        if seen.exit_code == _GONE:
            raise ShellExited(screen)
        self._busy = self._busy and not screen.rstrip().endswith(CMD_OUTPUT_PS1_END.rstrip())
        return screen

    def interrupt(self) -> bool:
        """Press Ctrl-C."""
        self._write_pty(b"\x03")
        return True

    def is_running(self) -> bool:
        """Is there no prompt?"""
        if self._busy:
            with suppress(ShellExited):
                self.read_screen()
        return self._busy

    def close(self) -> None:
        """Hang up, which ends what runs in the terminal."""
        if self._closed:
            return
        self._closed = True
        with suppress(Over, OSError):
            self._sandbox.run(f"kill $(cat {self._place}/pid); rm -rf {self._place}", cwd="/")


class SandboxTerminalExecutor(TerminalExecutor):
    """OpenHands' executor with one session, in the sandbox; a shell that has ended is started again."""

    def __init__(self, conversation: Conversation) -> None:
        self.shell_path = None
        self.full_output_save_dir = None
        self._env: dict[str, str] = {}
        self._pool = None
        self._sessions: dict[int, TerminalSession] = {}
        self._sessions_lock = threading.Lock()
        self._working_dir = conversation.workdir
        self._conversation = conversation
        self._session = self._new_session()

    def __call__(self, action: TerminalAction, conversation: Any = None) -> TerminalObservation:
        """Carry the action out."""
        try:
            return super().__call__(action, conversation)
        except (ShellExited, OSError) as error:
            self._reset_single_session()
            text = f"{error}\n[The shell has ended and was started again: directory and variables are as at the start.]"
            return TerminalObservation.from_text(text=text.strip(), command=action.command, exit_code=-1, is_error=True)

    def _reset_single_session(self) -> TerminalObservation:
        self._session.close()
        self._session = self._new_session()
        return TerminalObservation.from_text(text=self._RESET_TEXT, command="[RESET]", exit_code=0)

    def _new_session(self) -> TerminalSession:
        terminal = SandboxTerminal(self._conversation, self._working_dir)
        session = TerminalSession(terminal, self._conversation.options["no_change_timeout_s"])
        session.initialize()
        return session


class SandboxTerminalTool(TerminalTool):
    """Makes the stock tool, with the executor above."""

    name = TerminalTool.name

    @classmethod
    def create(cls, conv_state: Any, conversation: str) -> Sequence[TerminalTool]:
        """The tool of a conversation that is in `using`."""
        return TerminalTool.create(conv_state, executor=SandboxTerminalExecutor(_conversations[conversation]))


register_tool(TerminalTool.name, SandboxTerminalTool)


@contextmanager
def using(conversation: Conversation) -> Iterator[None]:
    """Let tools find the conversation by its id, in a registry of the whole process."""
    _conversations[conversation.id] = conversation
    try:
        yield
    finally:
        del _conversations[conversation.id]
