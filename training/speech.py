"""Let a network predict its own features of speech a moment ahead, among negatives; then count labels.

    python training/speech.py                      # all parts; writes training/results/speech.npz and .json
    python training/speech.py --only "supervised"  # one of them; what is stored of the others stays

The speech is the bundled spoken digits: 7 accents × 13 voice variants. Each seed holds four variants of every accent
out, 28 voices: no predictor hears them, no label is theirs, and all accuracies are on them. Settings were chosen with
m3, m6 and f3 held out, which are among those of the second seed.

A way of learning is: which latents are the negatives; whether the past is heard with another stretch of the frequency
axis than the future; and whether the levels of the bands, which tell the voice, are kept or set to 0. "accents" are
models for one accent each, with as many steps as the model for all of them, or with as many passes through their data,
so that all seven cost what the one does.
"""

import argparse
import functools
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from record import run_parts
from torch import Tensor, nn
from torch.nn.functional import cross_entropy, normalize, relu

from ebm_lib import data
from ebm_lib.joint import collapse, linear_probe
from ebm_lib.losses import info_nce

RESULTS = Path(__file__).parent / "results" / "speech"
BANDS, LATENT, CONTEXT, AHEAD = 40, 64, 96, 8
STRETCHES = (1.0, 0.8, 0.87, 0.93, 1.07, 1.15, 1.25)
HELD_OUT = (("m7", "m8", "f4", "f5"), ("m1", "m3", "m6", "f3"), ("m2", "m4", "f1", "f2"))  # by seed
TEMPERATURE, DRAWN = 0.1, 96
LABELS = (1, 2, 5, 10, 30, 63)  # utterances of each digit; 63 are all
DRAWS = 4
FULL = "other voices, stretched"
WAYS: dict[str, dict[str, Any]] = {
    FULL: {},
    "other voices": {"stretch": False},
    "other voices, levels kept": {"stretch": False, "levels": True},
    "same voice, levels kept": {"negatives": "same voice", "stretch": False, "levels": True},
    "same utterance, levels kept": {"negatives": "same utterance", "stretch": False, "levels": True},
    "no negatives": {"negatives": None},
    "negatives back halfway": {"negatives": None, "back": True},
}

Result = tuple[dict[str, Tensor], dict[str, Any]]


class Speech(NamedTuple):
    """Utterances as filter-bank energies: (stretches, N, frames, bands), and what is known of each."""

    x: Tensor
    frames: Tensor
    labels: Tensor
    voices: Tensor
    accents: Tensor

    def at(self, rows: Tensor) -> "Speech":
        """Return some of the utterances."""
        return Speech(self.x[:, rows], *(part[rows] for part in self[1:]))


class Predictor(nn.Module):
    """Latents z of 20 ms each, a context c that has heard them so far, and a linear guess at each of the next."""

    def __init__(self) -> None:
        super().__init__()
        self.hear = nn.Conv1d(BANDS, LATENT, 5, stride=2, padding=2)
        self.norm = nn.LayerNorm(LATENT)
        self.mix = nn.Linear(LATENT, LATENT)
        self.context = nn.GRU(LATENT, CONTEXT, batch_first=True)
        self.ahead = nn.Linear(CONTEXT, AHEAD * LATENT)
        self.classify = nn.Linear(CONTEXT, 10)  # for those who are given labels

    def latents(self, x: Tensor) -> Tensor:
        """Return z, (N, T, LATENT)."""
        return self.mix(relu(self.norm(self.hear(x.mT).mT)))

    def guesses(self, c: Tensor) -> Tensor:
        """Return what is expected 1, 2, ... latents ahead, (N, T, AHEAD, LATENT), of length 1."""
        return normalize(self.ahead(c).unflatten(-1, (AHEAD, LATENT)), dim=-1)


