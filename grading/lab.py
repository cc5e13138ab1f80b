"""JupyterLab with nbgrader's extensions, at the root of the course.

The extensions come enabled with the environment; a user's own Jupyter settings are read but never written, except for
what JupyterLab itself remembers (theme, layout).
"""

import os
import sys
from collections.abc import Sequence
from pathlib import Path

from .course import Course


def command(course: Course, extra: Sequence[str] = ()) -> tuple[list[str], dict[str, str]]:
    """Return the command and the environment that start JupyterLab.

    Args:
        course: the course; also the folder that JupyterLab shows.
        extra: options of ``jupyter lab``, such as ``--no-browser``.
    """
    course.work.mkdir(exist_ok=True)
    (course.root / "exchange").mkdir(exist_ok=True)  # the "Assignments" tab reports an error without it
    here = Path(sys.executable).parent
    ours = str(Path(__file__).with_name("jupyter"))
    env = {
        **os.environ,
        "PATH": os.pathsep.join(filter(None, [str(here), os.environ.get("PATH", "")])),
        "JUPYTER_CONFIG_PATH": os.pathsep.join(
            filter(None, [ours, str(course.root), os.environ.get("JUPYTER_CONFIG_PATH", "")])
        ),
        "JUPYTER_PREFER_ENV_PATH": "1",  # this environment's kernel, not a user's one of the same name
    }
    options = [f"--ServerApp.root_dir={course.root}", "--LabApp.default_url=/lab/tree/work"]
    return [sys.executable, "-m", "jupyterlab", *options, *extra], env


def open_lab(course: Course, extra: Sequence[str] = ()) -> None:
    """Become JupyterLab; does not return.

    Args:
        course: the course.
        extra: options of ``jupyter lab``.
    """
    words, env = command(course, extra)
    os.chdir(course.root)  # nbgrader's extensions look for nbgrader_config.py in the working directory
    os.execve(words[0], words, env)
