"""What the index of a store is asked, and what it answers."""

from typing import Literal, NamedTuple

from pydantic import Field

from swe_aem.core import Outcome, TrajectoryKey
from swe_aem.core.base import Frozen

LARGEST_PAGE = 500
"""Rows that a page may have."""

TextPlace = Literal["anywhere", "conversation", "patch", "failure"]
"""Where a text is searched: `conversation` is messages, reasoning, tool calls and observations; `failure` is the error,
what grading says, and the end of the evaluation's log."""

SortColumn = Literal[
    "written",
    "task",
    "outcome",
    "reward",
    "step",
    "attempt",
    "turns",
    "tool_calls",
    "malformed_calls",
    "tokens",
    "sampled_tokens",
    "branches",
    "patch_bytes",
    "patch_files",
    "total_s",
    "agent_s",
    "grade_s",
    "agent",
    "model",
    "stop",
]
"""What a list can be sorted by; `written` is the order of writing."""

FacetName = Literal["outcome", "tool", "label", "agent", "model", "stop", "step", "cause"]
"""What trajectories are counted by."""


class Filter(Frozen):
    """Which trajectories. Every condition given must hold; the values of one condition are alternatives, but for tools
    and labels, all of which a trajectory must have. Ranges include both ends."""

    text: str = ""
    """Words to search for, as `swe_aem.view.index.words` reads them."""
    text_in: TextPlace = "anywhere"
    outcomes: tuple[Outcome, ...] = ()
    tasks: tuple[str, ...] = ()
    """Ids of tasks."""
    task_part: str = ""
    """A part of the id of a task; letter case makes no difference."""
    tools: tuple[str, ...] = ()
    labels: tuple[str, ...] = ()
    """Audit labels."""
    agents: tuple[str, ...] = ()
    models: tuple[str, ...] = ()
    stops: tuple[str, ...] = ()
    causes: tuple[str, ...] = ()
    """Causes of failures, as the facet `cause` has them."""
    resolved: bool | None = None
    disputed: bool | None = None
    """Do our verdict and swebench's own rule disagree?"""
    has_error: bool | None = None
    min_step: int | None = None
    max_step: int | None = None
    min_reward: float | None = None
    max_reward: float | None = None
    min_turns: int | None = None
    max_turns: int | None = None
    min_tokens: int | None = None
    max_tokens: int | None = None
    min_total_s: float | None = None
    max_total_s: float | None = None


class Order(Frozen):
    """How a list is sorted. Equal values stand in the order of task and sample; missing values stand last."""

    by: SortColumn = "written"
    descending: bool = True


NEWEST_FIRST = Order()


class IndexedTrajectory(Frozen):
    """One trajectory, as lists show it."""

    task_id: str
    sample: int
    block: int
    """Number of its group among those of its task: training rolls a task out again in each epoch."""
    step: int | None
    """The training step that rolled it out, from 1; None outside of training."""
    attempt: int
    outcome: Outcome
    reward: float | None
    counts: bool
    """Does it count in its group's baseline?"""
    resolved: bool
    official_resolved: bool | None
    """What swebench's own parser and rule say; None where they cannot say."""
    agent: str
    model: str
    stop: str | None
    first_version: int | None
    """The oldest version of the weights that sampled a response; None if nothing was sampled."""
    last_version: int | None
    turns: int
    tool_calls: int
    malformed_calls: int
    tokens: int
    sampled_tokens: int
    branches: int
    patch_bytes: int
    patch_files: tuple[str, ...]
    """Paths that the patch names, the first ones of very many."""
    has_log: bool
    """Was the log of its evaluation kept?"""
    error: str | None
    """What failed, shortened."""
    integrity: tuple[str, ...]
    """Evidence of cheating, one line each."""
    tools: dict[str, int]
    """Calls by name of the tool."""
    labels: tuple[str, ...]
    """Audit labels."""
    timings_s: dict[str, float]
    """Seconds by phase."""

    @property
    def key(self) -> TrajectoryKey:
        """Which trajectory of the store it is."""
        return TrajectoryKey(self.task_id, self.sample)

    @property
    def id(self) -> str:
        """`<task id>.<sample>`."""
        return str(self.key)

    @property
    def total_s(self) -> float | None:
        """Seconds from the queue to the verdict."""
        return self.timings_s.get("total")


class Page(Frozen):
    """One page of a list."""

    rows: tuple[IndexedTrajectory, ...]
    total: int
    """Trajectories that the filter lets through, on all pages."""
    number: int
    """From 1."""
    size: int
    """Rows that a page has at most."""

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.size))


class FacetValue(NamedTuple):
    """One value and how many trajectories have it."""

    value: str
    trajectories: int
    counted: int
    """Those among them whose outcome says something about the policy."""
    resolved: int
    """Those of `counted` that resolved their task."""


