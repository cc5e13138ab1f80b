"""Train word vectors in two ways, skip-gram with negatives and Collobert-Weston ranking, and look at their neighbours.

    python training/word_vectors.py

writes ``training/results/word_vectors.npz`` (both models in half precision, the vocabulary) and ``.json`` (command,
seed, time, held-out figures, nearest words). The text is the bundled one; one block of 1,000 words in twelve is held
out, drawn from the seed. What is measured: the loss on held-out pairs and windows; how often a held-out window has a
lower energy than the same one with a random word in its middle; and, for groups of words that belong together, how
many of a word's five nearest are of its group.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ebm_lib import data, losses
from ebm_lib.text import (
    SkipGram,
    Vocabulary,
    WindowEnergy,
    draw_words,
    hold_out,
    load_models,
    nearest,
    negative_sampling,
    noise_distribution,
    replace_middle,
    save_models,
    skip_gram_pairs,
    subsample,
    tokenize,
    windows,
    word_counts,
)
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results"
SIZE, BLOCK, REACH, NEGATIVES, THRESHOLD, LENGTH = 4000, 1000, 5, 5, 1e-4, 5
SKIP_GRAM = {"size": SIZE, "dim": 64}
WINDOW = {"size": SIZE, "dim": 50, "length": LENGTH, "hidden": 100}
GROUPS = {
    "family": "mother father sister brother aunt uncle cousin daughter son husband wife niece nephew".split(),
    "times": "morning evening night day week month year hour minutes days weeks months years hours".split(),
    "men": "darcy bingley knightley wentworth willoughby edmund crawford elton churchill wickham collins".split(),
    "women": "elizabeth jane emma anne marianne elinor fanny harriet catherine isabella lydia kitty".split(),
    "people of Pride and Prejudice": "elizabeth darcy bingley bennet wickham collins gardiner lydia lucas".split(),
    "people of Emma": "emma knightley weston elton churchill harriet bates woodhouse fairfax".split(),
    "people of Mansfield Park": "fanny edmund crawford bertram norris rushworth susan yates grant".split(),
}
SHOWN = "elizabeth darcy mother evening happy house walk said".split()


class Corpus:
    """The text as numbers, cut into training and held-out blocks; everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        novels = [tokenize(novel) for novel in data.load_text().novels]
        blocks = [tokens[i : i + BLOCK] for tokens in novels for i in range(0, len(tokens), BLOCK)]
        train, held_out = hold_out(blocks, 1 / 12, generator=torch.Generator().manual_seed(seed))
        self.vocabulary = Vocabulary.fit((token for block in train for token in block), SIZE)
        self.train = [self.vocabulary.encode(block) for block in train]
        self.held_out = [self.vocabulary.encode(block) for block in held_out]
        self.counts = word_counts(torch.cat(self.train), SIZE)
        self.noise = noise_distribution(self.counts)

    def pairs(self, blocks: list[Tensor], generator: torch.Generator) -> tuple[Tensor, Tensor]:
        """Pairs of near words, frequent ones left out at random, drawn anew at each call."""
        drawn = [
            skip_gram_pairs(subsample(block, self.counts, THRESHOLD, generator=generator), REACH, generator=generator)
            for block in blocks
        ]
        return torch.cat([pairs.x for pairs in drawn]), torch.cat([pairs.y for pairs in drawn])


def skip_gram_loss(model: SkipGram, x: Tensor, y: Tensor, noise: Tensor, generator: torch.Generator) -> Tensor:
    """Negative sampling; one value per pair."""
    negatives = draw_words(noise, (len(x), NEGATIVES, 1), generator=generator)
    return negative_sampling(model(x, y), model(x[:, None], negatives))