def build(seed: int) -> Predictor:
    """Return a predictor with the seed's weights."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        return Predictor()


def filters(stretch: float = 1.0) -> Tensor:
    """Return triangles on the mel scale, (BANDS, 129), over a frequency axis that is stretched."""
    top = 2595 * math.log10(1 + 4000 / 700)
    edges = 700 * (10 ** (torch.linspace(2595 * math.log10(1 + 60 / 700), top, BANDS + 2) / 2595) - 1)
    f, low, peak, high = torch.linspace(0, 4000, 129) * stretch, *(edges[i : i + BANDS, None] for i in range(3))
    return torch.minimum((f - low) / (peak - low), (high - f) / (high - peak)).clamp(min=0)


@functools.cache
def speech(levels: bool = False) -> Speech:
    """Return all utterances, each band of each with mean 0, deviation near 1; or on one scale, levels kept."""
    spoken = data.load_spoken_digits()
    window = torch.hann_window(200)  # 25 ms, every 10
    power = [
        torch.stft(spoken.wave(i), 256, 80, 200, window, return_complex=True).abs().square()
        for i in range(len(spoken.labels))
    ]
    frames = torch.tensor([p.shape[1] for p in power])
    x = torch.zeros(len(STRETCHES), len(power), int(frames.max()), BANDS)
    for s, stretch in enumerate(STRETCHES):
        bank = filters(stretch)
        for i, p in enumerate(power):
            u = (bank @ p + 1e-4).log().T
            x[s, i, : len(u)] = (u + 3.5) / 3 if levels else (u - u.mean(0)) / (u.std(0) + 0.3)
    names = [name.split("+")[0] for name in spoken.voice_names]
    accents = torch.tensor([list(dict.fromkeys(names)).index(name) for name in names])
    return Speech(x, frames, spoken.labels, spoken.voices, accents[spoken.voices])


def parts(spoken: Speech, seed: int) -> tuple[Speech, Speech]:
    """Return the utterances of the voices to learn from, and of those that the seed holds out."""
    names = data.load_spoken_digits().voice_names
    held = torch.tensor([names[v].split("+")[1] in HELD_OUT[seed % 3] for v in spoken.voices])
    return spoken.at((~held).nonzero()[:, 0]), spoken.at(held.nonzero()[:, 0])


def lengths(frames: Tensor) -> Tensor:
    """Return how many latents there are."""
    return (frames + 1) // 2


def energies(
    p: Tensor, z: Tensor, batch: Speech, negatives: str, drawn: int, g: torch.Generator
) -> tuple[Tensor, Tensor, Tensor]:
    """Return minus cosines of each guess with its target and with its negatives (+inf: none), and how far ahead."""
    n, time = z.shape[:2]
    t = torch.arange(time)
    count = lengths(batch.frames)
    target = t[:, None] + torch.arange(1, AHEAD + 1)
    exists = target < count[:, None, None]
    target = target.clamp(max=time - 1)
    z = normalize(z, dim=-1)
    positive = -(p * z[:, target]).sum(-1)
    utterance, when = (t < count[:, None]).nonzero(as_tuple=True)
    if negatives == "same utterance":
        negative = -torch.einsum("ntkd,nsd->ntks", p, z)
        out = (t >= count[:, None])[:, None, None] | (target[..., None] == t)
    else:
        few = negatives == "same voice"
        chosen = torch.randint(len(utterance), (drawn * 4 if few else drawn,), generator=g)  # one voice in four
        utterance, when = utterance[chosen], when[chosen]
        negative = -torch.einsum("ntkd,md->ntkm", p, z[utterance, when])
        own = utterance == torch.arange(n)[:, None]
        known = batch.voices[utterance] == batch.voices[:, None]
        out = ((own | ~known) if few else known)[:, None, None]
    step = torch.arange(AHEAD).expand_as(exists)[exists]
    return positive[exists], negative.masked_fill(out, math.inf)[exists], step


def learn(
    net: Predictor,
    spoken: Speech,
    steps: int,
    seed: int,
    negatives: str | None = "other voices",
    stretch: bool = True,
    back: bool = False,
) -> Tensor:
    """Train on batches of 8 digits from each of 4 voices; return the loss at each step."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=3e-3)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, 3e-3, total_steps=steps + 1, pct_start=0.1)
    voices = spoken.voices.unique()
    rows = {int(v): (spoken.voices == v).nonzero()[:, 0] for v in voices}
    losses = []
    for now in range(steps):
        some = voices[torch.randperm(len(voices), generator=g)[:4]]
        r = torch.cat([rows[int(v)][torch.randperm(10, generator=g)[:8]] for v in some])
        batch = Speech(spoken.x, *(part[r] for part in spoken[1:]))
        # a voice is heard with one stretch as past, with another as future
        past, future = (torch.randint(len(STRETCHES) if stretch else 1, (4,), generator=g) for _ in range(2))
        x = [spoken.x[s.repeat_interleave(8), r, : int(batch.frames.max())] for s in (past, future)]
        z = net.latents(x[1])
        p = net.guesses(net.context(net.latents(x[0]) if stretch else z)[0])
        kind = "other voices" if back and now >= steps // 2 else negatives
        positive, negative, _ = energies(p, z, batch, kind or "other voices", DRAWN, g)
        loss = info_nce(positive, negative, 1 / TEMPERATURE).mean() if kind else (1 + positive.mean()) / TEMPERATURE
        losses.append(descend(net, loss, optimizer, schedule))
    return torch.tensor(losses)


