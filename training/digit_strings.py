"""Read lines of handwritten digits that touch and overlap: cut first, or cut and read at once, told the string alone.

    python training/digit_strings.py                      # all parts; writes training/results/digit_strings.npz, .json
    python training/digit_strings.py --only likelihood    # one of them; what is stored of the others stays

- isolated: the network learns single digits, whose extent is given. It then reads lines cut at even distances (it is
  told how many digits there are), at blank columns, and at the true places, which nobody knows outside this file; and
  lines through the lattice of segmentations, for which it was not trained.
- likelihood, likelihood again: the same network from random weights, trained on lines and their strings through the
  lattice, by −log P(string); two seeds.
- perceptron: the same with the perceptron loss.

The lines to learn from are made of other digits than those to judge on. The settings were not searched for.
"""

import argparse
import functools
import itertools
import math
from pathlib import Path
from typing import Any

import torch
from record import run_parts
from torch import Tensor, nn
from torch.nn.functional import conv1d, cross_entropy, pad, relu

from ebm_lib import data
from ebm_lib.nn import init_
from ebm_lib.structured import best_segmentations, spelling_loss

RESULTS = Path(__file__).parent / "results" / "digit_strings"
STRIDE, WIDEST, POINTS, HIDDEN = 4, 7, 5, 96  # columns of a place; places of the widest segment
BATCH, RATE, STEPS, ISOLATED_STEPS = 32, 2e-3, 2500, 1500
TEST, EVERY = 1000, 250  # lines to judge on; steps between two measurements

Result = tuple[dict[str, Tensor], dict[str, Any]]


class Reader(nn.Module):
    """Lines (N, 28, W) to energies of segments, (N, T, WIDEST, 10): of every end, width and digit; T = ⌈W / STRIDE⌉.

    Two convolutions see the line once. A segment of w places is then resampled to POINTS places and read by one
    perceptron, the same for all segments; a segment's width has an energy of its own.
    """

    def __init__(self) -> None:
        super().__init__()
        self.eyes = nn.Sequential(
            nn.Conv2d(1, 12, 5, padding=2),
            nn.ReLU(),
            nn.MaxPool2d(2),
            nn.Conv2d(12, 24, 3, padding=1),
            nn.ReLU(),
            nn.MaxPool2d(2),
        )
        self.hidden = nn.Parameter(torch.empty(HIDDEN, 24 * 7, POINTS))
        self.bias = nn.Parameter(torch.empty(WIDEST, HIDDEN))
        self.digit = nn.Linear(HIDDEN, 10)
        self.width = nn.Parameter(torch.empty(WIDEST, 10))
        for w in range(1, WIDEST + 1):
            self.register_buffer(f"resample_{w}", resampling(w), persistent=False)

    def reset_parameters(self) -> None:
        """Draw the filters that read a segment; widths start alike."""
        nn.init.normal_(self.hidden, 0, 1 / math.sqrt(24 * 7 * POINTS))
        nn.init.zeros_(self.bias)
        nn.init.zeros_(self.width)

    def forward(self, images: Tensor) -> Tensor:
        """Return the energies of all segments."""
        seen = self.eyes(pad(images, (0, -images.shape[-1] % STRIDE)).unsqueeze(1)).flatten(1, 2)
        found = []
        for w in range(1, WIDEST + 1):
            # Resampling a segment and then weighing its points is weighing its places: one convolution per width.
            filters = self.hidden @ getattr(self, f"resample_{w}")
            read = relu(conv1d(pad(seen, (w - 1, 0)), filters) + self.bias[w - 1, :, None])
            found.append(self.digit(read.mT) + self.width[w - 1])
        return torch.stack(found, 2)


def resampling(w: int) -> Tensor:
    """Return the weights, (POINTS, w), that read POINTS evenly spread points out of w places, between two linearly."""
    at = ((torch.arange(POINTS) + 0.5) / POINTS * w - 0.5).clamp(0, w - 1)
    return (1 - (at[:, None] - torch.arange(w)).abs()).clamp(min=0)


