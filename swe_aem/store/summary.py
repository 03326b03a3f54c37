"""`summary.json`: the numbers of a store, and how long it took to fill.

Everything but `wall_s`, `surplus_cancelled` and `trajectories_per_min` is computed from the stored trajectories, so
that a resumed run has the totals of all its processes.
"""

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping
from pathlib import Path

from pydantic import ConfigDict

from swe_aem.core import OUTCOME_TABLE, Outcome, Trajectory, TrajectoryKey
from swe_aem.core.base import Frozen
from swe_aem.core.explain import explain
from swe_aem.core.outcomes import is_resolved
from swe_aem.errors import UserError
from swe_aem.store.files import replace
from swe_aem.store.measurements import Measurements
from swe_aem.store.upgrade import FORMAT, upgrade_store_summary

FILE = "summary.json"


class Summary(Frozen):
    """Content of `summary.json`. Values are null where nothing was measured."""

    model_config = ConfigDict(extra="ignore")  # a resumed run reads it, whatever version of the format wrote it

    format: int = FORMAT
    agent: str | None = None
    """Agent of the trajectories, e.g. native; several with commas between them."""
    policy: str | None = None
    """Policy of the trajectories: a model's name, or that of a script; several with commas between them."""
    trajectories: int
    """Terminal records in the store."""
    wanted: int
    """Trajectories that the configuration asks for."""
    groups: int
    """Tasks with at least one trajectory."""
    groups_complete: int
    """Groups with at least `group_size` trajectories that count in the baseline."""
    resolved: int
    """Trajectories that resolved their task, those among them that a limit ended included."""
    resolved_rate: float
    """`resolved` over the trajectories that have a reward; infrastructure failures and broken tasks have none."""
    reward: float | None = None
    """Mean reward of those."""
    reward_terms: dict[str, float] = {}
    """Mean of each named term of the reward before its weight, over the trajectories that a reward function was asked
    about."""
    outcomes: dict[str, int]
    """Trajectories per outcome."""
    infrastructure_failures: int
    """Infrastructure and grader failures that no retry cured."""
    broken_tasks: dict[str, str] = {}
    """Task id to why its tests cannot be run, for each task that a control showed to be broken."""
    failed_attempts: int = 0
    """Lines of `failures.jsonl`: every attempt that failed, also those that left nothing in the store."""
    retries: int
    """Failed attempts of stored trajectories that were tried again."""
    surplus_cancelled: int
    """Trajectories cancelled because their group was complete; they leave no record."""
    turns: int
    """Responses of the policy."""
    tool_calls: int
    """Tool calls, malformed ones included."""
    malformed_calls: int = 0
    """Tool calls that could not be understood."""
    converted_calls: int = 0
    """Tool calls with an argument that did not fit as written and was converted without loss."""
    tokens: int
    """Tokens of all trajectories, prompts and observations included."""
    sampled_tokens: int
    """Tokens that the policy sampled."""
    billed_tokens: int = 0
    """Prompt and sampled tokens of every request, as an API bills them: a prompt counts at each turn, and so does what
    attempts used that left no record."""
    cost_usd: float | None = None
    """What all requests cost; null where no response says."""
    failure_causes: dict[str, int] = {}
    """How often attempts failed for each cause, those of trajectories that succeeded later included."""
    left_out: dict[str, str] = {}
    """Task id to why it was not rolled out, for tasks that name what is not there, such as an image. A rerun tries them
    again."""
    seconds_per_turn: float | None
    """Mean seconds of the policy per response."""
    tool_p50_s: float | None
    """Median seconds of a tool call."""
    tool_p95_s: float | None
    """95th percentile of that."""
    start_p50_s: float | None
    """Median seconds to start an agent's sandbox, the queue before it not counted."""
    start_p95_s: float | None
    """95th percentile of that."""
    agent_p50_s: float | None
    """Median seconds of the agent's loop."""
    grade_p50_s: float | None
    """Median seconds from asking for a verdict to having it."""
    grade_p95_s: float | None
    """95th percentile of that."""
    wall_s: float
    """Seconds that runs into this store took, all processes added up."""
    trajectories_per_min: float | None
    """`trajectories` over `wall_s`."""


