"""Chains and alignments, side by side: this library's Viterbi, forward pass and warping, and hmmlearn's and tslearn's.

``python benchmarks/structured.py --help`` tells what there is to choose. Both get the same energies, on one thread;
runs are interleaved, each repeat gives one ratio, and the table shows the median and the range of the ratios, beside
how far the two answers are apart. Times are the processor's, so that a busy machine disturbs them little. hmmlearn
takes the sequences of a batch one after the other, as its interface has it, and looks its emissions up in a table, as
ours does here. tslearn is no dependency of this project (it brings numba and pandas): ``pip install tslearn`` before,
or the rows of warping are left out. Writes the table with its circumstances to ``benchmarks/results/structured.json``;
asserts nothing about time.
"""

import argparse
import importlib.util
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
import torch
from hmmlearn.hmm import CategoricalHMM
from machine import machine
from threadpoolctl import threadpool_limits
from torch import Tensor

from ebm_lib.structured import SoftMinimum, chain, dtw, viterbi

RESULTS = Path(__file__).parent / "results" / "structured.json"
SYMBOLS = 50
Run = Callable[[], Tensor]


@dataclass
class Row:
    """One comparison.

    Args:
        method: which method, against whom.
        size: of the work.
        ours: milliseconds of processor, the median of all repeats.
        theirs: the same, of the other library.
        ratio: theirs / ours, the median of the repeats' ratios; above 1 we are faster.
        low: the lowest of them.
        high: the highest.
        apart: the largest difference of the two answers, relative.
    """

    method: str
    size: str
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float
    apart: float


def seconds(run: Run) -> tuple[float, Tensor]:
    """Return the processor time of a call, and what it found."""
    begun = time.process_time()
    found = run()
    return time.process_time() - begun, found


def compare(method: str, size: str, ours: Run, theirs: Run, repeats: int) -> Row:
    """Time both ways by turns, after one call of each that is not counted."""
    mine, peers = ours().double(), theirs().double()
    apart = ((mine - peers).abs() / peers.abs().clamp(min=1e-9)).max().item()
    pairs = []
    for repeat in range(repeats):  # who goes first takes turns, too
        first, second = (theirs, ours) if repeat % 2 else (ours, theirs)
        times = [seconds(first)[0], seconds(second)[0]]
        pairs.append(times[::-1] if repeat % 2 else times)
    ratios = [b / a for a, b in pairs]
    median = [1000 * statistics.median(column) for column in zip(*pairs, strict=True)]
    row = Row(method, size, *median, statistics.median(ratios), min(ratios), max(ratios), apart)
    print(line(row), flush=True)
    return row


def chains(labels: int, places: int, batch: int, repeats: int) -> list[Row]:
    """Viterbi's path and the forward pass of a hidden Markov model with SYMBOLS symbols, in double precision."""
    rng = np.random.default_rng(0)
    model = CategoricalHMM(n_components=labels)
    model.startprob_ = rng.dirichlet(np.ones(labels))
    model.transmat_ = rng.dirichlet(np.ones(labels), size=labels)
    model.emissionprob_ = rng.dirichlet(np.ones(SYMBOLS), size=labels)
    seen = rng.integers(SYMBOLS, size=(batch, places))
    column, lengths = seen.reshape(-1, 1), [places] * batch
    start, pairwise, emission = (
        -torch.from_numpy(p).log() for p in (model.startprob_, model.transmat_, model.emissionprob_.T)
    )
    symbols = torch.from_numpy(seen)

    def unary() -> Tensor:
        energy = emission[symbols]
        energy[:, 0] += start
        return energy

    def path() -> Tensor:
        return viterbi(unary(), pairwise).labels + 1

    def their_path() -> Tensor:
        return torch.from_numpy(model.decode(column, lengths)[1]).view(batch, places) + 1

    def free() -> Tensor:
        return chain(unary(), pairwise, SoftMinimum(1.0)).sum()

    def their_free() -> Tensor:
        return torch.tensor(-model.score(column, lengths))

    size = f"K = {labels}, T = {places}, batch {batch}"
    return [
        compare("Viterbi, hmmlearn", size, path, their_path, repeats),
        compare("forward, hmmlearn", size, free, their_free, repeats),
    ]


def warping(rows: int, columns: int, frames: int, dim: int, repeats: int) -> Row:
    """All distances by dynamic time warping between two sets of series, in double precision."""
    from tslearn.metrics import cdist_dtw

    g = torch.Generator().manual_seed(0)
    x, y = (torch.randn(n, frames, dim, dtype=torch.float64, generator=g) for n in (rows, columns))

    def ours() -> Tensor:
        return dtw(x[:, None], y).sqrt()

    def theirs() -> Tensor:
        return torch.from_numpy(cdist_dtw(x.numpy(), y.numpy()))

    return compare("DTW, tslearn", f"{rows} x {columns} pairs, {frames} x {dim}", ours, theirs, repeats)


def line(r: Row) -> str:
    """Return a row as text."""
    span = f"{r.low:.2f} to {r.high:.2f}"
    return f"{r.method:20}{r.size:34}{r.ours:10.2f}{r.theirs:10.2f}{r.ratio:8.2f}{span:>16}{r.apart:10.1e}"


def main() -> None:
    """Measure what was asked for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--repeats", type=int, default=15, metavar="N", help="pairs of runs per row")
    p.add_argument("--only", choices=("chains", "warping"), help="one of the two; nothing is written then")
    args = p.parse_args()
    torch.set_num_threads(1)
    peers = [name for name in ("tslearn", "numba") if importlib.util.find_spec(name)]
    facts, rows = machine("torch", "hmmlearn", *peers) | {"threads": torch.get_num_threads()}, []
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)
    print(f"{'':54}{'ours ms':>10}{'theirs ms':>10}{'ratio':>8}{'range':>16}{'apart':>10}")
    with threadpool_limits(1):
        if args.only in (None, "chains"):
            for labels, places, batch in (
                (5, 100, 100), (10, 100, 100), (10, 1000, 32), (26, 50, 200), (50, 100, 100), (100, 100, 32),
            ):  # fmt: skip
                rows += chains(labels, places, batch, args.repeats)
        if args.only in (None, "warping") and "tslearn" in peers:
            for sizes in ((30, 30, 20, 20), (30, 30, 50, 2), (20, 20, 100, 13), (10, 10, 200, 13), (10, 10, 400, 1)):
                rows.append(warping(*sizes, args.repeats))
        elif args.only != "chains":
            print("tslearn is not installed: no rows of warping")
    print("ms: of processor time, one thread; ratio: their time by ours, above 1 ours is the faster; apart: the")
    print("largest relative difference of the two answers.")
    if args.only is None:
        RESULTS.parent.mkdir(exist_ok=True)
        command = " ".join(["python", "benchmarks/structured.py", *sys.argv[1:]])
        result = {"command": command, **facts, "rows": [asdict(r) for r in rows]}
        RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
