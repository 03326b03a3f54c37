"""The scripted trajectory: twelve actions of an agent that fixes a bug in a small git repository."""

import subprocess
from pathlib import Path

from contenders.base import Box

FILES = {
    "ledger/__init__.py": '"""A small ledger."""\n\nfrom ledger.account import Account\n\n__all__ = ["Account"]\n',
    "ledger/account.py": '''"""Accounts with a balance and a history."""


class Account:
    """Money of one owner, in cents."""

    def __init__(self, owner: str, balance: int = 0) -> None:
        self.owner = owner
        self.balance = balance
        self.history: list[int] = []

    def deposit(self, cents: int) -> None:
        if cents <= 0:
            raise ValueError("a deposit is positive")
        self.balance += cents
        self.history.append(cents)

    def withdraw(self, cents: int) -> None:
        if cents >= self.balance:
            raise ValueError("the balance is too small")
        self.balance -= cents
        self.history.append(-cents)

    def statement(self) -> str:
        lines = [f"{change / 100:+10.2f}" for change in self.history]
        return "\\n".join([self.owner, *lines, f"{self.balance / 100:10.2f}"])
''',
    "tests/test_account.py": """import pytest

from ledger import Account


@pytest.mark.parametrize("cents", [1, 50, 10_000])
def test_deposit(cents):
    account = Account("ada")
    account.deposit(cents)
    assert account.balance == cents


@pytest.mark.parametrize("cents", [0, -1])
def test_deposit_is_positive(cents):
    with pytest.raises(ValueError, match="positive"):
        Account("ada").deposit(cents)


def test_withdraw_part():
    account = Account("ada", 100)
    account.withdraw(40)
    assert account.balance == 60


def test_withdraw_everything():
    account = Account("ada", 100)
    account.withdraw(100)
    assert account.balance == 0


def test_withdraw_too_much():
    with pytest.raises(ValueError, match="too small"):
        Account("ada", 100).withdraw(101)


def test_statement():
    account = Account("ada", 0)
    account.deposit(250)
    account.withdraw(50)
    assert account.statement().splitlines() == ["ada", "     +2.50", "     -0.50", "      2.00"]
""",
    "conftest.py": "",
    ".gitignore": "__pycache__/\n.pytest_cache/\n",
}
"""The repository; `Account.withdraw` refuses to empty an account."""

_TRY = "from ledger import Account; a = Account('ada', 100); a.withdraw(100); print(a.balance)"

ACTIONS = (
    ("ls -la && git log --oneline | head -n 5", 0),
    ("cat ledger/account.py", 0),
    ("grep -rn withdraw ledger tests", 0),
    ("python -m pytest -q tests", 1),
    ("sed -n '20,40p' tests/test_account.py", 0),
    (f'python -c "{_TRY}"', 1),
    ("sed -i 's/cents >= self.balance/cents > self.balance/' ledger/account.py", 0),
    ("git diff --stat", 0),
    (f'python -c "{_TRY}"', 0),
    ("python -m pytest -q tests", 0),
    ("git status --short", 0),
    ("git diff", 0),
)
"""Command lines and the exit codes that they must have."""


def make_repository(root: Path) -> None:
    """Write the repository to `root` and commit it."""
    for name, text in FILES.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    author = ["-c", "user.name=benchmark", "-c", "user.email=benchmark@localhost", "-c", "init.defaultBranch=main"]
    for command in (["init", "-q"], ["add", "--all"], ["commit", "-q", "-m", "Add a ledger"]):
        subprocess.run(["git", *author, *command], cwd=root, check=True)


async def play(box: Box) -> None:
    """Play the actions. Raises `RuntimeError` if one has the wrong exit code."""
    output = ""
    for command, expected in ACTIONS:
        exit_code, output = await box.run(command)
        if exit_code != expected:
            raise RuntimeError(f"{command!r} ended with {exit_code} instead of {expected}: {output[-2000:]}")
    if "+        if cents > self.balance:" not in output:
        raise RuntimeError(f"the last action's diff lacks the fix: {output[-2000:]}")
