"""Which paths of this machine show in a sandbox, and in which order they are put there."""

import os
import sys
import sysconfig
from functools import cache
from pathlib import Path
from typing import Literal, NamedTuple

from grading.sandbox.policy import Policy

# What programs and libraries need of /etc. Nothing here tells of users, hosts or secrets.
_ETC = ("ld.so.cache", "alternatives", "fonts", "localtime")
_SYSTEM = ("/usr", "/bin", "/sbin", "/lib", "/lib32", "/lib64", "/libx32", "/nix/store", "/gnu/store")
_OWN = ("/", "/proc", "/dev", "/tmp", "/etc")
_MAX_LINKS = 40  # what Linux itself follows


class Step(NamedTuple):
    """One thing to put into the new root: a symbolic link, a bind, a cover, or a file with other content."""

    kind: Literal["link", "bind", "hide", "replace"]
    path: str
    content: str | bytes = b""


@cache
def default_readable() -> tuple[Path, ...]:
    """What a Python process of this environment needs to go on importing.

    Returns:
        The environment, the interpreter that it was made from, the system's programs and libraries, and a few files
        of /etc. Neither a home folder nor the course, unless the environment is the system's own.
    """
    interpreter = {sys.prefix, sys.exec_prefix, sys.base_prefix, sys.base_exec_prefix}
    libraries = {sysconfig.get_path(name) for name in ("stdlib", "platstdlib", "purelib", "platlib")}
    programs = {sys.executable, os.path.realpath(sys.executable)}
    found = {*_SYSTEM, *(f"/etc/{name}" for name in _ETC), *interpreter, *libraries, *programs}
    found.discard("/")  # an interpreter installed into the root itself is found through /usr and /lib
    return tuple(Path(path) for path in sorted(found) if path and os.path.exists(path))


def plan(policy: Policy) -> list[Step]:
    """The steps that lay out a sandbox, each after what it lies in.

    Args:
        policy: what shows, and how.

    Returns:
        Steps by depth, without those that change nothing.
    """
    steps = {step.path: step for step in _binds(policy.readable)}
    for path in map(os.path.realpath, policy.hidden):
        if os.path.exists(path):
            steps[path] = Step("hide", path)
    for path, content in policy.replaced.items():
        path = os.path.realpath(path)
        steps[path] = Step("replace", path, content)
    kept: dict[str, Step] = {}
    for step in sorted(steps.values(), key=lambda step: (step.path.count("/"), step.path)):
        around = nearest(step.path, kept)
        shows = around is not None and around.kind == "bind"
        if step.kind in ("bind", "link") if shows else step.kind == "hide":
            continue  # it shows already, or there is nothing to hide
        kept[step.path] = step
    return list(kept.values())


def nearest(path: str, steps: dict[str, Step]) -> Step | None:
    """The innermost step that a path lies in, itself apart; None for the root."""
    while path != "/":
        path = os.path.dirname(path)
        if path in steps:
            return steps[path]
    return None


def _binds(readable: tuple[Path, ...]) -> list[Step]:
    """The binds and links that show these paths."""
    steps: dict[str, Step] = {}
    for path in readable:
        links, real = _follow(os.path.abspath(path))
        if real in _OWN:
            raise ValueError(f"a sandbox has a {real} of its own and cannot show the machine's: readable holds {path}")
        if os.path.exists(real):
            steps |= {link: Step("link", link, target) for link, target in links}
            steps[real] = Step("bind", real)
    return list(steps.values())


def _follow(path: str) -> tuple[list[tuple[str, str]], str]:
    """The symbolic links on the way to a path, each with its target, and the path without them."""
    links: list[tuple[str, str]] = []
    done, todo = "/", path.split("/")
    while todo:
        name = todo.pop(0)
        if name in ("", "."):
            continue
        if name == "..":
            done = os.path.dirname(done)
            continue
        here = os.path.join(done, name)
        if not os.path.islink(here):
            done = here
            continue
        if len(links) == _MAX_LINKS:
            raise ValueError(f"{path} has more than {_MAX_LINKS} symbolic links on its way")
        target = os.readlink(here)
        links.append((here, target))
        done = "/" if target.startswith("/") else done
        todo = target.split("/") + todo
    return links, done
