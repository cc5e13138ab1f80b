"""Recognise spoken digits of voices never heard: by nearest neighbours, by mean templates, by trained templates.

    python training/templates.py                      # all parts; writes training/results/templates.npz and .json
    python training/templates.py --only "hard, means" # one of them; what is stored of the others stays

The speech is the bundled spoken digits: 7 accents × 13 voice variants, all synthesised. Each of three splits holds four
variants of every accent out, 28 voices: they are in no template. "clean" is the speech as it was synthesised; "hard"
adds white noise of the utterance's own power to every utterance and lets its tempo swing by a random amount.

The settings of the losses were not searched for.
"""

import argparse
import functools
import math
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import run_parts
from torch import Tensor
from torch.nn.functional import interpolate, pad
from torch.nn.utils.rnn import pad_sequence

from ebm_lib import data
from ebm_lib.losses import answers
from ebm_lib.structured import alignment_probability, dtw, of_temperature, squared_distances

RESULTS = Path(__file__).parent / "results" / "templates"
BANDS, FRAMES, MOST = 20, 20, 64  # of an utterance; of a template; frames of 20 ms that any utterance may have
HELD_OUT = (("m7", "m8", "f4", "f5"), ("m1", "m3", "m6", "f3"), ("m2", "m4", "f1", "f2"))  # by split
SWING = 0.6  # largest relative change of tempo
SHARPNESS, MARGIN = 40.0, 0.1  # of the losses, for energies per frame
BETAS = (1.0, 10.0, 100.0, math.inf)  # of the alignment
WIDTHS = (0, 1, 2, 3, 5, 8, FRAMES - 1)

Result = tuple[dict[str, Tensor], dict[str, Any]]


class Words(NamedTuple):
    """Utterances as filter-bank frames, (N, MOST, BANDS), and what is known of each."""

    x: Tensor
    frames: Tensor
    labels: Tensor
    even: Tensor  # the same utterances, resampled to FRAMES frames each

    def at(self, rows: Tensor) -> "Words":
        """Return some of the utterances."""
        return Words(*(part[rows] for part in self))


def filters() -> Tensor:
    """Return triangles on the mel scale, (BANDS, 129)."""
    low, top = (2595 * math.log10(1 + f / 700) for f in (60, 4000))
    edges = 700 * (10 ** (torch.linspace(low, top, BANDS + 2) / 2595) - 1)
    f, left, peak, right = torch.linspace(0, 4000, 129), *(edges[i : i + BANDS, None] for i in range(3))
    return torch.minimum((f - left) / (peak - left), (right - f) / (right - peak)).clamp(min=0)


def resample(u: Tensor, place: Tensor) -> Tensor:
    """Return frames at fractional places, (len(place), BANDS), by linear interpolation."""
    low = place.floor().long().clamp(max=max(len(u) - 2, 0))
    share = (place - low).unsqueeze(1)
    return (1 - share) * u[low] + share * u[(low + 1).clamp(max=len(u) - 1)]


@functools.cache
def words(kind: str) -> Words:
    """Return all utterances, "clean" or "hard": each band of each with mean 0 and deviation near 1.

    All are divided by the root of the number of bands, so that a squared distance is a mean over bands.
    """
    spoken, bank, window = data.load_spoken_digits(), filters(), torch.hann_window(256)
    g, found = torch.Generator().manual_seed(0), []
    for i in range(len(spoken.labels)):
        wave = spoken.wave(i)
        if kind == "hard":
            wave = wave + wave.square().mean().sqrt() * torch.randn(wave.shape, generator=g)
        power = torch.stft(wave, 256, 160, 256, window, return_complex=True).abs().square()
        u = (bank @ power + 1e-4).log().T
        if kind == "hard":
            t = torch.linspace(0, 1, len(u))
            swing = SWING * (2 * torch.rand((), generator=g) - 1)
            u = resample(u, (len(u) - 1) * (t + swing * torch.sin(2 * math.pi * t) / (2 * math.pi)))
        found.append((u - u.mean(0)) / (u.std(0) + 0.3) / math.sqrt(BANDS))
    x = pad_sequence(found, batch_first=True)
    even = [interpolate(u.T[None], FRAMES, mode="linear", align_corners=True)[0].T for u in found]
    frames = torch.tensor([len(u) for u in found])
    return Words(pad(x, (0, 0, 0, MOST - x.shape[1])), frames, spoken.labels, torch.stack(even))


def parts(all_words: Words, split: int) -> tuple[Words, Words]:
    """Return the utterances to learn from, and those of the voices that the split holds out."""
    spoken = data.load_spoken_digits()
    held = torch.tensor([spoken.voice_names[v].split("+")[1] in HELD_OUT[split] for v in spoken.voices])
    return all_words.at((~held).nonzero()[:, 0]), all_words.at(held.nonzero()[:, 0])


