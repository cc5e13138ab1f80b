"""Pretext tasks on pictures of clothes, beside the masked language model, judged by linear probes.

    python training/pretext.py

writes ``training/results/pretext.npz`` (a few held-out pictures as each task sees and solves them) and ``.json``
(command, seeds, time, accuracies). One encoder, 784 → 256 → 64, learns without labels on 8,000 pictures:

- copying: nothing is corrupted;
- denoising: noise of standard deviation 0.5 on each pixel, and as a sweep 0.25, 1 and 2;
- inpainting: a quarter of the picture, a square of 14 × 14 pixels anywhere, is hidden;
- super-resolution: only the means of 4 × 4 pixels are shown;
- colourisation: the clothes are dyed, a grey picture is shown. Each kind of clothes comes in two opposite dyes, one
  garment in each with equal chance, so the kind tells the colour up to a toss. Solved twice, by least squares on the
  coloured pixels and by a softmax over twenty dyes.

Words: the stored masked language model, its untrained twin, the stored word vectors and plain counts, averaged over
passages of 60 words. Two questions to the probe: which of the six novels a passage is from; and whether its words are
in order, or each three of them were shuffled, as was done to half of the passages.

All models and all probes learn from the training part; what is reported was held out.
A probe is ridge regression on standardised features, its strength chosen by leaving out one label at a time. Inputs
of the probes are not corrupted. Means and standard deviations are over the seeds (pictures) and draws of labels.
"""

import argparse
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from masked_language_model import BLOCK, SHAPE
from torch import Tensor, nn

from ebm_lib import data, denoising
from ebm_lib.nn import MLP
from ebm_lib.text import CLS, SEP, MaskedLanguageModel, Vocabulary, hold_out, load_models, tokenize, word_counts
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results"
LABELS, DRAWS, DYES, PASSAGE = (100, 500), 5, 20, 60
NOISES = (0.25, 1.0, 2.0)
DENOISING, INPAINTING, SUPER_RESOLUTION = "denoising", "inpainting", "super-resolution"
COPYING, LEAST_SQUARES, SOFTMAX = "copying", "colour, least squares", "colour, softmax"
TASKS = (COPYING, DENOISING, INPAINTING, SUPER_RESOLUTION, LEAST_SQUARES, SOFTMAX)


def dye(number: Tensor) -> Tensor:
    """Red, green and blue of a dye on the circle of hues, (..., 3); opposite dyes add up to white."""
    angle = 2 * torch.pi * (number[..., None] / DYES - torch.arange(3) / 3)
    return (1 + angle.cos()) / 2


def corrupt(task: str, y: Tensor, generator: torch.Generator, noise: float = 0.5) -> Tensor:
    """What the encoder gets to see of pictures y, (B, 784)."""
    if task == DENOISING:
        return denoising.add_noise(y, noise, generator=generator).y_hat
    if task == INPAINTING:
        return denoising.hide_blocks(y, (28, 28), (14, 14), generator=generator).y_hat
    if task == SUPER_RESOLUTION:
        coarse = F.avg_pool2d(y.view(-1, 1, 28, 28), 4)
        return F.interpolate(coarse, scale_factor=4.0).flatten(1)
    return y


class Model(nn.Module):
    """Encoder and decoder of one task."""

    def __init__(self, task: str, generator: torch.Generator) -> None:
        super().__init__()
        self.encoder = MLP((784, 256, 64), activation="silu", generator=generator)
        out = {LEAST_SQUARES: 3 * 784, SOFTMAX: DYES}.get(task, 784)
        self.decoder = MLP((64, 256, out), activation="silu", generator=generator)

    def forward(self, y_hat: Tensor) -> Tensor:
        """Solve the task."""
        return self.decoder(F.silu(self.encoder(y_hat)))

    def features(self, y: Tensor) -> Tensor:
        """What the probe sees."""
        with torch.no_grad():
            return F.silu(self.encoder(y))


def train(task: str, images: Tensor, dyes: Tensor, steps: int, seed: int, noise: float = 0.5) -> Model:
    """Learn one task, for a fixed number of batches."""
    generator = torch.Generator().manual_seed(seed)
    model = Model(task, generator)

    def loss(model: Model, y: Tensor, number: Tensor) -> Tensor:
        out = model(corrupt(task, y, generator, noise))
        if task == SOFTMAX:
            return F.cross_entropy(out, number)
        if task == LEAST_SQUARES:
            y = (y[:, None] * dye(number)[..., None]).flatten(1)
        return (out - y).square().mean()

    fit(model, loss, (images, dyes), steps=steps, batch_size=200, lr=1e-3, generator=generator, progress=False)
    return model