class Neighbours(Frozen):
    """What is beside a trajectory."""

    previous: TrajectoryKey | None
    """The one before it in the list that it was reached from."""
    next: TrajectoryKey | None
    place: int | None
    """Its number in that list, from 1; None if it is not in it."""
    total: int
    group: tuple[IndexedTrajectory, ...]
    """All trajectories of its group, itself included, by sample."""


class GroupMember(NamedTuple):
    """One trajectory of a group."""

    sample: int
    outcome: Outcome
    reward: float | None
    counts: bool
    resolved: bool


class Group(Frozen):
    """The trajectories of one task that share a baseline."""

    task_id: str
    block: int
    step: int | None
    members: tuple[GroupMember, ...]
    """By sample."""
    zero_variance: bool
    """Are all rewards that count equal, so that nothing is learned from it?"""
    broken: bool
    """Is its task broken, so that it was dropped?"""

    @property
    def counted(self) -> int:
        """Trajectories that count in the baseline."""
        return sum(one.counts for one in self.members)

    @property
    def resolved(self) -> int:
        """Trajectories among those that resolved the task."""
        return sum(one.resolved and one.counts for one in self.members)

    @property
    def reward(self) -> float | None:
        """Mean reward of those that count; None without any."""
        rewards = [one.reward for one in self.members if one.counts and one.reward is not None]
        return sum(rewards) / len(rewards) if rewards else None


GroupOrder = Literal["task", "step", "reward", "resolved", "size"]


class GroupPage(Frozen):
    """One page of a list of groups."""

    groups: tuple[Group, ...]
    total: int
    """Groups on all pages."""
    zero_variance: int
    """Zero-variance groups among those."""
    number: int
    size: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.size))


class MatrixColumn(NamedTuple):
    """One or more steps, samples or groups beside each other."""

    first: int
    last: int


class MatrixCell(NamedTuple):
    """The trajectories of one task in one column."""

    trajectories: int
    counted: int
    """Those among them whose outcome says something about the policy."""
    resolved: int
    reward: float | None
    """Mean of those that count; None without any."""

    @property
    def rate(self) -> float | None:
        """Share that resolved the task, 0..1; None if none counts."""
        return self.resolved / self.counted if self.counted else None


class MatrixRow(Frozen):
    """One task."""

    task_id: str
    cells: tuple[MatrixCell | None, ...]
    """One per column; None where nothing was rolled out."""
    all: MatrixCell
    change: float | None
    """Resolved rate after the matrix's `pivot` minus that up to it; None if nothing counts on one side."""


MatrixOrder = Literal["task", "rate", "change"]


class Matrix(Frozen):
    """Solve rates, task by task."""

    by: Literal["step", "sample"]
    """What columns are: training steps, or where there are none, numbers of samples."""
    columns: tuple[MatrixColumn, ...]
    pivot: int | None
    """Last step or sample of the earlier part, which the later one is compared with; None with one column."""
    rows: tuple[MatrixRow, ...]
    """The tasks of this page."""
    all: MatrixRow
    """All tasks together; its `task_id` is empty."""
    total: int
    """Tasks on all pages."""
    compared: int
    """Those of them that have a change."""
    number: int
    size: int

    @property
    def pages(self) -> int:
        """How many pages there are, at least one."""
        return max(1, -(-self.total // self.size))


class Totals(Frozen):
    """A store in numbers, as far as it is indexed."""

    trajectories: int
    tasks: int
    groups: int
    counted: int
    resolved: int
    reward: float | None
    """Mean of those that count."""
    outcomes: dict[Outcome, int]
    tokens: int
    sampled_tokens: int
    first_step: int | None
    last_step: int | None

    @property
    def rate(self) -> float | None:
        """Share that resolved the task among those that count; None without any."""
        return self.resolved / self.counted if self.counted else None


class DamagedRow(NamedTuple):
    """A row that could not be read; all others are indexed."""

    segment: str
    """Name of the file."""
    line: int
    """From 1."""
    reason: str


class Progress(Frozen):
    """How far a store is indexed."""

    rows: int
    """Rows that are in the index."""
    damaged: int
    """Rows that could not be read."""
    bytes_done: int
    bytes_total: int
    """Bytes of the store's segments now."""
    bytes_per_s: float = Field(ge=0)
    """Measured while it was last indexed."""
    wanted: int | None = None
    """Trajectories that the run asks for; None if nothing says so."""
    failure: str | None = None
    """Why indexing stopped; None if it did not fail."""

    @property
    def complete(self) -> bool:
        """Is everything indexed that can be?"""
        return self.bytes_done >= self.bytes_total

    @property
    def left_s(self) -> float | None:
        """Seconds that the rest will take; None where nothing was measured."""
        return (self.bytes_total - self.bytes_done) / self.bytes_per_s if self.bytes_per_s else None


class Snippet(NamedTuple):
    """A place in a trajectory where a searched text stands."""

    place: str
    """e.g. `turn 3, observation`, `patch`."""
    turn: int | None
    """Number of the response, from 1; None for what belongs to no response."""
    before: str
    match: str
    after: str