class TrajectoryCounters(Frozen):
    """The numbers of one terminal trajectory that totals and reports need: all that is told of it without its text and
    its tokens."""

    key: TrajectoryKey
    outcome: Outcome
    agent: str
    model: str
    attempt: int
    """How many attempts ended in an infrastructure failure before the one that counts."""
    error: str | None
    reward: float | None
    reward_terms: dict[str, float]
    resolved: bool
    """Was the task resolved, a limit that ended the agent notwithstanding?"""
    tokens: int
    sampled_tokens: int
    billed_tokens: int
    cost_usd: float | None
    turn_s: tuple[float, ...]
    """Seconds of the policy for each response."""
    tool_s: tuple[float, ...]
    """Seconds of each tool call."""
    malformed_calls: int
    converted_calls: int
    timings_s: dict[str, float]
    """Seconds of each phase."""

    @property
    def in_baseline(self) -> bool:
        """Does the trajectory take part in its group's baseline?"""
        return OUTCOME_TABLE[self.outcome].in_baseline


def count_trajectory(trajectory: Trajectory) -> TrajectoryCounters:
    """The numbers of a terminal trajectory."""
    assert trajectory.outcome is not None, "only terminal trajectories are stored"
    calls = [call for response in trajectory.responses for call in response.tool_calls]
    billed = [response.used for response in trajectory.all_responses]
    costs = [one.cost_usd for one in billed if one.cost_usd is not None]
    return TrajectoryCounters(
        key=trajectory.key,
        outcome=trajectory.outcome,
        agent=trajectory.agent,
        model=trajectory.model,
        attempt=trajectory.attempt,
        error=trajectory.error,
        reward=trajectory.reward,
        reward_terms=trajectory.reward_terms,
        resolved=is_resolved(trajectory),
        tokens=trajectory.tokens,
        sampled_tokens=sum(response.used.completion_tokens for response in trajectory.responses),
        billed_tokens=sum(one.tokens for one in billed),
        cost_usd=sum(costs) if costs else None,
        turn_s=tuple(response.sample_s for response in trajectory.responses),
        tool_s=tuple(call.wall_s for call in calls),
        malformed_calls=sum(call.status == "malformed" for call in calls),
        converted_calls=sum(call.converted > 0 for call in calls),
        timings_s=trajectory.timings_s,
    )


