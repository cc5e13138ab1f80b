"""Take VICReg apart: which terms, which normalisation, which weights and networks the branches share; two modalities.

    python training/vicreg.py                # what is not yet stored of training/results/vicreg.npz and vicreg.json
    python training/vicreg.py --only full/0   # one training, again; what is stored of the others stays

Each row of tables 3 to 6 of the VICReg paper (Bardes, Ponce and LeCun, ICLR 2022) is trained from scratch with three
seeds, which change the weights, the batches and the augmentations, on the same 6,000 sprites of 24 by 24 pixels. Each
training is a part of its own, "full/0" being the first seed of the first row, so a run that was cut off goes on where
it was. Judged on 2,000 other sprites: a linear probe of the encoder's features, and the standard deviation (mean over
dimensions) and the effective rank of the embeddings as the criterion sees them. For losses that look at directions
only, that is at length √D, so 1 is what the variance term asks for in all rows. All rows but two have the same budget:
"bare long" and "alone long" see the pictures five times as often. The weights of the variance and covariance terms
beside a cosine follow from VICReg's 25, 25, 1. At length √D, 25 ‖z − z'‖²/D is 50 (1 − cos), so they are 25/50 and 1/50
beside SimSiam's −cos, and four times that beside BYOL's 4 (1 − cos). That covariance turned out too strong for so short
a training: the rows "weak" have a tenth of it, "bare faint" a hundredth. Nothing else was tuned.

"two": a picture of a digit on one branch, the sound of a voice saying a digit on the other, and no weights shared. All
that is known is which go together. Tested with 21 voices that were never heard, and with pictures never seen.
"""

import argparse
import functools
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import torch
from record import run_parts, stored
from torch import Tensor, nn
from torch.nn.functional import interpolate, normalize

from ebm_lib import data, joint

RESULTS = Path(__file__).parent / "results" / "vicreg"
TRAIN, TEST, DATA_SEED, SIZE = 6000, 2000, 1000, 24
CHANNELS, D, BATCH = (16, 32, 64, 128), 256, 128
COSINE = 1 / 50  # VICReg's weights, beside a cosine
VOICES = 70  # that train; 21 others test
PICTURES = 4000  # that train; 1,000 others test
FRAMES, BANDS = 64, 32  # of a sound's spectrogram


def seeded(seed: int) -> torch.Generator:
    """Return a source of randomness."""
    return torch.Generator().manual_seed(seed)


class Ablated(joint.Method):
    """VICReg with switches for what the library's leaves alone: the embedding's normalisation, a predictor, sharing.

    Args:
        encoder: the first branch's.
        terms: weights of invariance, variance, covariance.
        batch_norm: in the expander's hidden layers.
        embedding: "none", "std" (standardised over the batch) or "l2" (brought to length √D).
        predictor: whether each branch predicts the other by a head that the other lacks.
        other: the second branch's encoder; None shares the first.
        share_head: whether the branches share the expander.
        generator: where the weights come from.
    """

    def __init__(
        self,
        encoder: nn.Module,
        *,
        terms: Sequence[float] = (25, 25, 1),
        batch_norm: bool = True,
        embedding: str = "none",
        predictor: bool = False,
        other: nn.Module | None = None,
        share_head: bool = True,
        generator: torch.Generator | None = None,
    ) -> None:
        super().__init__()
        how = {"batch_norm": batch_norm, "generator": generator}
        self.encoder, self.other = encoder, encoder if other is None else other
        self.head = joint.head((encoder.width, D, D, D), **how)
        self.other_head = self.head if share_head else joint.head((self.other.width, D, D, D), **how)
        self.predictor = joint.head((D, D, D), **how) if predictor else None
        self.terms, self.embedding = terms, embedding

    def normed(self, z: Tensor) -> Tensor:
        """The embeddings as the criterion sees them."""
        if self.embedding == "std":
            return (z - z.mean(0)) * (z.var(0) + 1e-5).rsqrt()
        return D**0.5 * normalize(z) if self.embedding == "l2" else z

    def forward(
        self, views: Sequence[Tensor], rows: Tensor, generator: torch.Generator | None = None
    ) -> joint.VICRegTerms:
        """VICReg's criterion; with a predictor, its invariance is between a prediction and an embedding."""
        first, second = views
        z1, z2 = (self.normed(z) for z in (self.head(self.encoder(first)), self.other_head(self.other(second))))
        pull, push, part = self.terms
        if self.predictor is None:
            return joint.vicreg(z1, z2, invariance=pull, variance=push, covariance=part)
        _, _, variance, covariance = joint.vicreg(z1, z2, invariance=0, variance=push, covariance=part)
        gaps = [(self.predictor(a) - b).square().mean() for a, b in ((z1, z2), (z2, z1))]
        invariance = pull * sum(gaps) / 2
        return joint.VICRegTerms(invariance + variance + covariance, invariance, variance, covariance)


