"""The errors of this project, by what follows from them.

`UserError` is printed without a traceback and must name the fix. `InfrastructureError` ends an attempt: the
orchestrator measures whose failure it was (`swe_aem.rollout.attribution`), retries in a fresh sandbox what the policy
did not cause and, if that fails too, records an outcome that has no reward. Anything else is a bug and is allowed to
surface.
"""


class SweAemError(Exception):
    """Base of every error that this package raises on purpose."""


class UserError(SweAemError):
    """Bad input or a missing prerequisite; the message says what to change."""


class TaskUnusable(UserError):
    """What one task names cannot be used, such as its image or its work tree. Of many tasks a run leaves it out."""


class RunAborted(SweAemError):
    """A run was stopped because nothing worked any more; its store is intact, and a rerun resumes it."""


class ExtensionFailed(SweAemError):
    """Code that a user brought, such as a reward function, raised or gave what it must not give. `__cause__` is its
    own exception, if there is one."""


class InfrastructureError(SweAemError):
    """An infrastructure failure (engine, sandbox, policy server, grader): it says nothing about the policy."""


class StartError(InfrastructureError):
    """A sandbox could not be started."""


class SandboxDead(InfrastructureError):
    """The sandbox is gone; nothing can be run in it any more."""


class PolicyError(InfrastructureError):
    """The policy could not produce a completion although nothing is wrong with the request."""


class BudgetSpent(PolicyError):
    """A run's budget is used up, so a request was not sent. No failure: a rerun with more rolls the trajectory out."""


class HarnessError(InfrastructureError):
    """A harness failed in a way that says nothing about the policy: a lost process, an exception of its own."""


class HarnessRaised(HarnessError):
    """The harness's own code raised; the message has its traceback."""


class GraderError(InfrastructureError):
    """Grading did not reach a verdict. Whether the patch is the cause, a control shows."""


class ControlFailed(InfrastructureError):
    """What has to be known before a patch is graded could not be found out; no line of the patch has run."""


class HostFailed(InfrastructureError):
    """A call of this host's own failed outside of every sandbox, as on a full disk, for no reason that a policy can
    have caused: direct evidence of an infrastructure failure, whatever a control shows a moment later."""


class ImageLost(SandboxDead, HostFailed):
    """What the host keeps a sandbox's image on failed while the sandbox ran. From then on nothing that it answers says
    anything about the policy."""


class Starved(GraderError):
    """Others had the processors of the host for so long that an evaluation, or reading its log, came to no end."""


def why_unreadable(error: OSError | UnicodeDecodeError) -> str:
    """Why a text file could not be read, in a few words without the file's name."""
    return "not UTF-8" if isinstance(error, UnicodeDecodeError) else error.strerror or str(error)
