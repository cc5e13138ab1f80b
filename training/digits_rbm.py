"""Train a restricted Boltzmann machine on the bundled digits by persistent contrastive divergence.

    python training/digits_rbm.py                        # minutes on one core; writes training/results/digits_rbm.*
    python training/digits_rbm.py --picture samples.png  # also draw what it samples from noise

The digits, black where a pixel is above one half, are split into the first 9,000 to learn from and the last 1,000 to
test on. Each update takes ``--k`` sweeps of Gibbs sampling from the last negatives, and one step of gradient descent
on the difference of mean free energies, with a rate that falls linearly to zero. The weights are stored in float16,
and it is those rounded weights that are judged: log Z by annealed importance sampling from both sides. Forwards the
estimate is too small on average, and the likelihood with it too good; backwards, from the ends of long chains, it is
too large. "mean" is the likelihood by the longer run forwards.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import numpy as np
import torch
from record import machine
from torch import Tensor

from ebm_lib import data
from ebm_lib.boltzmann import RBM, log_odds

RESULTS = Path(__file__).parent / "results"
HELD_OUT = 1000


def load() -> tuple[Tensor, Tensor]:
    """Return the digits to learn from and those to test on, (N, 784) zeros and ones."""
    pixels = (data.load_digits().images > 0.5).float().flatten(1)
    return pixels[:-HELD_OUT], pixels[-HELD_OUT:]


def train(digits: Tensor, args: argparse.Namespace, generator: torch.Generator) -> RBM:
    """Learn by persistent contrastive divergence."""
    rbm = RBM(digits.shape[1], args.hidden, generator=generator)
    with torch.no_grad():
        rbm.visible_bias.copy_(log_odds(digits))
    decayed = {"params": [rbm.weight], "weight_decay": args.decay}
    optimizer = torch.optim.SGD([decayed, {"params": [rbm.visible_bias, rbm.hidden_bias]}], lr=args.rate)
    falling = torch.optim.lr_scheduler.LinearLR(optimizer, 1.0, 0.0, args.updates)
    negatives = digits[torch.randperm(len(digits), generator=generator)[: args.batch]]
    order = torch.empty(0, dtype=torch.int64)
    for update in range(args.updates):
        if len(order) < args.batch:
            order = torch.randperm(len(digits), generator=generator)
        batch, order = digits[order[: args.batch]], order[args.batch :]
        negatives = rbm.contrastive_divergence(negatives, args.k, generator=generator)
        loss = rbm.free_energy(batch).mean() - rbm.free_energy(negatives).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        falling.step()
        if update % max(1, args.updates // 20) == 0:
            print(f"update {update}: free energy of data minus that of negatives {loss.item():.2f}", flush=True)
    return rbm


def schedule(steps: int) -> list[float]:
    """Return t from 0 to 1: most steps go where the energy is nearly the model's (Salakhutdinov and Murray 2008)."""
    pieces = ((0.0, 0.5, steps // 15), (0.5, 0.9, 4 * steps // 15), (0.9, 1.0, 10 * steps // 15))
    return [low + (high - low) * i / count for low, high, count in pieces for i in range(count)] + [1.0]


def judge(rbm: RBM, digits: Tensor, held_out: Tensor, generator: torch.Generator) -> dict[str, object]:
    """Estimate log Z from both sides, and the log-likelihoods with it."""
    base, runs, chains = log_odds(digits), [], 200
    some = torch.randperm(len(digits), generator=generator)[:chains]
    samples = rbm.gibbs(digits[some], sweeps=2000, generator=generator)
    for direction, steps in (("forwards", 1500), ("forwards", 15_000), ("backwards", 15_000)):
        found = rbm.estimate_log_partition(
            base,
            chains=chains,
            fractions=schedule(steps),
            samples=samples if direction == "backwards" else None,
            generator=generator,
        )
        figures = {k: round(v.item(), 3) for k, v in found._asdict().items()}
        runs.append({"direction": direction, "steps": steps, "chains": chains, **figures})
        print(runs[-1], flush=True)
    likelihood = {}
    for name, v in (("train", digits), ("held_out", held_out)):
        unnormalised = -rbm.free_energy(v).detach().double()
        likelihood[name] = {
            "mean": round(unnormalised.mean().item() - runs[1]["log_partition"], 3),
            "mean_by_backwards_estimate": round(unnormalised.mean().item() - runs[2]["log_partition"], 3),
            "standard_error_of_log_partition": runs[1]["standard_error"],
            "standard_error_over_digits": round(unnormalised.std().item() / len(v) ** 0.5, 3),
        }
    independent = -torch.nn.functional.softplus(torch.where(held_out > 0.5, -base, base)).sum(-1).mean()
    return {
        "annealed": runs,
        "log_likelihood": likelihood,
        "log_likelihood_of_independent_pixels": round(independent.item(), 3),
    }


def draw(rbm: RBM, path: Path, generator: torch.Generator) -> None:
    """Draw chains that start from noise, after more and more sweeps, as the probabilities of the last sweep."""
    import matplotlib.pyplot as plt

    v, rows, done = (torch.rand(16, 784, generator=generator) < 0.5).float(), [], 0
    for sweeps in (1, 10, 100, 1000, 5000):
        v = rbm.gibbs(v, sweeps=sweeps - done, generator=generator)
        done = sweeps
        shown = rbm.visible_probability(rbm.sample_hidden(v, generator=generator)).detach()
        rows.append(torch.cat(list(shown.view(-1, 28, 28)), 1))
    plt.imsave(path, torch.cat(rows).numpy(), cmap="gray")


def main() -> None:
    """Train, judge, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--hidden", type=int, default=350)
    p.add_argument("--updates", type=int, default=36_000)
    p.add_argument("--batch", type=int, default=100)
    p.add_argument("--k", type=int, default=1)
    p.add_argument("--rate", type=float, default=0.05)
    p.add_argument("--decay", type=float, default=1e-3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--picture", type=Path)
    p.add_argument("--out", type=Path, default=RESULTS / "digits_rbm")
    args = p.parse_args()
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(args.seed)
    digits, held_out = load()
    begun, cpu_begun = time.perf_counter(), time.process_time()
    rbm = train(digits, args, generator)
    seconds, cpu_seconds = time.perf_counter() - begun, time.process_time() - cpu_begun
    with torch.no_grad():
        for parameter in rbm.parameters():
            parameter.copy_(parameter.half().float())
    args.out.parent.mkdir(exist_ok=True)
    stored = {name: value.detach().numpy().astype(np.float16) for name, value in rbm.named_parameters()}
    np.savez_compressed(args.out.with_suffix(".npz"), **stored)
    begun = time.perf_counter()
    verdict = judge(rbm, digits, held_out, generator)
    facts = {
        "command": " ".join(["python", "training/digits_rbm.py", *sys.argv[1:]]),
        "seed": args.seed,
        "settings": {k: getattr(args, k) for k in ("hidden", "updates", "batch", "k", "rate", "decay")},
        "training_seconds": round(seconds, 1),
        "training_processor_seconds": round(cpu_seconds, 1),
        "judging_seconds": round(time.perf_counter() - begun, 1),
        **machine(),
        "pixels": "1 above 0.5, else 0",
        "train": len(digits),
        "held_out": len(held_out),
        **verdict,
    }
    args.out.with_suffix(".json").write_text(json.dumps(facts, indent=1) + "\n")
    if args.picture:
        draw(rbm, args.picture, generator)
    print(json.dumps(facts["log_likelihood"], indent=1), args.out.with_suffix(".npz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
