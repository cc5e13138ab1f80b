"""Execute the notebooks that changed and clean what they store.

    python tools/notebooks.py                        every notebook in book/ and solutions/ that changed
    python tools/notebooks.py book/NN_x/NN_y.ipynb   these, if they changed
    python tools/notebooks.py --all [...]            these (or every one), changed or not: after a change of ebm_lib
    python tools/notebooks.py --check [...]          execute and write nothing, say what is wrong

A notebook has changed when the hash of its code differs from the one stored in its metadata at the last execution,
or when a code cell has no execution count. A change of Markdown alone executes nothing.

What is written is free of what varies from run to run and from machine to machine: ids of cells are given once and
then kept, metadata is reduced to what the project uses, pictures are stored without a time or a version. The
measured time goes into the head line of the page (`<span class="run-time">`), rounded so coarsely that it stays put.
A notebook that fails, or whose outputs must not be published (see `problems`), is left as it was.

Edit notebooks in JupyterLab, or as text with jupytext, which keeps the outputs of cells that stay the same:

    jupytext --to py:percent --output page.py book/NN_x/NN_y.ipynb
    (edit page.py)
    jupytext --to ipynb --update --output book/NN_x/NN_y.ipynb page.py
    python tools/notebooks.py book/NN_x/NN_y.ipynb
"""

import argparse
import base64
import hashlib
import io
import os
import re
import resource
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from pathlib import Path

import nbformat
from nbclient import NotebookClient
from nbclient.exceptions import CellExecutionError, CellTimeoutError, DeadKernelError
from nbformat import NotebookNode
from PIL import Image

ROOT = Path(__file__).resolve().parents[1]
MAX_BYTES = 1_000_000
MAX_SECONDS = 60
CELL_TIMEOUT = 300  # of wall-clock time, so that a busy machine does not fail what fits into MAX_SECONDS

KERNELSPEC = {"display_name": "Python 3", "language": "python", "name": "python3"}
LANGUAGE = {"file_extension": ".py", "mimetype": "text/x-python", "name": "python", "pygments_lexer": "ipython3"}
NOTEBOOK_METADATA = {"grading", "mystnb"}  # what the student may not import; myst-nb's settings
CELL_METADATA = {"deletable", "editable", "mystnb", "nbgrader", "tags"}
HASH_KEY = "executed_code"  # in the notebook's metadata

RUN_TIME = re.compile(r'(<span class="run-time">)(.*?)(</span>)')
RUN_TIMES = (5, 10, 15, 20, 30, 45, 60)
ADDRESS = re.compile(r"\bat 0x[0-9a-f]{6,}")
# A path of the machine that ran the notebook. Not preceded by a letter or a dot: "../home/x" in a link is no such path.
MACHINE_PATH = re.compile(
    r"(?<![\w.])(?:/(?:work|root|home|Users|usr/lib|usr/local|opt)/|/tmp/|/private/var/|[A-Za-z]:\\)[^\s'\"<]*"
)
PROGRESS_BAR = re.compile(r"\d+%\||\bit/s\b|s/it\b")


def code_hash(notebook: NotebookNode) -> str:
    """Hash of the sources of the code cells, in order."""
    digest = hashlib.sha256()
    for cell in notebook.cells:
        if cell.cell_type == "code":
            digest.update(cell.source.strip().encode() + b"\0")
    return digest.hexdigest()[:16]


def changed(notebook: NotebookNode) -> bool:
    """Whether the stored outputs are not those of the stored code."""
    unexecuted = any(cell.execution_count is None for cell in notebook.cells if cell.cell_type == "code")
    return unexecuted or notebook.metadata.get(HASH_KEY) != code_hash(notebook)


def execute(notebook: NotebookNode, folder: Path) -> float:
    """Execute all cells in place, in one fresh kernel started in ``folder``.

    Returns:
        Seconds of processor time the kernel took, its start included. On one thread this is what a reader with a
        quiet machine waits, whatever else runs here.
    """
    environment = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE" and not k.startswith("MPL")}
    with tempfile.TemporaryDirectory() as scratch:
        environment |= {
            "OMP_NUM_THREADS": "1",
            "PYTHONHASHSEED": "0",
            "PYDEVD_DISABLE_FILE_VALIDATION": "1",
            "IPYTHONDIR": scratch,  # no start-up file or configuration of whoever runs this
        }
        client = NotebookClient(
            notebook,
            timeout=CELL_TIMEOUT,
            kernel_name=KERNELSPEC["name"],
            resources={"metadata": {"path": str(folder)}},
            extra_arguments=["--HistoryManager.enabled=False", "--IPKernelApp.log_level=40"],
        )
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        client.execute(env=environment)
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime


def write_run_time(notebook: NotebookNode, seconds: float) -> None:
    """Put the measured time into the page's head line, unless what stands there is still about right."""
    for cell in notebook.cells:
        found = RUN_TIME.search(cell.source) if cell.cell_type == "markdown" else None
        if found:
            stands = re.fullmatch(r"≈ (\d+) s", found[2])
            if not stands or not 0.4 * int(stands[1]) <= seconds <= 1.1 * int(stands[1]):
                label = next((t for t in RUN_TIMES if seconds <= t), RUN_TIMES[-1])
                cell.source = RUN_TIME.sub(rf"\g<1>≈ {label} s\g<3>", cell.source)
            return


def clean(notebook: NotebookNode, slug: str) -> None:
    """Remove, in place, what varies between runs and machines; give ids to cells that have none from here."""
    code = notebook.metadata.get(HASH_KEY)
    kept = {key: value for key, value in notebook.metadata.items() if key in NOTEBOOK_METADATA}
    notebook.metadata = nbformat.from_dict(kept | {"kernelspec": KERNELSPEC, "language_info": LANGUAGE})
    if code:
        notebook.metadata[HASH_KEY] = code
    notebook.nbformat, notebook.nbformat_minor = 4, 5
    _give_ids(notebook.cells, slug)
    count = 0
    for cell in notebook.cells:
        cell.metadata = nbformat.from_dict({k: v for k, v in cell.metadata.items() if k in CELL_METADATA and v != []})
        cell.source = cell.source.strip("\n")
        if cell.cell_type != "code":
            continue
        if cell.execution_count is not None:
            count += 1
            cell.execution_count = count
        cell.outputs = list(_clean_outputs(cell))


def _give_ids(cells: Sequence[NotebookNode], slug: str) -> None:
    """Keep each id of ours (slug and number) at its first cell; number the other cells from where ours end."""
    ours = re.compile(re.escape(slug) + r"-(\d+)")
    taken: set[str] = set()
    homeless = []
    for cell in cells:
        if ours.fullmatch(cell.get("id", "")) and cell.id not in taken:
            taken.add(cell.id)
        else:
            homeless.append(cell)
    number = max((int(ours.fullmatch(name)[1]) for name in taken), default=0)
    for cell in homeless:
        number += 1
        cell["id"] = f"{slug}-{number:02d}"


def _clean_outputs(cell: NotebookNode) -> Iterator[NotebookNode]:
    previous = None
    for output in cell.outputs:
        if output.output_type == "stream":
            # Bars show times. Only cells that may vary have one; any other text on stderr stays, to be refused.
            bar = PROGRESS_BAR.search(output.text) or not output.text.strip()  # its last message may be a line end
            if output.name == "stderr" and may_vary(cell) and bar:
                continue
            if previous is not None and previous.output_type == "stream" and previous.name == output.name:
                previous.text += output.text  # how a kernel cuts its output into messages is chance
                continue
        if output.output_type == "execute_result":
            output.execution_count = cell.execution_count
        if "image/png" in output.get("data", {}):
            output.data["image/png"] = _small_png(output.data["image/png"])
        previous = output
        yield output


def _small_png(encoded: str) -> str:
    """The same pixels, compressed well, without text chunks (they name a version) and without a needless alpha."""
    original = base64.b64decode(encoded)
    image = Image.open(io.BytesIO(original))
    if image.mode == "RGBA" and image.getextrema()[3][0] == 255:
        image = image.convert("RGB")
    small = io.BytesIO()
    image.save(small, "png", optimize=True)
    return base64.b64encode(small.getvalue()).decode() + "\n"


def may_vary(cell: NotebookNode) -> bool:
    """Whether nbval leaves the outputs of this cell uncompared."""
    return "nbval-ignore-output" in cell.metadata.get("tags", [])


def output_texts(cell: NotebookNode) -> Iterator[str]:
    """Every text stored in the outputs of a code cell, pictures excepted."""
    for output in cell.outputs:
        yield output.get("text", "")
        yield from output.get("traceback", [])
        for kind, content in output.get("data", {}).items():
            if not kind.startswith("image/") or kind == "image/svg+xml":
                yield content if isinstance(content, str) else str(content)