def train_skip_gram(corpus: Corpus, passes: int, generator: torch.Generator) -> SkipGram:
    """Go through freshly drawn pairs some times, with Adam and a rate that falls to zero."""
    model = SkipGram(**SKIP_GRAM, generator=generator)
    optimizer = torch.optim.Adam(model.parameters(), lr=3e-3)
    batch = 4096
    expected = passes * (len(corpus.pairs(corpus.train, generator)[0]) // batch)
    scheduler = LambdaLR(optimizer, lambda step: max(1 - step / expected, 0.01))
    for number in range(passes):
        x, y = corpus.pairs(corpus.train, generator)
        history = fit(
            model,
            lambda model, x, y: skip_gram_loss(model, x, y, corpus.noise, generator).mean(),
            (x, y),
            epochs=1,
            batch_size=batch,
            optimizer=optimizer,
            scheduler=scheduler,
            generator=generator,
            progress=False,
        )
        print(f"skip-gram, pass {number + 1}: loss {sum(history.loss) / len(history.loss):.4f}", flush=True)
    return model


def window_loss(model: WindowEnergy, s: Tensor, generator: torch.Generator) -> Tensor:
    """Hinge between a window and the same one with another middle word; one value per window."""
    return losses.hinge(model(s), model(replace_middle(s, SIZE, generator=generator)), margin=1.0)


def train_windows(corpus: Corpus, passes: int, generator: torch.Generator) -> WindowEnergy:
    """Go through all windows of the text some times, with Adam and a rate that falls to zero."""
    model = WindowEnergy(**WINDOW, generator=generator)
    with torch.no_grad():
        model.words.weight.mul_(0.1)  # the text, not the draw, should say where a word lies
    s = windows(corpus.train, LENGTH, stride=1)
    batch = 1024
    steps = passes * (len(s) // batch)
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3)

    def report(history: object) -> None:
        if history.steps % 500 == 0:
            print(f"ranking, step {history.steps} of {steps}: loss {sum(history.loss[-500:]) / 500:.4f}", flush=True)

    fit(
        model,
        lambda model, s: window_loss(model, s, generator).mean(),
        s,
        steps=steps,
        batch_size=batch,
        optimizer=optimizer,
        scheduler=LambdaLR(optimizer, lambda step: max(1 - step / steps, 0.01)),
        generator=generator,
        callback=report,
        progress=False,
    )
    return model


def group_precision(vectors: Tensor, vocabulary: Vocabulary) -> dict[str, float]:
    """For each group, the share of its words' five nearest that are of the group."""
    shares = {}
    for name, words in GROUPS.items():
        numbers = torch.tensor([vocabulary.index[word] for word in words if word in vocabulary.index])
        found = nearest(vectors, numbers, k=5)[1]
        shares[name] = round(torch.isin(found, numbers).double().mean().item(), 4)
    return shares


@torch.no_grad()
def evaluate(skip_gram: SkipGram, energy: WindowEnergy, corpus: Corpus, seed: int) -> dict[str, object]:
    """Held-out losses, the share of windows ranked rightly, groups found, and neighbours to read."""
    generator = torch.Generator().manual_seed(seed + 1)
    x, y = corpus.pairs(corpus.held_out, generator)
    s = windows(corpus.held_out, LENGTH, stride=1)
    wrong = replace_middle(s, SIZE, generator=generator)
    figures = {
        "skip_gram_loss": skip_gram_loss(skip_gram, x, y, corpus.noise, generator).double().mean().item(),
        "skip_gram_loss_flat": (1 + NEGATIVES) * torch.tensor(2.0).log().item(),
        "ranking_loss": window_loss(energy, s, generator).double().mean().item(),
        "ranking_right": (energy(s) < energy(wrong)).double().mean().item(),
    }
    tables = {"skip_gram": skip_gram.u, "ranking": energy.words.weight}
    vocabulary = corpus.vocabulary
    numbers = vocabulary.encode(SHOWN)
    return {
        **{name: round(value, 4) for name, value in figures.items()},
        "group_precision": {name: group_precision(table, vocabulary) for name, table in tables.items()},
        "nearest": {
            name: {
                word: " ".join(vocabulary.decode(row))
                for word, row in zip(SHOWN, nearest(table, numbers, k=8)[1], strict=True)
            }
            for name, table in tables.items()
        },
    }


def main() -> None:
    """Train both, store them, load what was stored, and measure that."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--passes", type=int, default=30, help="of skip-gram")
    parser.add_argument("--window-passes", type=int, default=15)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "word_vectors.npz")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, used = time.perf_counter(), time.process_time()
    corpus = Corpus(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    skip_gram = train_skip_gram(corpus, options.passes, generator)
    energy = train_windows(corpus, options.window_passes, generator)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    options.out.parent.mkdir(exist_ok=True)
    save_models(options.out, corpus.vocabulary, {"skip_gram": (skip_gram, SKIP_GRAM), "ranking": (energy, WINDOW)})
    stored = load_models(options.out).models
    report = {
        "command": " ".join(["python", "training/word_vectors.py", *sys.argv[1:]]),
        "seed": options.seed,
        "skip_gram_passes": options.passes,
        "ranking_passes": options.window_passes,
        "train_words": sum(len(block) for block in corpus.train),
        "held_out_words": sum(len(block) for block in corpus.held_out),
        "torch": torch.__version__.split("+")[0],
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        **evaluate(stored["skip_gram"], stored["ranking"], corpus, options.seed),
    }
    options.out.with_suffix(".json").write_text(
        json.dumps(report, indent=1, ensure_ascii=False) + "\n", encoding="utf-8"
    )
    print(json.dumps(report, indent=1, ensure_ascii=False))


if __name__ == "__main__":
    main()