class Wide(nn.Module):
    """An encoder of another make: coarse patches mixed with their neighbours by two residual layers, averaged."""

    width = 192

    def __init__(self, generator: torch.Generator) -> None:
        super().__init__()
        self.cut = nn.Conv2d(3, self.width, 6, 4, 1)
        self.mix = nn.Conv2d(self.width, self.width, 3, 1, 1, groups=self.width)
        self.norms = nn.ModuleList(nn.BatchNorm2d(self.width) for _ in range(2))
        self.lines = nn.ModuleList(nn.Conv2d(self.width, self.width, 1) for _ in range(2))
        for p in self.parameters():
            if p.ndim > 1:
                p.data = torch.randn(p.shape, generator=generator) * (2 / p[0].numel()) ** 0.5

    def forward(self, images: Tensor) -> Tensor:
        """Representations (N, width)."""
        h = self.cut(images.contiguous(memory_format=torch.channels_last))
        for norm, line in zip(self.norms, self.lines, strict=True):
            h = h + line(torch.relu(norm(self.mix(h))))
        return torch.relu(h).mean((2, 3))


def encoder(seed: int) -> joint.SmallEncoder:
    """Return the encoder of all rows."""
    return joint.SmallEncoder(CHANNELS, generator=seeded(seed))


def vicreg(seed: int, *, second: str = "shared", **options: Any) -> joint.Method:
    """Return VICReg with one thing changed."""
    other = {"shared": None, "own": encoder(seed + 50), "another": Wide(seeded(seed + 50))}[second]
    return Ablated(encoder(seed), other=other, generator=seeded(seed + 100), **options)


def distilled(seed: int, kind: type[joint.Method], *, regularize: tuple[float, float] = (0, 0), **options: Any):
    """Return BYOL or SimSiam, with some of VICReg's terms beside its own."""
    scale = COSINE * (4 if kind is joint.BYOL else 1)
    variance, covariance = (scale * weight for weight in regularize)
    return kind(encoder(seed), D=D, variance=variance, covariance=covariance, generator=seeded(seed + 100), **options)


VAR, BOTH, WEAK, FAINT = (25, 0), (25, 1), (25, 0.1), (25, 0.01)
BYOL, SIMSIAM = partial(distilled, kind=joint.BYOL), partial(distilled, kind=joint.SimSiam)
BARE = partial(SIMSIAM, batch_norm=False)
ALONE = partial(BARE, predictor=False)
ROWS: dict[str, Callable[[int], joint.Method]] = {
    # table 5: which terms
    "full": vicreg,
    "inv": partial(vicreg, terms=(1, 0, 0)),
    "inv+cov": partial(vicreg, terms=(25, 0, 1)),
    "var+cov": partial(vicreg, terms=(0, 25, 1)),
    "inv+var": partial(vicreg, terms=(1, 1, 0)),
    # table 3: what else the other methods have, and what the terms do there
    "byol": BYOL,
    "byol var": partial(BYOL, regularize=VAR),
    "byol both": partial(BYOL, regularize=BOTH),
    "simsiam": SIMSIAM,
    "simsiam var": partial(SIMSIAM, regularize=VAR),
    "simsiam both": partial(SIMSIAM, regularize=BOTH),
    "bare": BARE,
    "bare var": partial(BARE, regularize=VAR),
    "bare both": partial(BARE, regularize=BOTH),
    "simsiam weak": partial(SIMSIAM, regularize=WEAK),
    "byol weak": partial(BYOL, regularize=WEAK),
    "bare weak": partial(BARE, regularize=WEAK),
    "bare faint": partial(BARE, regularize=FAINT),
    "bare long": BARE,
    "alone long": ALONE,
    "alone": ALONE,
    "alone var": partial(ALONE, regularize=VAR),
    "alone both": partial(ALONE, regularize=BOTH),
    # table 6: normalisation of the expander's hidden layers and of the embedding
    "std std": partial(vicreg, embedding="std"),
    "none none": partial(vicreg, batch_norm=False),
    "none std": partial(vicreg, batch_norm=False, embedding="std"),
    "std l2": partial(vicreg, embedding="l2"),
    # table 4: what the branches share
    "own both": partial(vicreg, second="own", share_head=False),
    "own encoder": partial(vicreg, second="own"),
    "own expander": partial(vicreg, share_head=False),
    "another network": partial(vicreg, second="another", share_head=False),
    # the rest of table 3: VICReg with a predictor, and without normalisation in the expander
    "predictor inv": partial(vicreg, batch_norm=False, predictor=True, terms=(1, 0, 0)),
    "predictor inv+var": partial(vicreg, batch_norm=False, predictor=True, terms=(1, 1, 0)),
    "predictor full": partial(vicreg, batch_norm=False, predictor=True),
    "predictor std inv": partial(vicreg, predictor=True, terms=(1, 0, 0)),
    "predictor std inv+var": partial(vicreg, predictor=True, terms=(1, 1, 0)),
    "predictor std full": partial(vicreg, predictor=True),
    "none inv": partial(vicreg, batch_norm=False, terms=(1, 0, 0)),
    "none inv+var": partial(vicreg, batch_norm=False, terms=(1, 1, 0)),
}
LONG = 5  # times as many epochs, in the rows "long"
DIRECTIONS = ("byol", "simsiam", "bare", "alone", "std l2")


