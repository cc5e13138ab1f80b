"""What the training scripts leave behind: arrays in NAME.npz, what was measured in NAME.json, part by part."""

import fcntl
import json
import platform
import time
from argparse import Namespace
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

Part = Callable[[Namespace], tuple[dict[str, Tensor], dict[str, Any]]]


def machine() -> dict[str, Any]:
    """Return what times, and the last digits, depend on."""
    cpu = next((x for x in Path("/proc/cpuinfo").read_text().splitlines() if x.startswith("model name")), ": unknown")
    return {
        "threads": torch.get_num_threads(),
        "processor": cpu.split(":", 1)[1].strip(),
        "python": platform.python_version(),
        "torch": version("torch"),
    }


def stored(out: Path, without: str) -> tuple[dict[str, np.ndarray], dict[str, Any]]:
    """Return the arrays and facts that an earlier run left, less the arrays of one part; nothing if there was none."""
    if not out.with_suffix(".json").exists():
        return {}, {}
    with np.load(out.with_suffix(".npz")) as old:
        arrays = {name: old[name] for name in old.files if not name.startswith(f"{without}/")}
    return arrays, json.loads(out.with_suffix(".json").read_text())


def restored(out: Path, prefix: str, module: nn.Module) -> nn.Module:
    """Load into a module what an earlier part stored under names that begin with the prefix; frozen, to be used."""
    arrays, _ = stored(out, without="")
    state = {k.removeprefix(prefix): torch.from_numpy(x).float() for k, x in arrays.items() if k.startswith(prefix)}
    if not state:
        raise SystemExit(f"{out}.npz has no {prefix!r}: run that part first")
    module.load_state_dict(state)
    return module.eval().requires_grad_(False)


def write(out: Path, arrays: Mapping[str, np.ndarray], facts: Mapping[str, Any]) -> int:
    """Store both, each in one move: a kill leaves the old or the new. Return how many bytes the arrays take."""
    out.parent.mkdir(exist_ok=True)
    partial = out.with_name(f"{out.name}.partial.npz")
    np.savez_compressed(partial, **arrays)
    partial.replace(out.with_suffix(".npz"))
    partial = out.with_name(f"{out.name}.partial.json")
    partial.write_text(json.dumps(facts, indent=1) + "\n")
    partial.replace(out.with_suffix(".json"))
    return out.with_suffix(".npz").stat().st_size


@contextmanager
def alone(out: Path) -> Iterator[None]:
    """Wait until no other run of the script reads and writes the results: parts may run at the same time."""
    out.parent.mkdir(exist_ok=True)
    with out.with_name(f".{out.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run_parts(parts: Mapping[str, Part], args: Namespace, facts: Mapping[str, Any]) -> None:
    """Run the parts, or the one of ``args.only``; store each when it is done, beside what is stored of the others.

    Args:
        parts: by name, what returns arrays to store, in half precision, and what was measured.
        args: has ``only``, ``seed``, ``out``, and what the parts ask for.
        facts: what else is to be stored of the run.
    """
    torch.set_num_threads(1)
    for name in [args.only] if args.only else parts:
        begun, cpu_begun = time.perf_counter(), time.process_time()
        arrays, verdict = parts[name](args)
        seconds = round(time.perf_counter() - begun, 1)
        cpu_seconds = round(time.process_time() - cpu_begun, 1)
        with alone(args.out):
            kept, known = stored(args.out, without=name)
            kept |= {f"{name}/{key}": value.numpy().astype(np.float16) for key, value in arrays.items()}
            done = known.get("parts", {}) | {name: {"seconds": seconds, "processor_seconds": cpu_seconds, **verdict}}
            size = write(args.out, kept, known | {"parts": done, "seed": args.seed, **facts, **machine()})
        print(name, seconds, "s;", size, "bytes", flush=True)