def descend(
    net: nn.Module,
    loss: Tensor,
    optimizer: torch.optim.Optimizer,
    schedule: torch.optim.lr_scheduler.LRScheduler,
) -> float:
    """Take one step, with the gradient held to length 1."""
    optimizer.zero_grad()
    loss.backward()
    nn.utils.clip_grad_norm_(net.parameters(), 1.0)
    optimizer.step()
    schedule.step()
    return loss.item()


def supervise(net: Predictor, spoken: Speech, rows: Tensor, seed: int, stretch: bool, lr: float = 2e-3) -> None:
    """Train everything on the labels of some utterances: 150 steps, whatever their number."""
    g = torch.Generator().manual_seed(seed)
    optimizer = torch.optim.Adam(net.parameters(), lr=lr)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, lr, total_steps=151, pct_start=0.1)
    for _ in range(150):
        r = rows[torch.randint(len(rows), (min(32, len(rows)),), generator=g)]
        s = torch.randint(len(STRETCHES) if stretch else 1, (len(r),), generator=g)
        frames = spoken.frames[r]
        c = net.context(net.latents(spoken.x[s, r, : int(frames.max())]))[0]
        mean = pool(c, lengths(frames))
        descend(net, cross_entropy(net.classify(mean), spoken.labels[r]), optimizer, schedule)


def pool(h: Tensor, count: Tensor, sections: int = 1) -> Tensor:
    """Return means over time; of each of some equal sections, if the order of sounds is to be kept."""
    rows = [torch.cat([q.mean(0) for q in u[:n].tensor_split(sections)]) for u, n in zip(h, count, strict=True)]
    return torch.stack(rows)


@torch.no_grad()
def features(net: Predictor, spoken: Speech, sections: int = 1) -> Tensor:
    """Return the mean context of each utterance, as it was spoken."""
    return pool(net.context(net.latents(spoken.x[0]))[0], lengths(spoken.frames), sections)


def draw(labels: Tensor, count: int, seed: int) -> Tensor:
    """Return so many utterances of each digit, the same for every method."""
    g = torch.Generator().manual_seed(1000 + seed)
    each = ((labels == digit).nonzero()[:, 0] for digit in range(10))
    return torch.cat([rows[torch.randperm(len(rows), generator=g)[:count]] for rows in each])


def percent(known: Tensor, labels: Tensor, new: Tensor, truth: Tensor) -> float:
    """Return the accuracy of a linear probe."""
    return 100 * linear_probe(known, labels, new, truth, penalty=1e-2, steps=40).accuracy


def few_labels(known: Tensor, labels: Tensor, new: Tensor, truth: Tensor, seed: int, counts: tuple = LABELS) -> list:
    """Return accuracies by count of labels, one for each draw of them."""
    found = []
    for count in counts:
        draws = range(1 if count == LABELS[-1] else DRAWS)
        chosen = [draw(labels, count, DRAWS * seed + d) for d in draws]
        found.append([round(percent(known[rows], labels[rows], new, truth), 2) for rows in chosen])
    return found