@functools.cache
def sprites() -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """Return pictures and labels that train, pictures and labels that test."""
    drawn = data.sprites(TRAIN + TEST, size=SIZE, generator=seeded(DATA_SEED))
    return *drawn.images.split([TRAIN, TEST]), *drawn.labels.split([TRAIN, TEST])


def augmentation() -> joint.Views:
    """Return the chapter's two views of a picture."""
    one = joint.Augmentation(
        SIZE, crop=(0.6, 1), rotate=45, brightness=0.5, contrast=0.5, saturation=0.5, hue=0.2, jitter=0.9, grey=0.2
    )
    return joint.Views(one, one)


@torch.no_grad()
def judge(encode: nn.Module, head: nn.Module | None, task: tuple[Tensor, ...], name: str = "") -> dict[str, Any]:
    """Measure features by a probe, and embeddings by their spread and rank."""
    train, test, train_labels, test_labels = task
    features = [joint.represent(encode, images) for images in (train, test)]
    with torch.enable_grad():
        probe = joint.linear_probe(features[0], train_labels, features[1], test_labels)
    facts: dict[str, Any] = {"accuracy": probe.accuracy}
    if head is not None:
        z = head.eval()(features[1])
        if name.startswith(DIRECTIONS):
            z = D**0.5 * normalize(z)
        elif name.endswith(" std"):
            z = (z - z.mean(0)) * (z.var(0) + 1e-5).rsqrt()
        deviations = joint.spread(z).sort(descending=True).values
        facts |= {"std": deviations.mean().item(), "rank": joint.effective_rank(z, center=True).item()}
        spectrum = torch.linalg.svdvals((z - z.mean(0)).double() / len(z) ** 0.5)
        facts |= {"spectrum": spectrum.float()}
    return facts