def energies(w: Words, templates: Tensor, beta: float = math.inf, frames: Tensor | None = None) -> Tensor:
    """Return F_β(x, y), (N, K), for templates (K, FRAMES, BANDS): not divided by any length."""
    n, k = len(w.x), len(templates)
    x = w.x[:, None, : int(w.frames.max())]
    columns = None if frames is None else frames.expand(n, k)
    return dtw(x, templates, of_temperature(beta), rows=w.frames[:, None].expand(n, k), columns=columns)


@torch.no_grad()
def judged(w: Words, templates: Tensor, beta: float = math.inf, frames: Tensor | None = None) -> Tensor:
    """Return the energies of all utterances, in blocks of 70."""
    return torch.cat([energies(w.at(rows), templates, beta, frames) for rows in torch.arange(len(w.x)).split(70)])


def error(energy: Tensor, answer: Tensor, w: Words) -> float:
    """Return the percentage of words that the template or neighbour of lowest energy gets wrong."""
    return round(100 * (answer[energy.argmin(1)] != w.labels).double().mean().item(), 2)


def against(w: Words, known: Words, band: int | None = None) -> Tensor:
    """Return the distance of each word to each known one, (N, K); with a band, of the evenly resampled words."""
    found = []
    for rows in torch.arange(len(w.x)).split(10):
        if band is None:
            found.append(energies(w.at(rows), known.x[:, : int(known.frames.max())], frames=known.frames))
        else:
            found.append(dtw(w.even[rows][:, None], known.even, band=band))
    return torch.cat(found)


def means(known: Words, rounds: int = 0, beta: float = math.inf) -> Tensor:
    """Return mean templates: of the resampled words, then of the frames that the alignment gives to each place."""
    templates = torch.stack([known.even[known.labels == digit].mean(0) for digit in range(10)])
    for _ in range(rounds):
        cost = squared_distances(known.x, templates[known.labels])
        p = alignment_probability(cost, beta, rows=known.frames)
        member = torch.nn.functional.one_hot(known.labels, 10).to(p.dtype)
        total = torch.einsum("ny,nij,nid->yjd", member, p, known.x)
        templates = total / torch.einsum("ny,nij->yj", member, p)[..., None]
    return templates


def prototypes(known: Words, count: int, seed: int) -> Tensor:
    """Return several templates of each digit, (10 · count, …): means of random parts of its utterances, aligned."""
    g = torch.Generator().manual_seed(seed)
    group = torch.randint(count, (len(known.x),), generator=g)
    return torch.stack([means(known.at((group == k).nonzero()[:, 0]), rounds=3) for k in range(count)], 1).flatten(0, 1)


def learn(known: Words, templates: Tensor, beta: float, loss: str, steps: int, seed: int) -> Tensor:
    """Move templates down the gradient of a loss over the ten energies per frame, and return them."""
    g = torch.Generator().manual_seed(seed)
    templates = templates.clone().requires_grad_()
    optimizer = torch.optim.Adam([templates], lr=0.01)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 0.01, total_steps=steps + 1, pct_start=0.1)
    for _ in range(steps):
        batch = known.at(torch.randint(len(known.x), (64,), generator=g))
        free = energies(batch, templates, beta) / (batch.frames[:, None] + FRAMES)
        energy = free.unflatten(1, (10, -1)).amin(-1)  # the best template of each digit
        if loss == "nll":
            value = answers.nll(energy, batch.labels, SHARPNESS)
        elif loss == "perceptron":
            value = answers.perceptron(energy, batch.labels)
        else:
            value = answers.all_outputs_hinge(energy, batch.labels, MARGIN)
        optimizer.zero_grad()
        value.mean().backward()
        optimizer.step()
        schedule.step()
    return templates.detach()


def confusion(energy: Tensor, w: Words) -> list[list[int]]:
    """Count, for each digit said, (10, 10), what was answered."""
    return torch.bincount(10 * w.labels + energy.argmin(1), minlength=100).view(10, 10).tolist()


def neighbours(args: argparse.Namespace, kind: str) -> Result:
    """Measure nearest neighbours: resampled, and aligned, with and without division by the length of the path."""
    found: dict[str, list] = {"resampled": [], "aligned": [], "aligned, per frame": [], "known": [], "tested": []}
    for split in range(args.splits):
        known, new = parts(words(kind), split)
        free = against(new, known)
        found["resampled"].append(error(against(new, known, band=0), known.labels, new))
        found["aligned"].append(error(free, known.labels, new))
        found["aligned, per frame"].append(
            error(free / (new.frames[:, None] + known.frames), known.labels, new)
        )  # fmt: skip
        found["known"].append(len(known.x))
        found["tested"].append(len(new.x))
        print(kind, split, {name: values[-1] for name, values in found.items()}, flush=True)
    return {}, found


