"""Bug hunts: an environment of the shape of a software task, for policies of some 50,000 weights. Imports no torch.

    prompt      user symptom-3 me
    response    so look end             tool   tool file-6 file-2 file-3 file-7 me
    response    maybe open file-3 end   tool   tool content-1 me
    response    well edit fix-5 end     tool   tool ok me
    response    so test end             tool   tool fail me
    ...         (open another file, or edit again, and test)
    response    so stop end

A word is one token. One of the listed files has the bug: which one depends on the symptom, and which fix is right on
the symptom and on what the file contains. Nothing tells the policy of these two tables but demonstrations and rewards.
The word that a response begins with does nothing, as most words of a thought. Only the last edit counts, and opening a
file takes back what was edited before.
"""

import random
import zlib
from collections.abc import Iterator, Sequence
from typing import NamedTuple

from swe_aem.core import Outcome

PAD, END, USER, TOOL, ME, LOOK, OPEN, EDIT, TEST, STOP, OK, FAIL, PASS = range(13)
WORDS = range(13, 17)
CONTENTS = range(17, 19)
SYMPTOMS = range(20, 28)
FILES = range(28, 36)
FIXES = range(36, 44)

KNOWN, UNSURE, MISTAKEN = SYMPTOMS[:5], SYMPTOMS[5:6], SYMPTOMS[6:]
"""Symptoms that the demonstrator knows something of, nothing of, and of which it believes in a wrong fix."""
LISTED = 4
"""Files of a task."""
MAX_TURNS = 9
MAX_RESPONSE_TOKENS = 6
MAX_TOKENS = 84
"""Above the longest trajectory, which looks in every turn."""
PROMPT_TOKENS = 3
_HELDOUT_OF = 4
"""One of so many tasks is held out."""

_TABLE = random.Random(20)
_FIX = {(symptom, content): _TABLE.choice(FIXES) for symptom in SYMPTOMS for content in CONTENTS}
_WRONG = {key: _TABLE.choice([one for one in FIXES if one != right]) for key, right in _FIX.items()}
"""The fix that the demonstrator believes in where it is mistaken."""


class Task(NamedTuple):
    """One bug."""

    symptom: int
    files: tuple[int, ...]
    """In the order in which they are listed."""
    contents: tuple[int, ...]
    """What these files contain, in the same order."""
    faulty: int
    """The place of the file with the bug."""

    @property
    def id(self) -> str:
        """Its text."""
        listed = "-".join(f"{file - FILES[0]}{'ab'[one - CONTENTS[0]]}" for file, one in zip(*self[1:3], strict=True))
        return f"symptom-{self.symptom - SYMPTOMS[0]}-{listed}"

    @property
    def fix(self) -> int:
        """What fixes it."""
        return _FIX[self.symptom, self.contents[self.faulty]]

    @property
    def is_heldout(self) -> bool:
        """Is it never trained on? That depends on the symptom, the set of files and what the faulty one contains."""
        what = f"{self.symptom} {sorted(self.files)} {self.contents[self.faulty]}"
        return zlib.crc32(what.encode()) % _HELDOUT_OF == 0


def tasks(dice: random.Random, *, heldout: bool) -> Iterator[Task]:
    """Tasks without end, all held out or none."""
    while True:
        symptom = dice.choice(SYMPTOMS)
        place = symptom - SYMPTOMS[0]
        pair = [FILES[place], FILES[(place + 3) % len(FILES)]]
        right = dice.choice(pair)
        files = [right, *dice.sample([file for file in FILES if file not in pair], LISTED - 1)]
        dice.shuffle(files)
        found = Task(symptom, tuple(files), tuple(dice.choice(CONTENTS) for _ in files), files.index(right))
        if found.is_heldout == heldout:
            yield found