def probe(features: Tensor, labels: Tensor, held_out: Tensor, truth: Tensor) -> float:
    """Accuracy of ridge regression on the labels, on what was held out."""
    mean, spread = features.mean(0), features.std(0) + 1e-3
    x, new = ((part - mean) / spread for part in (features.double(), held_out.double()))
    target = F.one_hot(labels).double()
    centre = target.mean(0)
    values, vectors = torch.linalg.eigh(x @ x.T)  # of the Gram matrix: labels are few, features may be many
    turned = vectors.T @ (target - centre)
    best = None
    for strength in 10.0 ** torch.arange(-2, 7):
        hat = (vectors * (values / (values + strength))) @ vectors.T
        left_out = ((target - centre) - hat @ (target - centre)) / (1 - hat.diagonal() - 1 / len(x))[:, None]
        right = ((target - left_out).argmax(1) == labels).double().mean().item()
        if best is None or right > best[0]:
            best = right, vectors @ (turned / (values + strength)[:, None])
    return ((new @ x.T @ best[1] + centre).argmax(1) == truth).double().mean().item()


def probes(
    features: Tensor, labels: Tensor, held_out: Tensor, truth: Tensor, generator: torch.Generator
) -> dict[int, list[float]]:
    """Accuracies for each number of labels, for several draws of the labelled ones."""
    result = {}
    for count in LABELS:
        picks = [torch.randperm(len(labels), generator=generator)[:count] for _ in range(DRAWS)]
        result[count] = [probe(features[p], labels[p], held_out, truth) for p in picks]
    return result


def blur(model: Model, images: Tensor) -> dict[str, float]:
    """How much of the pictures' variance, and of their steps from pixel to pixel, the filled square keeps."""
    hidden = torch.zeros(28, 28, dtype=torch.bool)
    hidden[7:21, 7:21] = True
    with torch.no_grad():
        filled = model(images.masked_fill(hidden.flatten(), 0.0)).view(-1, 28, 28)[:, 7:21, 7:21]
    true = images.view(-1, 28, 28)[:, 7:21, 7:21]
    steps = [(part[:, 1:] - part[:, :-1]).square().mean() for part in (filled, true)]
    return {
        "variance": (filled.var(0).mean() / true.var(0).mean()).item(),
        "error": ((filled - true).square().mean() / true.var(0).mean()).item(),
        "steps": (steps[0] / steps[1]).item(),
    }


def pictures(models: dict[str, Model], images: Tensor, dyes: Tensor) -> dict[str, np.ndarray]:
    """Eight pictures as bytes: what each model sees and what it answers."""
    shown, generator = {}, torch.Generator().manual_seed(1)
    coloured = (images[:, None] * dye(dyes)[..., None]).view(-1, 3, 28, 28).permute(0, 2, 3, 1)
    shown["true"], shown["dyed"] = images.view(-1, 28, 28), coloured
    for task, model in models.items():
        seen = corrupt(task, images, generator)
        with torch.no_grad():
            out = model(seen)
        if task == SOFTMAX:
            number = torch.multinomial(out.softmax(-1), 1, generator=generator)[:, 0]
            shown[f"{task}, distribution"] = out.softmax(-1)
            out = (images[:, None] * dye(number)[..., None]).flatten(1)
        channels = 3 if task in (LEAST_SQUARES, SOFTMAX) else 1
        shown[f"{task}, seen"] = seen.view(-1, 28, 28)
        shown[f"{task}, solved"] = out.view(-1, channels, 28, 28).permute(0, 2, 3, 1).squeeze(-1)
    return {name: (255 * part.clamp(0, 1)).round().to(torch.uint8).numpy() for name, part in shown.items()}


def summary(scores: list[dict[int, list[float]]]) -> dict[str, list[float]]:
    """Mean and standard deviation over seeds and draws, for each number of labels."""
    together = {count: torch.tensor([value for s in scores for value in s[count]]) for count in LABELS}
    return {str(count): [round(v.mean().item(), 4), round(v.std().item(), 4)] for count, v in together.items()}


def passages(blocks: list[tuple[int, list[str]]], vocabulary: Vocabulary) -> tuple[Tensor, Tensor]:
    """Passages of equal length, packed for the language model, and the novel of each."""
    rows, labels = [], []
    for novel, block in blocks:
        whole = len(block) // PASSAGE
        rows.append(vocabulary.encode(block[: whole * PASSAGE]).view(-1, PASSAGE))
        labels += [novel] * whole
    rows = torch.cat(rows)
    ends = rows.new_tensor([CLS, SEP]).expand(len(rows), 2)
    return torch.cat([ends[:, :1], rows, ends[:, 1:]], 1), torch.tensor(labels)