def mean_templates(args: argparse.Namespace, kind: str) -> Result:
    """Measure mean templates: compared frame by frame, aligned, averaged along alignments; and of unequal lengths."""
    names = ("resampled", "aligned", "aligned means", "soft aligned means")
    found: dict[str, list] = {name: [] for name in names} | {"confusion": []}
    digits = torch.arange(10)
    for split in range(args.splits):
        known, new = parts(words(kind), split)
        start, after, soft = means(known), means(known, rounds=5), means(known, rounds=5, beta=10.0)
        found["resampled"].append(error(squared(new, start), digits, new))
        found["aligned"].append(error(judged(new, start), digits, new))
        found["aligned means"].append(error(judged(new, after), digits, new))
        found["soft aligned means"].append(error(judged(new, soft), digits, new))
        found["confusion"].append(confusion(judged(new, after), new))
        print(kind, split, {name: found[name][-1] for name in names}, flush=True)
    return {}, found


def squared(w: Words, templates: Tensor) -> Tensor:
    """Return squared distances frame by frame of the resampled words, (N, K): no alignment."""
    return (w.even[:, None] - templates).square().sum((-1, -2))


def unequal(args: argparse.Namespace, kind: str) -> Result:
    """Measure templates each as long as its digit's mean utterance, with and without division by N + M_y."""
    found: dict[str, list] = {}
    digits = torch.arange(10)
    for split in range(args.splits):
        known, new = parts(words(kind), split)
        frames = torch.stack([known.frames[known.labels == d].double().mean().round().long() for d in range(10)])
        resized = [
            interpolate(t.T[None], int(m), mode="linear", align_corners=True)[0].T
            for t, m in zip(means(known, rounds=5), frames, strict=True)
        ]
        templates = pad_sequence(resized, batch_first=True)
        for beta in (0.1, *BETAS):
            free = judged(new, templates, beta, frames)
            plain = error(free, digits, new)
            per_frame = error(free / (new.frames[:, None] + frames), digits, new)
            found.setdefault(str(beta), []).append([plain, per_frame])
        found.setdefault("frames", []).append(frames.tolist())
    print(kind, found, flush=True)
    return {}, found


def bands(args: argparse.Namespace, kind: str) -> Result:
    """Measure nearest neighbours of evenly resampled words by the width of the band."""
    found = {}
    for split in range(args.splits):
        known, new = parts(words(kind), split)
        for width in WIDTHS:
            found.setdefault(str(width), []).append(error(against(new, known, width), known.labels, new))
    print(kind, found, flush=True)
    return {}, found


def trained(args: argparse.Namespace, kind: str, loss: str, beta: float, count: int = 1) -> Result:
    """Train templates on each split, and measure them with the alignment of training and with the best one."""
    found: dict[str, list] = {"error": [], "by the minimum": [], "before": [], "known": [], "confusion": []}
    arrays = {}
    answer = torch.arange(10).repeat_interleave(count)
    for split in range(args.splits):
        known, new = parts(words(kind), split)
        start = means(known, rounds=5) if count == 1 else prototypes(known, count, args.seed + split)
        after = learn(known, start, beta, loss, args.steps, args.seed + split)
        energy = judged(new, after, beta)
        found["error"].append(error(energy, answer, new))
        found["by the minimum"].append(error(judged(new, after), answer, new))
        found["before"].append(error(judged(new, start), answer, new))
        found["known"].append(error(judged(known, after, beta), answer, known))
        if count == 1:
            found["confusion"].append(confusion(energy, new))
            arrays |= {f"{split}/start": start, f"{split}/after": after}
        print(
            kind, loss, beta, count, split, {k: v[-1] for k, v in found.items() if k != "confusion" and v}, flush=True
        )
    return arrays if loss == "nll" and math.isinf(beta) else {}, found


PARTS = {}
for _kind in ("clean", "hard"):
    PARTS |= {
        f"{_kind}, neighbours": functools.partial(neighbours, kind=_kind),
        f"{_kind}, means": functools.partial(mean_templates, kind=_kind),
        f"{_kind}, nll, inf": functools.partial(trained, kind=_kind, loss="nll", beta=math.inf),
    }
PARTS |= {
    "hard, unequal": functools.partial(unequal, kind="hard"),
    "hard, bands": functools.partial(bands, kind="hard"),
    **{f"hard, nll, {b:g}": functools.partial(trained, kind="hard", loss="nll", beta=b) for b in BETAS[:-1]},
    "hard, perceptron, inf": functools.partial(trained, kind="hard", loss="perceptron", beta=math.inf),
    "hard, hinge, inf": functools.partial(trained, kind="hard", loss="hinge", beta=math.inf),
    "hard, three a digit": functools.partial(trained, kind="hard", loss="nll", beta=math.inf, count=3),
}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=150)
    p.add_argument("--splits", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/templates.py", "steps": args.steps, "splits": args.splits,
             "held_out": HELD_OUT, "sharpness": SHARPNESS, "margin": MARGIN, "swing": SWING}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
