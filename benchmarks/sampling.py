"""Sampling, side by side: this library's Langevin dynamics and Hamiltonian Monte Carlo, and torchebm's.

``python benchmarks/sampling.py --help`` tells what there is to choose. Both get the same energy function, start, number
of steps, step size and one thread; runs are interleaved, each repeat gives one ratio, and the table shows the median
and the range of the ratios. Times are the processor's, so that a busy machine disturbs them little. Writes the table
with its circumstances to ``benchmarks/results/sampling.json``; asserts nothing about time.
"""

import argparse
import json
import statistics
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from machine import machine
from torch import Tensor
from torchebm.core import BaseModel
from torchebm.samplers import HamiltonianMonteCarlo, LangevinDynamics

from ebm_lib import sampling
from ebm_lib.nn import EnergyMLP

RESULTS = Path(__file__).parent / "results" / "sampling.json"
LEAPFROG = 10
Energy = Callable[[Tensor], Tensor]


class Theirs(BaseModel):
    """The same energy function, as torchebm wants it."""

    def __init__(self, energy: Energy) -> None:
        super().__init__()
        self.energy = energy

    def forward(self, x: Tensor) -> Tensor:
        """Return one energy per sample."""
        return self.energy(x)


@dataclass
class Row:
    """One comparison.

    Args:
        sampler: which algorithm.
        energy: on which energy.
        chains: how many at once.
        dim: of each.
        ours: microseconds of processor per step, the median of all repeats.
        theirs: the same, of torchebm.
        ratio: theirs / ours, the median of the repeats' ratios.
        low: the lowest of them.
        high: the highest.
    """

    sampler: str
    energy: str
    chains: int
    dim: int
    ours: float
    theirs: float
    ratio: float
    low: float
    high: float


@dataclass
class Efficiency:
    """What a sampler gets out of its evaluations of the energy.

    Args:
        sampler: which one.
        evaluations: per chain and step, counted.
        acceptance: the mean, where something can be rejected.
        ess: effective samples of the worst coordinate, of all chains.
        per_thousand: of those, per thousand evaluations of a chain.
        variance: the worst ratio of a coordinate's variance to the target's.
    """

    sampler: str
    evaluations: float
    acceptance: float
    ess: float
    per_thousand: float
    variance: float


def gaussian(dim: int) -> Energy:
    """A Gaussian whose precisions run from 1/2 to 2."""
    precision = torch.linspace(0.5, 2.0, dim)
    return lambda y: 0.5 * (y.square() * precision).sum(-1)


def network(dim: int) -> Energy:
    """A perceptron of two layers of 64."""
    return EnergyMLP((dim,), (64, 64), generator=torch.Generator().manual_seed(0))


def seconds(run: Callable[[], object]) -> float:
    """Return the processor time of a call."""
    begun = time.process_time()
    run()
    return time.process_time() - begun


