"""A box for code that is not trusted: Linux namespaces around a fork of a warm Python process.

The sandboxed code goes on in Python after the fork, so nothing is imported again. It reads an allow-list of paths,
writes to a small private ``/tmp``, has no network, no capability and no process to see but its own, and its whole tree
of processes dies with it. The shape is always the same::

    caller ──fork──▸ keeper ──fork──▸ body           the keeper is outside the PID namespace
                          └─spawn──▸ init (cat)      pid 1 of the namespace: when it ends, all of the namespace ends

The keeper holds the only write end of the pipe that ``init`` reads: if the keeper is killed, ``init`` reads the end of
file and goes, and the kernel kills the rest. ``init`` is ``cat``, since a fork of a large process would cost much more.
"""

from grading.sandbox.groups import cgroups
from grading.sandbox.keeper import Sandboxed, spawn
from grading.sandbox.paths import default_readable
from grading.sandbox.policy import Limits, Policy
from grading.sandbox.probe import unavailable
from grading.sandbox.warm import cheapen_forks

__all__ = ["Limits", "Policy", "Sandboxed", "cgroups", "cheapen_forks", "default_readable", "spawn", "unavailable"]
