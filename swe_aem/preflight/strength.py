"""How strong a task's tests are: mutants of its gold patch, graded as patches of a policy are."""

import asyncio
from dataclasses import replace

from pydantic import Field

from swe_aem.core.base import Frozen
from swe_aem.errors import ControlFailed, HostFailed, InfrastructureError, StartError, Starved
from swe_aem.grading import Change, clean_delta, render_delta
from swe_aem.preflight.mutants import Mutants, make_mutants
from swe_aem.preflight.probe import Network, NotChecked, Probe
from swe_aem.rollout import ROUNDS_THAT_DECIDE
from swe_aem.tasks import LockEntry

_TIMES_AS_LONG = 10
_EXTRA_S = 20.0


class StrengthConfig(Frozen):
    """How the strength of tests is measured."""

    mutants: int = Field(default=0, ge=0)
    """Most mutants per task; 0 measures nothing."""
    seed: int = 0
    """Which ones; the same seed makes the same."""

    def wants(self, entry: LockEntry) -> bool:
        """Is there something to measure that the entry does not say? Only for a task that its gold patch resolves."""
        known = entry.mutants is not None and entry.mutants_seed == self.seed and entry.mutants_wanted >= self.mutants
        return self.mutants > 0 and not known and entry.weight > 0


async def measure_strength(probe: Probe, config: StrengthConfig, entry: LockEntry) -> LockEntry | NotChecked:
    """The entry with what mutants say of the task's tests; `NotChecked` for infrastructure failures."""
    try:
        found = await _mutants_of(probe, config, entry.network)
        passes = [await _passes(_bounded(probe, entry), mutant.changes, entry.network) for mutant in found.made]
    except InfrastructureError as error:
        why = f"the strength of its tests: {type(error).__name__}: {error}"
        return NotChecked(task_id=probe.record.task.id, why=why)
    survivors = tuple(mutant.what for mutant, passed in zip(found.made, passes, strict=True) if passed)
    return entry.model_copy(
        update={
            "mutants": sum(passed is not None for passed in passes),
            "mutants_passed": len(survivors),
            "mutants_equivalent": found.equivalent,
            "mutants_wanted": config.mutants,
            "mutants_seed": config.seed,
            "survivors": survivors,
        }
    )


async def _mutants_of(probe: Probe, config: StrengthConfig, network: Network) -> Mutants:
    record = probe.record
    gold = await probe.gold_delta(network)
    accepted = clean_delta(gold, record.key, lambda path: None, workdir=record.task.workdir).accepted
    return await asyncio.to_thread(make_mutants, accepted, config.mutants, f"{config.seed} {record.task.id}")


def _bounded(probe: Probe, entry: LockEntry) -> Probe:
    """The probe with the limit of the evaluation script for mutants: those that need ten times as long as the gold
    patch did hang."""
    key = probe.record.key
    limit_s = min(key.timeout_s, _TIMES_AS_LONG * entry.max_test_s + _EXTRA_S)
    record = probe.record.model_copy(update={"key": key.model_copy(update={"timeout_s": limit_s})})
    return replace(probe, record=record)


async def _passes(probe: Probe, changes: tuple[Change, ...], network: Network) -> bool | None:
    """Do the tests let a mutant pass? None if nothing of it could be graded.

    Grading that fails many times in a row, each time beside a gold patch that is graded well, is the mutant's doing: as
    for a policy, it is not paid. Other infrastructure failures are raised.
    """
    delta = await asyncio.to_thread(render_delta, changes)
    in_a_row = excused = 0
    while in_a_row < ROUNDS_THAT_DECIDE:
        try:
            verdict = (await probe.run(delta, network)).verdict
            return verdict.resolved if verdict.patch_applied else None
        except InfrastructureError as error:
            if await _is_the_mutants_doing(probe, error, network):
                in_a_row += 1
                continue
            in_a_row, excused = 0, excused + 1
            if excused >= probe.config.scheduling.max_attempts:
                raise
    return False


async def _is_the_mutants_doing(probe: Probe, error: InfrastructureError, network: Network) -> bool:
    """Was it the mutant that kept grading from a verdict, as far as one failure can say: is the gold patch graded?"""
    if isinstance(error, (Starved, ControlFailed, HostFailed, StartError)):
        return False
    try:
        await probe.golds(1, network)
    except InfrastructureError:
        return False
    return True