def compare(kind: str, name: str, energy: Energy, chains: int, dim: int, steps: int, repeats: int) -> Row:
    """Time one algorithm on one energy, both ways by turns."""
    start = torch.randn(chains, dim, generator=torch.Generator().manual_seed(1))
    generator, model = torch.Generator().manual_seed(2), Theirs(energy)
    if kind == "Langevin":
        peer = LangevinDynamics(model, step_size=0.01)

        def ours() -> object:
            return sampling.langevin(energy, start, steps=steps, step_size=0.01, generator=generator)
    else:
        steps = max(1, steps // LEAPFROG)
        peer = HamiltonianMonteCarlo(model, step_size=0.1, n_leapfrog_steps=LEAPFROG)

        def ours() -> object:
            return sampling.hmc(energy, start, steps=steps, step_size=0.1, leapfrog_steps=LEAPFROG, generator=generator)

    def theirs() -> object:
        return peer.sample(x=start, n_steps=steps, generator=generator)

    ours(), theirs()  # the first calls load and allocate
    pairs = []
    for repeat in range(repeats):  # who goes first takes turns, too
        if repeat % 2:
            after = seconds(theirs)
            pairs.append((seconds(ours), after))
        else:
            pairs.append((seconds(ours), seconds(theirs)))
    ratios = [b / a for a, b in pairs]
    median = [statistics.median(column) / steps * 1e6 for column in zip(*pairs, strict=True)]
    return Row(kind, name, chains, dim, *median, statistics.median(ratios), min(ratios), max(ratios))


def efficiency(steps: int) -> list[Efficiency]:
    """Count the evaluations of each sampler on a Gaussian of condition 100, and what they are worth."""
    chains, dim = 16, 5
    precision = torch.logspace(0, 2, dim)
    start = torch.randn(chains, dim, generator=torch.Generator().manual_seed(3)) / precision.sqrt()
    calls = 0

    def energy(y: Tensor) -> Tensor:
        nonlocal calls
        calls += 1
        return 0.5 * (y.square() * precision).sum(-1)

    def judge(name: str, path: Tensor, acceptance: float) -> Efficiency:
        ess = sampling.effective_sample_size(path).min().item()
        variance = path.flatten(0, 1).square().mean(0) * precision
        worst = variance[(variance - 1).abs().argmax()].item()
        return Efficiency(name, calls / steps, acceptance, ess, 1000 * ess / calls, worst)

    rows = []
    for name, kw in (
        ("langevin", dict(step_size=0.004)),
        ("mala", dict(step_size=0.015)),
        ("hmc", dict(step_size=0.15, leapfrog_steps=LEAPFROG, jitter=0.2)),
    ):
        calls = 0
        found = getattr(sampling, name)(
            energy, start, steps=steps, keep_every=1, generator=torch.Generator().manual_seed(4), **kw
        )
        rows.append(judge(name, found.path, found.acceptance.mean().item()))
    for name, peer in (
        ("torchebm's Langevin", LangevinDynamics(Theirs(energy), step_size=0.004)),
        ("torchebm's HMC", HamiltonianMonteCarlo(Theirs(energy), step_size=0.15, n_leapfrog_steps=LEAPFROG)),
    ):
        calls = 0
        path = peer.sample(
            x=start, n_steps=steps, return_trajectory=True, generator=torch.Generator().manual_seed(4)
        ).transpose(0, 1)
        rows.append(judge(name, path, sampling.acceptance(path).mean().item()))
    return rows


def table(rows: list[Row], worth: list[Efficiency]) -> str:
    """Return the rows as text."""
    lines = [f"{'':40}{'chains':>7}{'dim':>5}{'ours µs':>10}{'theirs µs':>11}{'ratio':>8}{'range':>14}"]
    for r in rows:
        lines.append(
            f"{r.sampler + ', ' + r.energy:40}{r.chains:7}{r.dim:5}{r.ours:10.1f}{r.theirs:11.1f}{r.ratio:8.2f}"
            f"{f'{r.low:.2f} to {r.high:.2f}':>14}"
        )
    lines.append("µs: of processor time per step of all chains, one thread; ratio: torchebm's time by ours.")
    lines.append("")
    lines.append(
        f"{'':22}{'evaluations':>12}{'acceptance':>12}{'ESS':>9}{'ESS per 1000 evaluations':>26}{'variance':>10}"
    )
    for e in worth:
        lines.append(
            f"{e.sampler:22}{e.evaluations:12.1f}{e.acceptance:12.2f}{e.ess:9.0f}{e.per_thousand:26.1f}{e.variance:10.2f}"
        )
    lines.append(
        "On a Gaussian of condition 100: evaluations per step and chain; ESS of the worst coordinate; variance by"
    )
    lines.append("the target's where it is farthest off (Langevin's bias; what is left elsewhere is noise).")
    return "\n".join(lines)


def main() -> None:
    """Measure what was asked for."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--steps", type=int, default=200, metavar="N", help="gradient steps per run")
    p.add_argument("--repeats", type=int, default=15, metavar="N", help="pairs of runs per row")
    p.add_argument("--ess-steps", type=int, default=1000, metavar="N", help="steps for the effective sample sizes")
    args = p.parse_args()
    torch.set_num_threads(1)
    facts, rows = machine("torch", "torchebm") | {"threads": torch.get_num_threads()}, []
    print(", ".join(f"{k} {v}" for k, v in facts.items()), flush=True)
    for kind in ("Langevin", "HMC"):
        for name, make, sizes in (
            ("Gaussian", gaussian, ((64, 2), (64, 10), (512, 10))),
            ("network of 2 x 64", network, ((64, 2), (64, 10), (256, 2))),
        ):
            rows += [compare(kind, name, make(dim), chains, dim, args.steps, args.repeats) for chains, dim in sizes]
    worth = efficiency(args.ess_steps)
    print(table(rows, worth))
    RESULTS.parent.mkdir(exist_ok=True)
    command = " ".join(["python", "benchmarks/sampling.py", *sys.argv[1:]])
    result = {"command": command, **facts, "rows": [asdict(r) for r in rows], "efficiency": [asdict(e) for e in worth]}
    RESULTS.write_text(json.dumps(result, indent=1, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