def places(widths: Tensor) -> Tensor:
    """Return how many places of the lattice lines of so many columns have."""
    return (widths + STRIDE - 1) // STRIDE


@functools.cache
def test_lines() -> data.DigitStrings:
    """Return the lines to judge on."""
    return data.digit_strings(TEST, held_out=True, generator=torch.Generator().manual_seed(10_000))


def strings(labels: Tensor) -> Tensor:
    """Return labels cut or filled with −1 to seven, one more than any line has, so that too long a string shows."""
    return pad(labels[:, :7], (0, max(0, 7 - labels.shape[1])), value=-1)


@torch.no_grad()
def energies(net: Reader, images: Tensor) -> Tensor:
    """Return the energies of all segments, in blocks of 250 lines."""
    return torch.cat([net(block) for block in images.split(250)])


def error(read: Tensor) -> float:
    """Return the percentage of the lines to judge on whose string is not wholly right."""
    return round(100 * (strings(read) != strings(test_lines().labels)).any(-1).double().mean().item(), 2)


def lattice_error(energy: Tensor) -> float:
    """Return the same for the best segmentations of a lattice."""
    return error(best_segmentations(energy, lengths=places(test_lines().widths)).labels[:, 0])


def crop(image: Tensor, left: int, right: int) -> tuple[Tensor, int]:
    """Return columns left to right, (28, 28), in the middle of as many places as they need; and these places."""
    piece = image[:, left : right + 1][:, : WIDEST * STRIDE]
    count = -(-piece.shape[1] // STRIDE)
    before = (count * STRIDE - piece.shape[1]) // 2
    return pad(piece, (before, WIDEST * STRIDE - before - piece.shape[1])), count


def whole(net: Reader, pieces: list[tuple[Tensor, int]]) -> Tensor:
    """Return the digits' energies for pieces read as one segment each, (N, 10)."""
    ends = torch.tensor([count - 1 for _, count in pieces])
    return net(torch.stack([piece for piece, _ in pieces]))[torch.arange(len(pieces)), ends, ends]


@torch.no_grad()
def cut_first(net: Reader, extents: list[list[tuple[int, int]]]) -> float:
    """Return the percentage of lines read wrongly if line i is cut into the given columns, first and last."""
    lines = test_lines()
    read = torch.full((TEST, 7), -1)
    for i, found in enumerate(extents):
        digits = whole(net, [crop(lines.images[i], *columns) for columns in found]).argmin(-1)[:7]
        read[i, : len(digits)] = digits
    return error(read)


def even(ink: Tensor, count: int) -> list[tuple[int, int]]:
    """Cut columns with ink into pieces of equal width."""
    first, last = (int(v) for v in ink.nonzero()[[0, -1], 0])
    edges = [first + round(k * (last + 1 - first) / count) for k in range(count + 1)]
    return [(a, b - 1) for a, b in itertools.pairwise(edges)]


def at_blanks(ink: Tensor) -> list[tuple[int, int]]:
    """Cut wherever a column has no ink."""
    change = torch.diff(pad(ink.long(), (1, 1)))
    return list(zip((change == 1).nonzero()[:, 0].tolist(), ((change == -1).nonzero()[:, 0] - 1).tolist(), strict=True))


def schedule(optimizer: torch.optim.Optimizer, step: int, steps: int) -> None:
    """Warm up for 50 steps, then go down to zero in a straight line."""
    for group in optimizer.param_groups:
        group["lr"] = RATE * min(1.0, (step + 1) / 50) * (1 - step / steps)


def isolated(args: argparse.Namespace) -> Result:
    """Train on single digits, then cut first, and read, in three ways; and read through the lattice."""
    net, g = init_(Reader(), torch.Generator().manual_seed(args.seed)), torch.Generator().manual_seed(args.seed + 1)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    for step in range(args.isolated_steps):
        schedule(optimizer, step, args.isolated_steps)
        one = data.digit_strings(2 * BATCH, digits=(1, 1), generator=g)
        extents = one.cuts[:, 0].tolist()
        energy = whole(net, [crop(image, *columns) for image, columns in zip(one.images, extents, strict=True)])
        loss = cross_entropy(-energy, one.labels[:, 0])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    net.eval()
    lines = test_lines()
    ink = [image[:, :width].amax(0) > 0 for image, width in zip(lines.images, lines.widths.tolist(), strict=True)]
    count = lines.lengths.tolist()
    true = [c[:k] for c, k in zip(lines.cuts.tolist(), count, strict=True)]
    one = data.digit_strings(TEST, digits=(1, 1), held_out=True, generator=torch.Generator().manual_seed(10_001))
    with torch.no_grad():
        alone = whole(net, [crop(image, *c) for image, c in zip(one.images, one.cuts[:, 0].tolist(), strict=True)])
    energy = energies(net, lines.images)
    facts = {
        "single digits": round(100 * (alone.argmin(-1) != one.labels[:, 0]).double().mean().item(), 2),
        "even": cut_first(net, [even(columns, k) for columns, k in zip(ink, count, strict=True)]),
        "blanks": cut_first(net, [at_blanks(columns) for columns in ink]),
        "true cuts": cut_first(net, true),
        "lattice of energies": lattice_error(energy),
        "lattice of -log p": lattice_error(-torch.log_softmax(-energy, -1)),
    }
    print(facts, flush=True)
    return {f"weights/{name}": w.detach() for name, w in net.state_dict().items()}, facts


def through_lattice(args: argparse.Namespace, beta: float, again: int = 0) -> Result:
    """Train on lines and their strings; keep the energies of a few lines on the way."""
    seed = args.seed + 10 * again
    net, g = init_(Reader(), torch.Generator().manual_seed(seed)), torch.Generator().manual_seed(seed + 1)
    optimizer = torch.optim.Adam(net.parameters(), RATE)
    curve, kept, total = [], [], 0.0
    shown = ((test_lines().lengths == 3).nonzero()[:, 0])[:4]
    for step in range(args.steps + 1):
        if step % EVERY == 0 or step in (25, 50, 100):
            found = lattice_error(energies(net, test_lines().images))
            curve.append({"step": step, "error": found})
            kept.append(energies(net, test_lines().images[shown]))
            print(beta, seed, curve[-1], round(total / max(step, 1), 3), flush=True)
        if step == args.steps:
            break
        schedule(optimizer, step, args.steps)
        lines = data.digit_strings(BATCH, generator=g)
        loss = spelling_loss(
            net(lines.images), lines.labels, beta, lengths=places(lines.widths), label_lengths=lines.lengths
        ).mean()
        total += loss.item()
        optimizer.zero_grad()
        loss.backward()
        nn.utils.clip_grad_norm_(net.parameters(), 5.0)
        optimizer.step()
    arrays = {} if again else {f"weights/{name}": w.detach() for name, w in net.state_dict().items()}
    if not again:
        arrays |= {"kept": torch.stack(kept)}
    return arrays, {"curve": curve, "error": curve[-1]["error"], "shown": shown.tolist()}


PARTS = {
    "isolated": isolated,
    "likelihood": functools.partial(through_lattice, beta=1.0),
    "perceptron": functools.partial(through_lattice, beta=math.inf),
    "likelihood again": functools.partial(through_lattice, beta=1.0, again=1),
}


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--only", choices=PARTS)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--steps", type=int, default=STEPS, help="of the lattices")
    parser.add_argument("--isolated-steps", type=int, default=ISOLATED_STEPS)
    parser.add_argument("--out", type=Path, default=RESULTS)
    args = parser.parse_args()
    facts = {"lines": TEST, "batch": BATCH, "steps": args.steps, "isolated_steps": args.isolated_steps}
    run_parts(PARTS, args, facts)