def problems(notebook: NotebookNode) -> list[str]:
    """What must not be stored: one line for each finding, which names the cell by its number."""
    found = []
    if "widgets" in notebook.metadata:
        found.append("widget state is stored: it would load scripts from outside; use viz.explorer instead")
    for number, cell in enumerate(notebook.cells, start=1):
        if cell.cell_type != "code":
            continue

        def say(what: str, number: int = number, cell: NotebookNode = cell) -> None:
            first = cell.source.strip().splitlines()[0] if cell.source.strip() else ""
            found.append(f"cell {number} ({first[:50]!r}): {what}")

        if not cell.source.strip():
            say("an empty code cell")
        elif cell.execution_count is None:
            say("not executed")
        for output in cell.outputs:
            if output.output_type == "error":
                say(f"stores an error: {output.ename}: {output.evalue}")
            if output.get("name") == "stderr":
                say(f"writes to stderr: {output.text.strip()[:200]!r}")
            if any("widget" in kind for kind in output.get("data", {})):
                say("shows a widget, which needs a kernel; use viz.explorer, or show the call in a Markdown cell")
        for text in output_texts(cell):
            if path := MACHINE_PATH.search(text):
                say(f"stores a path of this machine: {path[0]}")
            if address := ADDRESS.search(text):
                say(f"prints an object's address ({address[0]}): end the cell with plt.show() or print something else")
    return found


def dump(notebook: NotebookNode) -> bytes:
    """The file's contents: JSON with one space of indentation and a newline at the end."""
    return (nbformat.writes(notebook, version=nbformat.NO_CONVERT).rstrip("\n") + "\n").encode()


def process(path: Path, *, force: bool = False, check: bool = False) -> tuple[str, list[str]]:
    """Bring one notebook up to date; returns what was done and what is wrong. Writes only if nothing is wrong."""
    original = path.read_bytes()
    notebook = nbformat.reads(original.decode(), as_version=4)
    wrong, done, size = [], "unchanged", len(original)
    if check:
        if changed(notebook):
            wrong.append("its outputs are not those of its code: run `make notebooks`")
        cleaned = nbformat.reads(original.decode(), as_version=4)
        clean(cleaned, path.stem.replace("_", "-"))
        if dump(cleaned) != original:
            wrong.append("it stores what varies between runs or machines: run `make notebooks`")
    else:
        if force or changed(notebook):
            for cell in notebook.cells:
                if cell.cell_type == "code":
                    cell.outputs, cell.execution_count = [], None
            started = time.monotonic()
            try:
                seconds = execute(notebook, path.parent)
            except (CellExecutionError, CellTimeoutError, DeadKernelError) as error:
                return "failed", [str(error).strip()]
            done = f"executed in {time.monotonic() - started:.0f} s ({seconds:.0f} s of processor time)"
            notebook.metadata[HASH_KEY] = code_hash(notebook)
            write_run_time(notebook, seconds)
            if seconds > MAX_SECONDS:
                wrong.append(f"takes {seconds:.0f} s of processor time; at most {MAX_SECONDS} are allowed")
        clean(notebook, path.stem.replace("_", "-"))
        size = len(dump(notebook))
    if size > MAX_BYTES:
        wrong.append(f"is {size / 1000:.0f} kB large; at most {MAX_BYTES / 1000:.0f} are allowed")
    wrong += problems(notebook)
    if not wrong and not check and dump(notebook) != original:
        with tempfile.NamedTemporaryFile(dir=path.parent, suffix=".part", delete=False) as part:
            part.write(dump(notebook))
        os.chmod(part.name, 0o644)
        os.replace(part.name, path)
        done = done if done != "unchanged" else "cleaned"
    return f"{done}, {size / 1000:.0f} kB", wrong


def find(paths: Sequence[Path]) -> list[Path]:
    """The notebooks among and below the paths."""
    found = [n for p in paths for n in (sorted(p.rglob("*.ipynb")) if p.is_dir() else [p])]
    return [n for n in found if ".ipynb_checkpoints" not in n.parts]


def main(arguments: Sequence[str] | None = None) -> int:
    """Command line: see the module's docstring. Exit status 1 if anything is wrong."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("paths", nargs="*", type=Path, help="notebooks or folders (default: book and solutions)")
    parser.add_argument("--all", action="store_true", help="execute also what did not change")
    parser.add_argument("--check", action="store_true", help="execute and write nothing")
    options = parser.parse_args(arguments)
    missing = [p for p in options.paths if not p.exists()]
    if missing:
        parser.error(f"no such file: {', '.join(map(str, missing))}")
    failed = 0
    for path in find(options.paths or [ROOT / "book", ROOT / "solutions"]):
        done, wrong = process(path.resolve(), force=options.all, check=options.check)
        name = path.resolve().relative_to(ROOT) if path.resolve().is_relative_to(ROOT) else path
        print(f"{name}: {done}", flush=True)
        for line in wrong:
            print(f"    {line}", file=sys.stderr)
        failed += bool(wrong)
    if failed:
        print(f"{failed} notebook(s) not in order" + ("" if options.check else ", left as they were"), file=sys.stderr)
    return int(bool(failed))


if __name__ == "__main__":
    sys.exit(main())