def by_accent(known: Tensor, new: Tensor, sets: tuple[Speech, Speech], seed: int, only: range = range(7)) -> list:
    """Return accuracies in each accent by labels of that accent: of 1 and of 5 utterances of each digit."""
    found = []
    for accent in only:
        here, there = (s.accents == accent for s in sets)
        labels, truth = sets[0].labels[here], sets[1].labels[there]
        found.append(few_labels(known[here], labels, new[there], truth, seed, (1, 5)))
    return found


def tell_voice(h: Tensor, spoken: Speech) -> float:
    """Return how well a linear probe tells the variants of voice: learned from digits 0 to 4, tried on 5 to 9."""
    voice = (spoken.voices % 13).unique(return_inverse=True)[1]
    first = spoken.labels < 5
    return percent(h[first], voice[first], h[~first], voice[~first])


@torch.no_grad()
def wins(net: Predictor, spoken: Speech, negatives: str, drawn: int = 99) -> list[float]:
    """Return in what share of cases the true latent has the lowest energy, by steps ahead."""
    z = net.latents(spoken.x[0])
    p = net.guesses(net.context(z)[0])
    if negatives == "other voices":
        found = energies(p, z, spoken, negatives, drawn, torch.Generator().manual_seed(7))
    else:  # in tens, to spare memory; all are of one voice
        tens = torch.arange(len(z)).split(10)
        each = [energies(p[r], z[r], spoken.at(r), negatives, drawn, torch.Generator()) for r in tens]
        width = max(negative.shape[1] for _, negative, _ in each)
        each = [(a, nn.functional.pad(b, (0, width - b.shape[1]), value=math.inf), c) for a, b, c in each]
        found = tuple(torch.cat(part) for part in zip(*each, strict=True))
    positive, negative, step = found
    won = (positive < negative.amin(-1)).double()
    return [round(100 * won[step == k].mean().item(), 2) for k in range(AHEAD)]


def judge(net: Predictor, sets: tuple[Speech, Speech], seed: int) -> dict[str, Any]:
    """Measure a predictor on the voices that it did not hear."""
    known, new = (features(net, s) for s in sets)
    with torch.no_grad():
        z = net.latents(sets[1].x[0])
        z = normalize(z, dim=-1)[torch.arange(z.shape[1]) < lengths(sets[1].frames)[:, None]]
    found = collapse(z)
    return {
        "digits": few_labels(known, sets[0].labels, new, sets[1].labels, seed),
        "voice": round(tell_voice(new, sets[1]), 2),
        "verdict": found.verdict,
        "spread": round(found.spread, 4),
        "rank": round(found.rank, 2),
    }


def seeds(args: argparse.Namespace) -> range:
    """Return those asked for."""
    return range(args.seed, args.seed + args.seeds)


def way(args: argparse.Namespace, name: str) -> Result:
    """Train one way, from each seed, and judge it."""
    options = {k: v for k, v in WAYS[name].items() if k != "levels"}
    runs, arrays, losses = [], {}, []
    for seed in seeds(args):
        net, sets = build(seed), parts(speech(levels=WAYS[name].get("levels", False)), seed)
        losses.append(learn(net, sets[0], args.steps, seed, **options))
        run = judge(net, sets, seed)
        if name == FULL:
            run["accents"] = by_accent(*(features(net, s) for s in sets), sets, seed)
            run["fifths"] = few_labels(*sections(net, sets), seed)
            run["wins"] = {kind: wins(net, sets[1], kind) for kind in ("other voices", "same utterance")}
            run["finetuned"] = from_labels(sets, seed, functools.partial(copied, net), stretch=True, lr=1e-3)
            if seed == args.seed:
                arrays = {k: v.detach() for k, v in net.state_dict().items() if not k.startswith("classify")}
        runs.append(run)
        print(name, seed, run["verdict"], run["voice"], [round(sum(d) / len(d), 1) for d in run["digits"]], flush=True)
    return arrays | {"loss": torch.stack(losses)}, {"runs": runs}


def copied(net: Predictor) -> Predictor:
    """Return a network with the same weights."""
    other = Predictor()
    other.load_state_dict(net.state_dict())
    return other