def shuffle_half(tokens: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Shuffle the words of half of the passages, three at a time, and tell which were shuffled."""
    shuffled = torch.rand(len(tokens), generator=generator) < 0.5
    threes = tokens[:, 1:-1].reshape(len(tokens), -1, 3)
    order = torch.rand(threes.shape, generator=generator).argsort(-1)
    mixed = torch.where(shuffled[:, None, None], threes.gather(-1, order), threes)
    return torch.cat([tokens[:, :1], mixed.flatten(1), tokens[:, -1:]], 1), shuffled.long()


def words(generator: torch.Generator) -> dict[str, dict[str, dict[str, list[float]]]]:
    """The same probes on text."""
    vocabulary, models = load_models(RESULTS / "masked_language_model.npz")
    stored = models["masked_language_model"]
    vectors = load_models(RESULTS / "word_vectors.npz").models["skip_gram"].u.detach()
    untrained = MaskedLanguageModel(**SHAPE, next_sentence=True, generator=generator).eval()
    novels = [tokenize(novel) for novel in data.load_text().novels]
    blocks = [(k, novel[i : i + BLOCK]) for k, novel in enumerate(novels) for i in range(0, len(novel), BLOCK)]
    # The split of the stored models: the same seed, the same number of blocks in the same order.
    kept, held_out = hold_out(blocks, 1 / 12, generator=torch.Generator().manual_seed(0))
    x, labels = passages(kept, vocabulary)
    chosen = torch.randperm(len(x), generator=generator)[:1500]
    x, labels = x[chosen], labels[chosen]
    new, truth = passages(held_out, vocabulary)

    @torch.no_grad()
    def pooled(model: MaskedLanguageModel, tokens: Tensor) -> Tensor:
        return torch.cat([model.features(part)[:, 1:-1].mean(1) for part in tokens.split(100)])

    kinds: dict[str, Callable[[Tensor], Tensor]] = {
        "counts": lambda t: torch.stack([word_counts(row[1:-1], len(vocabulary)).float().sqrt() for row in t]),
        "untrained": lambda t: pooled(untrained, t),
        "word vectors": lambda t: vectors[t[:, 1:-1]].mean(1),
        "masked words": lambda t: pooled(stored, t),
    }
    questions = {
        "novel": (x, labels, new, truth),
        "order": (*shuffle_half(x, generator), *shuffle_half(new, generator)),
    }
    report = {}
    for question, (x, labels, new, truth) in questions.items():
        report[question] = {}
        for name, features in kinds.items():
            scores = probes(features(x), labels, features(new), truth, generator)
            report[question][name] = summary([scores])
            print(question, name, report[question][name], flush=True)
    return report


def main() -> None:
    """Train, judge, store."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=600)
    parser.add_argument("--seeds", type=int, default=3)
    parser.add_argument("--out", type=Path, default=RESULTS / "pretext")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began = time.process_time()
    text = words(torch.Generator().manual_seed(0))
    fashion = data.load_fashion()
    images, labels = fashion.images.flatten(1), fashion.labels
    toss = torch.randint(2, labels.shape, generator=torch.Generator().manual_seed(0))
    dyes = labels + DYES // 2 * toss
    split = (images[:8000], labels[:8000], images[8000:], labels[8000:])

    def judge(features: Callable[[Tensor], Tensor], seed: int) -> dict[int, list[float]]:
        generator = torch.Generator().manual_seed(100 + seed)
        return probes(features(split[0]), split[1], features(split[2]), split[3], generator)

    clothes = {"pixels": summary([judge(lambda y: y, 0)])}
    untrained = [Model(COPYING, torch.Generator().manual_seed(seed)) for seed in range(options.seeds)]
    clothes["untrained"] = summary([judge(model.features, seed) for seed, model in enumerate(untrained)])
    blurred, first = [], {}
    for task in TASKS:
        models = [train(task, split[0], dyes[:8000], options.steps, seed) for seed in range(options.seeds)]
        clothes[task] = summary([judge(model.features, seed) for seed, model in enumerate(models)])
        print(task, clothes[task], flush=True)
        first[task] = models[0]
        if task == INPAINTING:
            blurred = [blur(model, split[2]) for model in models]
    sweep = {}
    for noise in NOISES:
        models = [train(DENOISING, split[0], dyes[:8000], options.steps, seed, noise) for seed in range(options.seeds)]
        sweep[str(noise)] = summary([judge(model.features, seed) for seed, model in enumerate(models)])
        print(noise, sweep[str(noise)], flush=True)
    report = {
        "command": " ".join(["python", "training/pretext.py", *sys.argv[1:]]),
        "seeds": options.seeds,
        "steps": options.steps,
        "draws_of_labels": DRAWS,
        "clothes": clothes,
        "denoising_by_noise": sweep,
        "inpainted_square": {
            key: [
                round(np.mean([b[key] for b in blurred]).item(), 4),
                round(np.std([b[key] for b in blurred]).item(), 4),
            ]
            for key in blurred[0]
        },
        "words": text,
        "torch": version("torch"),
        "processor_seconds": round(time.process_time() - began),
    }
    options.out.parent.mkdir(exist_ok=True)
    np.savez_compressed(options.out.with_suffix(".npz"), **pictures(first, split[2][:8], dyes[8000:8008]))
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1), options.out.with_suffix(".npz").stat().st_size, "bytes")


if __name__ == "__main__":
    main()
