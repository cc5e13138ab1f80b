"""The IPython that both kernels run cells in: what a cell prints, shows and raises becomes notebook outputs.

It is IPython's own shell without a message queue: magics, last values, rich display, inline figures and top-level await
work as they do in a kernel, and nothing listens on a socket.
"""

import io
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import DisplayPublisher
from IPython.core.interactiveshell import InteractiveShell
from traitlets import Any as AnyTrait
from traitlets import Type
from traitlets.config import Config

from .outputs import error, left_out

Output = dict[str, Any]
_MOST = 2_000  # outputs of a cell
_ALWAYS = 100  # characters that an output may have whatever came before: a check's partial points are never left out


class Outputs:
    """The outputs of one cell, up to a number of characters.

    Args:
        limit: characters kept, of all outputs together; an output that does not fit is left out, text is cut.
    """

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.made: list[Output] = []
        self._room = limit

    def write(self, stream: str, text: str) -> None:
        """Add text to a stream."""
        if self._room <= 0 or not text or len(self.made) > _MOST:
            return
        if not self.made or self.made[-1].get("name") != stream:
            if self._full():
                return
            self.made.append({"output_type": "stream", "name": stream, "text": ""})
        kept = sendable(text[: self._room])
        if len(json.dumps(kept)) > 2 * self._room:  # it is sent as JSON, in which a control character takes six
            kept, self._room = kept[: self._room // 6], 0
        self._room -= len(json.dumps(kept)) - 2
        if self._room <= 0:
            kept += f"\n… (output cut after {self.limit:,} characters)\n"
        self.made[-1]["text"] += kept

    def add(self, output: Output) -> None:
        """Add anything but a stream."""
        output = json.loads(sendable(json.dumps(output, default=repr)))
        size = len(json.dumps(output.get("data", {})))
        # A check's partial points are the cell's value, which comes last: that is never too many.
        if output["output_type"] == "display_data" and self._full():
            return
        if size > max(self._room, _ALWAYS):
            self.write("stderr", f"(an output of {size:,} characters was left out)\n")
            return
        self._room -= size
        self.made.append(output)

    def _full(self) -> bool:
        """Whether there are as many outputs as are kept; the last one then says so."""
        if len(self.made) == _MOST:
            self.made.append(left_out())
        return len(self.made) > _MOST

    def clear(self) -> None:
        """Drop everything, as ``clear_output`` does; the room that was used stays used."""
        self.made.clear()


class _Stream(io.TextIOBase):
    def __init__(self, shell: "KernelShell", name: str) -> None:
        self._shell, self._name = shell, name

    name = property(lambda self: f"<{self._name}>")
    encoding = "utf-8"

    def writable(self) -> bool:
        return True

    def write(self, text: str) -> int:
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        self._shell.outputs.write(self._name, text)
        return len(text)


class _Publisher(DisplayPublisher):
    def publish(self, data: dict, metadata: dict | None = None, *, update: bool = False, **kwargs: Any) -> None:
        self.shell.outputs.add({"output_type": "display_data", "data": data, "metadata": metadata or {}})

    def clear_output(self, wait: bool = False) -> None:
        self.shell.outputs.clear()


class _Hook(DisplayHook):
    def write_output_prompt(self) -> None:
        pass

    def write_format_data(self, format_dict: dict, md_dict: dict | None = None) -> None:
        self.shell.outputs.add(
            {
                "output_type": "execute_result",
                "data": format_dict,
                "metadata": md_dict or {},
                "execution_count": self.prompt_count,
            }
        )

    def finish_displayhook(self) -> None:
        pass


class KernelShell(InteractiveShell):
    """IPython's shell, writing notebook outputs to ``outputs``."""

    display_pub_class = Type(_Publisher)
    displayhook_class = Type(_Hook)
    outputs = AnyTrait()

    def enable_gui(self, gui: str | None = None) -> None:
        """Do nothing: there is no window."""

    def ask_exit(self) -> None:
        """Do nothing: a kernel ends when its driver says so."""

    def system(self, cmd: str) -> None:
        """Run a shell command; IPython's own way needs a terminal, and a sandbox has none."""
        ran = subprocess.run(
            self.var_expand(cmd, depth=1), shell=True, text=True, errors="replace",
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        print(ran.stdout, end="")
        self.user_ns["_exit_code"] = ran.returncode

    def _showtraceback(self, etype: type, evalue: BaseException, stb: list[str]) -> None:
        try:
            text = str(evalue)
        except Exception as e:
            text = f"<{type(e).__name__} in __str__>"
        frames = [sendable(frame) for frame in (*stb, *getattr(evalue, "frames_of_the_student", ()))]
        self.outputs.made.append(
            {
                "output_type": "error",
                "ename": sendable(etype.__name__),
                "evalue": sendable(text[:20_000]),
                "traceback": _cut(frames),
            }
        )

    def run(self, source: str, count: int, limit: int = 1_000_000) -> list[Output]:
        """Run one cell and return its outputs.

        Args:
            source: the cell.
            count: its number, as tracebacks show it: ``Cell In[count]``.
            limit: characters of output kept.
        """
        self.execution_count = count
        with self.redirected(limit) as outputs:
            ran = self.run_cell(source, store_history=True, silent=False)
        failed = ran.error_before_exec or ran.error_in_exec
        if failed is not None and not any(o["output_type"] == "error" for o in outputs.made):
            # IPython could not even say how it failed: for lack of memory, say. Without an error it would have passed.
            outputs.made.append(error(type(failed).__name__, "This cell failed, and the error could not be shown."))
        return outputs.made

    @contextmanager
    def redirected(self, limit: int) -> Iterator[Outputs]:
        """Collect what is written and shown within a with block."""
        before = self.outputs, sys.stdout, sys.stderr
        self.outputs = Outputs(limit)
        sys.stdout, sys.stderr = _Stream(self, "stdout"), _Stream(self, "stderr")
        try:
            yield self.outputs
        finally:
            self.outputs, sys.stdout, sys.stderr = before


def sendable(text: str) -> str:
    """Return text without halves of surrogate pairs, which UTF-8 cannot express."""
    return text.encode("utf-8", "replace").decode()


def _cut(frames: list[str], limit: int = 50_000) -> list[str]:
    kept = []
    for frame in frames:
        kept.append(frame[:limit])
        limit -= len(kept[-1])
        if limit <= 0:
            break
    return kept


def warm_shell() -> KernelShell:
    """Return the shell, with everything imported that its first cell, figure and traceback would import.

    To be called once, in a process that forks kernels: each finds a namespace in which nothing has run.
    """
    config = Config()
    config.HistoryManager.enabled = False
    config.InteractiveShell.colors = "nocolor"
    config.InteractiveShell.xmode = "Context"
    shell = KernelShell.instance(config=config)
    shell.run(
        "%matplotlib inline\n"
        "import matplotlib.pyplot as plt\n"
        "plt.plot([0, 1])\nplt.title('$x$')\nplt.show()\nplt.close('all')\n"
        "get_ipython().run_line_magic('xdel', 'plt')",
        1,
    )
    shell.run("raise ValueError()", 1)
    shell.reset(new_session=True)
    return shell