def sections(net: Predictor, sets: tuple[Speech, Speech]) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return the mean contexts of five sections of each utterance, with labels."""
    known, new = (features(net, s, 5) for s in sets)
    return known, sets[0].labels, new, sets[1].labels


def from_labels(
    sets: tuple[Speech, Speech], seed: int, start: Callable[[], Predictor], stretch: bool, lr: float = 2e-3
) -> list:
    """Return accuracies of a network that is trained on labels from a start, by their count."""
    found = []
    for count in LABELS:
        chosen = draw(sets[0].labels, count, DRAWS * seed)
        net = start()
        supervise(net, sets[0], chosen, seed, stretch, lr)
        with torch.no_grad():
            right = net.classify(features(net, sets[1])).argmax(-1) == sets[1].labels
        found.append([round(100 * right.double().mean().item(), 2)])
    return found


def baselines(args: argparse.Namespace) -> Result:
    """Judge what has learned nothing: the filter bank itself, and networks before their first step."""
    found = {"untrained": [], "untrained accents": [], "untrained voice": [], "filter bank": [], "in fifths": [],
             "normalised, in fifths": [], "filter bank accents": [], "filter bank voice": []}  # fmt: skip
    for seed in seeds(args):
        net, sets, raw = build(seed), parts(speech(), seed), parts(speech(levels=True), seed)
        labels = [s.labels for s in sets]
        known, new = (features(net, s) for s in sets)
        found["untrained"].append(few_labels(known, labels[0], new, labels[1], seed))
        found["untrained accents"].append(by_accent(known, new, sets, seed))
        found["untrained voice"].append(round(tell_voice(new, sets[1]), 2))
        for name, source, count in (("filter bank", raw, 1), ("in fifths", raw, 5), ("normalised, in fifths", sets, 5)):
            known, new = (pool(s.x[0], s.frames, count) for s in source)
            found[name].append(few_labels(known, labels[0], new, labels[1], seed))
            if name == "in fifths":
                found["filter bank accents"].append(by_accent(known, new, raw, seed))
            if name == "filter bank":
                found["filter bank voice"].append(round(tell_voice(new, raw[1]), 2))
    return {}, found


def supervised(args: argparse.Namespace) -> Result:
    """Train the same network from scratch on the same labels, plain and with stretched frequencies."""
    found = {"plain": [], "stretched": []}
    for seed in seeds(args):
        sets = parts(speech(), seed)
        for name in found:
            found[name].append(from_labels(sets, seed, functools.partial(build, seed), name == "stretched"))
            print(name, seed, found[name][-1], flush=True)
    return {}, found


def accents(args: argparse.Namespace, share: float, only: int | None = None) -> Result:
    """Train one model for each accent, with a share of the steps of the model for all, from each seed or from one."""
    runs = []
    for seed in seeds(args) if only is None else [only]:
        run, sets = [], parts(speech(), seed)
        for accent in range(7):
            own = tuple(s.at((s.accents == accent).nonzero()[:, 0]) for s in sets)
            net = build(seed)
            learn(net, own[0], round(args.steps * share), seed)
            known, new = (features(net, s) for s in own)
            run += by_accent(known, new, own, seed, range(accent, accent + 1))
        runs.append(run)
        print(share, seed, [[round(sum(d) / len(d)) for d in counts] for counts in run], flush=True)
    return {}, {"runs": runs}


PARTS = {name: functools.partial(way, name=name) for name in WAYS} | {
    "baselines": baselines,
    "supervised": supervised,
    "accents, as many passes": functools.partial(accents, share=1 / 7),
    **{f"accents, as many steps, seed {s}": functools.partial(accents, share=1.0, only=s) for s in range(3)},
}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS)
    p.add_argument("--steps", type=int, default=300)
    p.add_argument("--seeds", type=int, default=3)
    p.add_argument("--seed", type=int, default=0)
    p.add_argument("--out", type=Path, default=RESULTS)
    args = p.parse_args()
    facts = {"command": "python training/speech.py", "steps": args.steps, "labels": LABELS, "draws": DRAWS,
             "drawn": DRAWN, "temperature": TEMPERATURE, "held_out": HELD_OUT}  # fmt: skip
    run_parts(PARTS, args, facts)


if __name__ == "__main__":
    main()
