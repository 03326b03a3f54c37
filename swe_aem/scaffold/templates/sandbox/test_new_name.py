import asyncio
from pathlib import Path

from new_name import NewName

from swe_aem.core import SandboxSpec
from swe_aem.testing import SandboxConformance

SETTING = {"type": f"{Path(__file__).with_name('new_name.py')}:NewName", "variables": {"COLOUR": "green"}}


class TestNewName(SandboxConformance):
    """Does it do what every sandbox must do? Takes ten seconds or more; `-k` chooses tests."""

    sandbox = SETTING


def test_commands_have_the_variables(tmp_path: Path) -> None:
    async def colour() -> str:
        spec = SandboxSpec(image="swe-aem/micro:1", workspace=tmp_path)
        async with NewName(variables={"COLOUR": "green"}).backend() as backend, backend.open(spec) as sandbox:
            return (await sandbox.run("echo $COLOUR", timeout_s=60)).output

    assert asyncio.run(colour()) == "green\n"