class Totals:
    """Adds up trajectories; one pass over a store, then every new one as it is written."""

    def __init__(self) -> None:
        self.outcomes: Counter[Outcome] = Counter()
        self.counted: Counter[str] = Counter()
        """Per task, trajectories that count in the baseline."""
        self.tasks: set[str] = set()
        self.agents: set[str] = set()
        self.policies: set[str] = set()
        self.broken: dict[str, str] = {}
        """Tasks that are broken, each with the reason."""
        self.reward = 0.0
        """Rewards, summed."""
        self.reward_terms: defaultdict[str, Measurements] = defaultdict(Measurements)
        self.resolved = self.with_reward = self.failures = self.retries = 0
        self.turns = self.tool_calls = self.malformed_calls = self.converted_calls = 0
        self.tokens = self.sampled_tokens = 0
        self.billed_tokens = self.most_billed_tokens = 0
        self.cost_usd: float | None = None
        self.most_usd: float | None = None
        """The most that one trajectory cost; `most_billed_tokens` likewise."""
        self.turn_s, self.tool_s = Measurements(), Measurements()
        self.phase_s: defaultdict[str, Measurements] = defaultdict(Measurements)

    @property
    def trajectories(self) -> int:
        """How many have been added."""
        return self.outcomes.total()

    def add(self, trajectory: Trajectory) -> None:
        """Take one terminal trajectory."""
        self.add_counters(count_trajectory(trajectory))

    def add_counters(self, one: TrajectoryCounters) -> None:
        """Take the numbers of one terminal trajectory."""
        self.outcomes[one.outcome] += 1
        self.tasks.add(one.key.task_id)
        self.agents.add(one.agent)
        self.policies.add(one.model)
        self.counted[one.key.task_id] += one.in_baseline
        self.resolved += one.resolved
        self.with_reward += OUTCOME_TABLE[one.outcome].reward is not None
        self.reward += one.reward or 0.0
        for name, value in one.reward_terms.items():
            self.reward_terms[name].add(value)
        if one.outcome is Outcome.BROKEN_TASK:
            self.broken[one.key.task_id] = one.error or ""
        self.failures += OUTCOME_TABLE[one.outcome].retried
        self.retries += one.attempt
        self.tokens += one.tokens
        self.turns += len(one.turn_s)
        self.sampled_tokens += one.sampled_tokens
        self.tool_calls += len(one.tool_s)
        self.malformed_calls += one.malformed_calls
        self.converted_calls += one.converted_calls
        self.billed_tokens += one.billed_tokens
        self.most_billed_tokens = max(self.most_billed_tokens, one.billed_tokens)
        if one.cost_usd is not None:
            self.cost_usd = (self.cost_usd or 0.0) + one.cost_usd
            self.most_usd = max(self.most_usd or 0.0, one.cost_usd)
        for seconds in one.turn_s:
            self.turn_s.add(seconds)
        for seconds in one.tool_s:
            self.tool_s.add(seconds)
        for phase, seconds in one.timings_s.items():
            self.phase_s[phase].add(seconds)

    def summary(
        self,
        *,
        wanted: int,
        group_size: int,
        surplus_cancelled: int,
        wall_s: float,
        billed_tokens: int | None = None,
        cost_usd: float | None = None,
        failure_causes: Mapping[str, int] | None = None,
        left_out: Mapping[str, str] | None = None,
        failed_attempts: int = 0,
    ) -> Summary:
        """The summary of what has been added so far. The last five are what the trajectories alone do not say."""
        start, agent, grade = (self.phase_s[phase] for phase in ("start", "agent", "grade"))
        return Summary(
            agent=", ".join(sorted(filter(None, self.agents))) or None,
            policy=", ".join(sorted(filter(None, self.policies))) or None,
            trajectories=self.trajectories,
            wanted=wanted,
            groups=len(self.tasks),
            groups_complete=sum(count >= group_size for count in self.counted.values()),
            resolved=self.resolved,
            resolved_rate=self.resolved / self.with_reward if self.with_reward else 0.0,
            reward=self.reward / self.with_reward if self.with_reward else None,
            reward_terms={name: values.mean() or 0.0 for name, values in sorted(self.reward_terms.items())},
            outcomes={outcome.value: count for outcome, count in sorted(self.outcomes.items())},
            infrastructure_failures=self.failures,
            broken_tasks=dict(sorted(self.broken.items())),
            failed_attempts=max(failed_attempts, self.retries + self.failures),  # older stores have no failures.jsonl
            retries=self.retries,
            surplus_cancelled=surplus_cancelled,
            turns=self.turns,
            tool_calls=self.tool_calls,
            malformed_calls=self.malformed_calls,
            converted_calls=self.converted_calls,
            tokens=self.tokens,
            sampled_tokens=self.sampled_tokens,
            billed_tokens=self.billed_tokens if billed_tokens is None else billed_tokens,
            cost_usd=self.cost_usd if cost_usd is None else cost_usd,
            failure_causes=dict(sorted((failure_causes or {}).items(), key=lambda one: -one[1])),
            left_out=dict(sorted((left_out or {}).items())),
            seconds_per_turn=self.turn_s.mean(),
            tool_p50_s=self.tool_s.quantile(0.5),
            tool_p95_s=self.tool_s.quantile(0.95),
            start_p50_s=start.quantile(0.5),
            start_p95_s=start.quantile(0.95),
            agent_p50_s=agent.quantile(0.5),
            grade_p50_s=grade.quantile(0.5),
            grade_p95_s=grade.quantile(0.95),
            wall_s=wall_s,
            trajectories_per_min=60 * self.trajectories / wall_s if wall_s > 0 else None,
        )


def broken_task_lines(broken: Mapping[str, str]) -> Iterator[str]:
    """What a person reads of broken tasks: each with its reason, and what to do."""
    for task_id, why in broken.items():
        yield f"BROKEN TASK, no sample of it counts: {task_id}: {why}"
    if broken:
        yield (
            f"look closer with `swe-aem sandbox shell {next(iter(broken))} --tasks SET --apply gold` and run its tests "
            "there; the directory logs/ has all that they said"
        )


def write_summary(directory: Path, summary: Summary) -> None:
    """Replace `summary.json`."""
    replace(directory / FILE, summary.model_dump_json(indent=2) + "\n")


def read_summary(directory: Path) -> Summary | None:
    """The summary of an earlier process, None if there is none; raises `UserError` if it cannot be understood."""
    path = directory / FILE
    try:
        return Summary.model_validate(upgrade_store_summary(json.loads(path.read_text(encoding="utf-8")), str(path)))
    except FileNotFoundError:
        return None
    except ValueError as error:
        raise UserError(
            f"{path} cannot be read ({explain(error, Summary)}); delete it, and the next run writes it again"
        ) from error
