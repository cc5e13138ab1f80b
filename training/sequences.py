"""Recover text from telephone keys: energies of a chain, counted or trained by three losses, judged on held-out text.

    python training/sequences.py                       # all parts; writes training/results/sequences.npz and .json
    python training/sequences.py --only "nll, wide"    # one of them; what is stored of the others stays

The text is the bundled novels as 26 letters and the space; nine tenths to learn from, stretches of the last to judge.
"narrow" gives each letter the energy of its own key, "wide" also of the WIDE keys before it and behind it. Energies of
keys that cannot be a letter's are +inf in all. The settings of the training were not searched for.
"""

import argparse
import functools
import math
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from torch import Tensor
from torch.nn.functional import pad

from ebm_lib import data
from ebm_lib.structured import label_marginals, sequence_hinge, sequence_nll, sequence_perceptron, viterbi

RESULTS = Path(__file__).parent / "results" / "sequences"
LETTERS = " abcdefghijklmnopqrstuvwxyz"
KEYS = (" ", "abc", "def", "ghi", "jkl", "mno", "pqrs", "tuv", "wxyz")
WIDE = 3  # keys looked at on either side
BATCH, PLACES, RATE = 32, 50, 0.05  # sequences of a step, letters of each, largest step of Adam
JUDGED, STRETCH = 400, 100  # held-out stretches, letters of each
CHECKS = (10, 25, 50, 100, 200, 400, 600)  # steps after which the error is measured
FEW = (1000, 3000, 10000, 30000, 100000, 300000)  # letters of text, for the curve of small samples
LOSSES: dict[str, Callable[..., Tensor]] = {
    "perceptron": sequence_perceptron,
    "hinge": sequence_hinge,
    "nll": sequence_nll,
}

Result = tuple[dict[str, Tensor], dict[str, Any]]


def key_of() -> Tensor:
    """Return the key of each letter, (27,)."""
    return torch.tensor([next(k for k, group in enumerate(KEYS) if letter in group) for letter in LETTERS])


@functools.cache
def texts() -> tuple[Tensor, Tensor]:
    """Return the letters to learn from, (N,), and the stretches to judge by, (JUDGED, STRETCH)."""
    plain = re.sub("[^a-z]+", " ", re.sub("['’]", "", data.load_text().text.lower()))
    letters = torch.tensor([LETTERS.index(letter) for letter in plain])
    cut = len(letters) * 9 // 10
    return letters[:cut], letters[cut : cut + JUDGED * STRETCH].view(JUDGED, STRETCH)