class Hunt:
    """The state of one trajectory's repository, and what its tool answers."""

    def __init__(self, task: Task) -> None:
        self.task = task
        self.opened: int | None = None
        """The file that is open."""
        self.edited: int | None = None
        """The fix that it has been given."""
        self.looked = False
        self.tested: bool | None = None
        """What the last test said; None if there was none since the last change."""
        self.turns = 0
        self.outcome: Outcome | None = None
        """None until it has ended."""

    @property
    def prompt(self) -> list[int]:
        """What the policy reads first."""
        return [USER, self.task.symptom, ME]

    @property
    def is_fixed(self) -> bool:
        """Would the tests pass now?"""
        return self.opened == self.task.files[self.task.faulty] and self.edited == self.task.fix

    @property
    def resolved(self) -> bool:
        """The verdict once it has ended, also where the turns ran out; a malformed response is no success."""
        return self.is_fixed and self.outcome is not Outcome.MALFORMED

    def answer(self, response: Sequence[int]) -> list[int]:
        """Carry out a response, its last token included; returns the tool's answer, which is empty at the end."""
        self.turns += 1
        said = self._carry_out(tuple(response))
        if self.outcome is None and self.turns == MAX_TURNS:
            self.outcome = Outcome.TURN_LIMIT
        return [] if self.outcome is not None else [TOOL, *said, ME]

    def _carry_out(self, response: tuple[int, ...]) -> list[int]:
        match response:
            case (word, action, end) if word in WORDS and end == END and action in (LOOK, TEST, STOP):
                return self._plain(action)
            case (word, action, what, end) if word in WORDS and end == END and action in (OPEN, EDIT):
                if action == OPEN and what in self.task.files:
                    self.opened, self.edited, self.tested = what, None, None
                    return [self.task.contents[self.task.files.index(what)]]
                if action == EDIT and what in FIXES and self.opened is not None:
                    self.edited, self.tested = what, None
                    return [OK]
        self.outcome = Outcome.MALFORMED
        return []

    def _plain(self, action: int) -> list[int]:
        if action == LOOK:
            self.looked = True
            return list(self.task.files)
        if action == TEST:
            self.tested = self.is_fixed
            return [PASS if self.is_fixed else FAIL]
        nothing = Outcome.EMPTY_PATCH if self.edited is None else Outcome.UNRESOLVED
        self.outcome = Outcome.RESOLVED if self.is_fixed else nothing
        return []


class Skill(NamedTuple):
    """How good the demonstrator is."""

    aim: float
    """Chance that it knows the file, or the fix, where the symptom is known; otherwise it guesses."""
    mistake: float = 0.5
    """Chance that it tries the fix that it believes in, where it is mistaken."""


class Demonstrator:
    """Plays hunts as the policy is taught to: in a sensible order, and often wrong."""

    def __init__(self, skill: Skill, dice: random.Random) -> None:
        self._skill = skill
        self._dice = dice

    def response(self, hunt: Hunt) -> list[int]:
        """The next response."""
        action, *what = self._action(hunt)
        word = WORDS[0] if action in (LOOK, TEST, STOP) else self._dice.choice(WORDS)
        return [word, action, *what, END]

    def _action(self, hunt: Hunt) -> list[int]:
        if not hunt.looked:
            return [LOOK]
        if hunt.opened is None:
            return [OPEN, self._file(hunt.task)]
        if hunt.edited is None:
            return [EDIT, self._fix(hunt)]
        if hunt.tested is None:
            return [TEST] if self._dice.random() < 0.9 else [STOP]
        if hunt.tested:
            return [STOP]
        return self._dice.choices([[OPEN, self._file(hunt.task)], [EDIT, self._fix(hunt)], [STOP]], [0.35, 0.2, 0.45])[
            0
        ]

    def _file(self, task: Task) -> int:
        knows = task.symptom not in UNSURE and self._dice.random() < self._skill.aim
        return task.files[task.faulty] if knows else self._dice.choice(task.files)

    def _fix(self, hunt: Hunt) -> int:
        symptom = hunt.task.symptom
        assert hunt.opened is not None
        key = symptom, hunt.task.contents[hunt.task.files.index(hunt.opened)]
        if symptom in KNOWN and self._dice.random() < self._skill.aim:
            return _FIX[key]
        if symptom in MISTAKEN and self._dice.random() < self._skill.mistake:
            return _WRONG[key]
        return self._dice.choice(FIXES)


class Demonstration(NamedTuple):
    """What the demonstrator made of a task."""

    token_ids: list[int]
    sampled: list[bool]
    """Which tokens are those of responses."""
    outcome: Outcome


def demonstration(task: Task, demonstrator: Demonstrator) -> Demonstration:
    """One hunt of the demonstrator."""
    hunt = Hunt(task)
    ids, sampled = hunt.prompt, [False] * PROMPT_TOKENS
    while hunt.outcome is None:
        response = demonstrator.response(hunt)
        answer = hunt.answer(response)
        ids += [*response, *answer]
        sampled += [True] * len(response) + [False] * len(answer)
    return Demonstration(ids, sampled, hunt.outcome)