def row(name: str, seed: int, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train and measure one row with one seed."""
    task, method = sprites(), ROWS[name](seed)
    history = joint.learn(
        method,
        task[0],
        augmentation(),
        epochs=args.epochs * (LONG if name.endswith(" long") else 1),
        batch_size=BATCH,
        generator=seeded(seed + 200),
        progress=False,
    )
    facts = judge(method.encoder, method.head, task, name)
    spectrum = facts.pop("spectrum")
    facts["terms"] = {key: values[-1] for key, values in history.metrics.items()}
    if isinstance(method, Ablated) and method.other is not method.encoder:
        facts["other_accuracy"] = judge(method.other, None, task)["accuracy"]
    print(name, seed, facts, flush=True)
    return {"spectrum": spectrum} if seed == 0 else {}, facts


def controls(seed: int, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Measure what pixels and untrained networks give."""
    encoders = {"pixels": nn.Flatten(), "random": encoder(seed), "random another": Wide(seeded(seed + 50))}
    facts = {name: judge(encode, None, sprites())["accuracy"] for name, encode in encoders.items()}
    print("controls", seed, facts, flush=True)
    return {}, facts


def spectrogram(wave: Tensor) -> Tensor:
    """Return the logarithm of the powers in bands of frequency, standardised, (1, BANDS, FRAMES), however long."""
    power = torch.stft(wave, 256, 64, window=torch.hann_window(256), return_complex=True).abs().square()[:128]
    loud = (power.view(BANDS, -1, power.shape[-1]).mean(1) + 1e-6).log()
    loud = interpolate(loud[None], FRAMES, mode="linear")
    return (loud - loud.mean()) / loud.std()


def by_distance(sounds: Tensor, pictures: Tensor, labels: tuple[Tensor, Tensor]) -> dict[str, float]:
    """Return how often what is nearest is of the same digit, in both directions."""
    energy = torch.cdist(sounds, pictures)
    says, shows = labels
    return {
        "picture_of_sound": (shows[energy.argmin(1)] == says).float().mean().item(),
        "sound_of_picture": (says[energy.argmin(0)] == shows).float().mean().item(),
        "chance": (says[:, None] == shows).float().mean().item(),
    }


def two(seed: int, args: argparse.Namespace) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Train on sounds and pictures, with all terms and without the variance term."""
    digits, spoken = data.load_digits(), data.load_spoken_digits()
    pictures = digits.images.reshape(-1, 1, 28, 28)[: PICTURES + 1000]
    shows = digits.labels[: PICTURES + 1000]
    sounds = torch.stack([spectrogram(spoken.wave(i)) for i in range(len(spoken.labels))])
    order = torch.randperm(len(spoken.voice_names), generator=seeded(DATA_SEED))
    heard = torch.isin(spoken.voices, order[:VOICES])
    train, test = sounds[heard], sounds[~heard]
    says = spoken.labels[heard]
    fitting = [(shows[:PICTURES] == c).nonzero().squeeze(-1) for c in range(10)]
    labels = spoken.labels[~heard], shows[PICTURES:]

    def pairs(rows: Tensor, generator: torch.Generator | None) -> tuple[Tensor, Tensor]:
        """For each of these sounds, shifted in time, a picture that goes with it."""
        chance = torch.rand(len(rows), generator=generator)
        chosen = [fitting[says[row]][int(u * len(fitting[says[row]]))] for row, u in zip(rows, chance, strict=True)]
        by = torch.randint(-6, 7, (1,), generator=generator).item()
        return pictures[torch.stack(chosen)], train[rows].roll(by, -1)

    arrays, runs = {}, {}
    for name in ("full", "no variance", "untrained"):
        g = seeded(seed)
        eye, ear = (joint.SmallEncoder((16, 32, 64), inputs=1, generator=g) for _ in range(2))
        terms = (25, 0, 1) if name == "no variance" else (25, 25, 1)
        method = Ablated(eye, terms=terms, other=ear, share_head=False, generator=g)
        if name != "untrained":
            joint.learn(method, torch.arange(len(train)), pairs, epochs=100, generator=seeded(seed + 1), progress=False)
        method.eval()
        with torch.no_grad():
            seen = method.head(joint.represent(eye, pictures[PICTURES:]))
            listened = method.other_head(joint.represent(ear, test))
        facts = by_distance(listened, seen, labels)
        facts |= {"std": joint.spread(seen).mean().item(), "rank": joint.effective_rank(seen, center=True).item()}
        facts["sound_std"] = joint.spread(listened).mean().item()
        runs[name] = facts
        print(name, seed, facts, flush=True)
        if name == "full" and seed == 0:
            energy = torch.cdist(listened, seen).square() / D
            classes = [torch.nn.functional.one_hot(c, 10).float() for c in labels]
            means = classes[0].T @ energy @ classes[1] / (classes[0].sum(0)[:, None] * classes[1].sum(0))
            some = torch.stack([(labels[0] == c).nonzero()[3, 0] for c in range(10)])
            nearest = energy[some].topk(6, largest=False).indices
            arrays = {"energy": means, "sounds": test[some, 0], "nearest": pictures[PICTURES:, 0][nearest]}
    return arrays, {"heard": len(train), "voices": VOICES, "unheard": len(test), "runs": runs}


WORK = {"controls": controls, "two": two} | {name: partial(row, name) for name in ROWS}
PARTS = {f"{name}/{seed}": partial(work, seed) for seed in range(3) for name, work in WORK.items()}


def main() -> None:
    """Train, measure, store."""
    p = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    p.add_argument("--only", choices=PARTS, metavar="ROW/SEED")
    p.add_argument("--epochs", type=int, default=4)
    p.add_argument("--out", type=Path, default=RESULTS)
    p.set_defaults(seed=0)  # the first of three
    args = p.parse_args()
    done = stored(args.out, without="")[1].get("parts", {})
    for name in [args.only] if args.only else [name for name in PARTS if name not in done]:
        facts = {"command": "python training/vicreg.py", "train": TRAIN, "test": TEST, "size": SIZE, "D": D}
        facts |= {"channels": CHANNELS, "batch": BATCH, "epochs": args.epochs}
        run_parts({name: PARTS[name]}, argparse.Namespace(**vars(args) | {"only": None}), facts)


if __name__ == "__main__":
    main()