def unary(weight: Tensor, x: Tensor) -> Tensor:
    """Return U_t(k) of keys x, (..., T), from the energies of each neighbouring key, (O, 10, 27); key 9 is no key."""
    offsets, places, key = len(weight), x.shape[-1], key_of()
    own = torch.zeros(len(KEYS), len(LETTERS)).masked_fill(torch.arange(len(KEYS))[:, None] != key, math.inf)
    around = pad(x, (offsets // 2, offsets // 2), value=len(KEYS))
    return own[x] + sum(w[around[..., i : i + places]] for i, w in enumerate(weight))


def counted(letters: Tensor, offsets: int) -> tuple[Tensor, Tensor]:
    """Return energies −log p from counts: of the keys around a letter, as if they were independent, and of bigrams.

    The middle one of the first holds −log p(letter), for the letter itself. Each count begins at one.
    """
    x, size, half = key_of()[letters], len(LETTERS), offsets // 2
    pairs = torch.ones(size, size).index_put_((letters[:-1], letters[1:]), torch.ones(len(letters) - 1), True)
    around = pad(x, (half, half), value=len(KEYS))
    weight = torch.ones(offsets, len(KEYS) + 1, size)
    for i in range(offsets):
        weight[i].index_put_((around[i : i + len(x)], letters), torch.ones(len(x)), True)
    weight = -(weight / weight.sum(1, keepdim=True)).log()
    weight[half] = 0.0
    return weight, -(pairs / pairs.sum(1, keepdim=True)).log()


def wrong(labels: Tensor, y: Tensor) -> tuple[float, float]:
    """Return the share of letters that are wrong, spaces left out, in percent, and its standard error over rows."""
    letter = y > 0
    missed = ((labels != y) & letter).sum(1).double()
    total = letter.sum(1).double()
    share = missed.sum() / total.sum()
    deviation = (missed - share * total).square().sum().sqrt() / total.sum()
    return round(100 * float(share), 2), round(100 * float(deviation), 2)


def judged(weight: Tensor, pairwise: Tensor) -> dict[str, Any]:
    """Measure the best path and the best letters on held-out stretches."""
    _, y = texts()
    u = unary(weight, key_of()[y])
    best, deviation = wrong(viterbi(u, pairwise).labels, y)
    letters, _ = wrong(label_marginals(u, pairwise).single.argmax(-1), y)
    return {"error": best, "deviation": deviation, "by marginals": letters}


def by_counting(args: argparse.Namespace) -> Result:
    """Measure energies that were counted, with narrow and wide features."""
    known, _ = texts()
    return {}, {name: judged(*counted(known, size)) for name, size in (("narrow", 1), ("wide", 2 * WIDE + 1))}


def learn(loss: str, offsets: int, letters: Tensor, steps: int, seed: int, checks: tuple[int, ...] = ()) -> tuple:
    """Train from zero on random stretches; return the weights, their mean over steps, and errors along the way."""
    g, key, curve = torch.Generator().manual_seed(seed), key_of(), []
    weight = torch.zeros(offsets, len(KEYS) + 1, len(LETTERS), requires_grad=True)
    pairwise = torch.zeros(len(LETTERS), len(LETTERS), requires_grad=True)
    mean = [torch.zeros_like(weight), torch.zeros_like(pairwise)]
    optimizer = torch.optim.Adam([weight, pairwise], lr=RATE)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, RATE, total_steps=steps + 1, pct_start=0.1)
    for step in range(1, steps + 1):
        start = torch.randint(len(letters) - PLACES + 1, (BATCH, 1), generator=g)
        y = letters[start + torch.arange(PLACES)]
        value = LOSSES[loss](unary(weight, key[y]), pairwise, y).mean()
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        schedule.step()
        with torch.no_grad():
            for average, now in zip(mean, (weight, pairwise), strict=True):
                average += (now - average) / step
            if step in checks:
                curve.append(wrong(viterbi(unary(weight, key[texts()[1]]), pairwise).labels, texts()[1])[0])
    return (weight.detach(), pairwise.detach()), mean, curve


def trained(args: argparse.Namespace, loss: str, offsets: int) -> Result:
    """Train from several seeds; measure the last weights, and their mean over all steps."""
    found: dict[str, list] = {"curve": [], "last": [], "averaged": [], "spread of V": []}
    arrays = {}
    for seed in range(args.seed, args.seed + args.seeds):
        last, mean, curve = learn(loss, offsets, texts()[0], args.steps, seed, CHECKS)
        found["curve"].append(curve)
        found["last"].append(judged(*last))
        found["averaged"].append(judged(*mean))
        found["spread of V"].append(round(float(last[1].std()), 3))
        if loss == "nll" and seed == args.seed:
            arrays = {"weight": last[0], "pairwise": last[1]}
        print(loss, offsets, seed, {k: v[-1] for k, v in found.items()}, flush=True)
    return arrays, found


def few(args: argparse.Namespace) -> Result:
    """Measure counts, and narrow and wide energies trained by likelihood, on little text: another piece a seed."""
    found: dict[str, list] = {"letters": list(FEW), "counts": [], "narrow": [], "wide": []}
    known, _ = texts()
    for size in FEW:
        row: dict[str, list] = {"counts": [], "narrow": [], "wide": []}
        for seed in range(args.seed, args.seed + args.seeds):
            at = int(torch.randint(len(known) - size, (), generator=torch.Generator().manual_seed(seed)))
            piece = known[at : at + size]
            row["counts"].append(judged(*counted(piece, 1))["error"])
            for name, offsets in (("narrow", 1), ("wide", 2 * WIDE + 1)):
                row[name].append(judged(*learn("nll", offsets, piece, 200, seed)[0])["error"])
        for name, errors in row.items():
            found[name].append(errors)
        print(size, row, flush=True)
    return {}, found


PARTS = {"counts": by_counting}
for _loss in LOSSES:
    PARTS |= {
        f"{_loss}, narrow": functools.partial(trained, loss=_loss, offsets=1),
        f"{_loss}, wide": functools.partial(trained, loss=_loss, offsets=2 * WIDE + 1),
    }
PARTS |= {"few": few}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=600)
    p.add_argument("--seeds", type=int, default=5)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/sequences.py", "steps": args.steps, "seeds": args.seeds, "checks": CHECKS,
             "wide": WIDE, "judged": JUDGED * STRETCH}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
