"""Our exceptions, and the exit code each of them ends the command line with.

* RemediateError            something the operator can act on                     exit 1
  + UsageError              bad input: an argument, a name, a file                exit 64
    - ConfigError           a setting is missing or wrong
    - CatalogError          a plan is malformed (file and line)
    - TargetError           a target that is not one exact inventory host
    - InventoryError        the inventory cannot be read
  + PermissionRefused       this identity may not do that                         exit 3
  + ExecutorError           a phase could not be carried out                      exit 2
  + WorkerError             the worker cannot be started or reached               exit 1
  + AuditError              the trail cannot be written or read                   exit 8
    - AuditUnavailable      nothing may be begun, because it could not be recorded

A refusal by a guard is a value (`remediate.model.guard.Verdict`), not an exception: being told
"no" is normal. So are outcomes; `ExitCode` maps them.
"""

from __future__ import annotations

from enum import IntEnum


class ExitCode(IntEnum):
    """How a command ended, as the shell sees it."""

    OK = 0  #: recovered, self-healed or plain success
    INTERNAL = 1  #: a defect of ours
    FAILED = 2  #: the run failed
    REFUSED = 3  #: a guard or a role said no
    UNREACHABLE = 4  #: the target did not answer
    AWAITING_APPROVAL = 5  #: a second person has to decide
    UNKNOWN = 6  #: acted, but not verified
    ROLLED_BACK = 7  #: the remedy did not help and was taken back
    AUDIT = 8  #: the audit trail does not verify or cannot be written
    USAGE = 64  #: bad input


class RemediateError(Exception):
    """Something the operator can act on; `str()` is a sentence for people."""

    exit_code = ExitCode.INTERNAL


class UsageError(RemediateError):
    """Bad input: what was found, what was expected and what to do."""

    exit_code = ExitCode.USAGE


class ConfigError(UsageError):
    """A setting is missing, unknown or wrong."""


class CatalogError(UsageError):
    """A plan is malformed; the message opens with file and line."""


class TargetError(UsageError):
    """The target is not one exact inventory host."""


class InventoryError(UsageError):
    """The inventory cannot be read."""


class PermissionRefused(RemediateError):
    """This identity may not do that."""

    exit_code = ExitCode.REFUSED


class ExecutorError(RemediateError):
    """A phase could not be carried out."""

    exit_code = ExitCode.FAILED


class WorkerError(RemediateError):
    """The worker cannot be started or reached."""


class AuditError(RemediateError):
    """The audit trail cannot be written or read."""

    exit_code = ExitCode.AUDIT


class AuditUnavailable(AuditError):
    """The trail cannot be written; before a run has begun to act, that means nothing is done."""
