"""Train the masked language model of the pages on Austen's novels, and measure it against counts of words.

    python training/masked_language_model.py

writes ``training/results/masked_language_model.npz`` (weights in half precision, vocabulary) and ``.json`` (command,
seed, time, held-out figures). The text is the bundled one; one block of 1,000 words in twelve is held out, drawn from
the seed, and no window crosses a border. Each training text is a pair of spans around the start of a sentence,
``<cls>`` 30 words ``<sep>`` 31 words ``<sep>``; for half of them the second span is replaced by one from elsewhere, and
next-sentence prediction is trained along. Words are hidden as in BERT, 80/10/10, but 30 % of them: on little text, more
blanks teach faster.

All models are compared on the same held-out places: every eighth word, so that both neighbours of a blank are seen.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import torch
import torch.nn.functional as F
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from ebm_lib import data
from ebm_lib.text import (
    MASK,
    Bigram,
    MaskedLanguageModel,
    Unigram,
    Vocabulary,
    blank_energies,
    fill_in_words,
    hold_out,
    load_models,
    mask_apart,
    mask_tokens,
    pack_pair,
    save_models,
    sentence_starts,
    tokenize,
    windows,
)
from ebm_lib.train import fit

RESULTS = Path(__file__).parent / "results"
SIZE, BLOCK, BEFORE, AFTER = 4000, 1000, 30, 31
SHAPE = {"size": SIZE, "dim": 128, "heads": 4, "layers": 3, "length": BEFORE + AFTER + 3, "reach": 2}
BLANKS = (
    "mr . darcy was a very proud <mask> .",
    "she was very <mask> to see him .",
    "emma walked into the <mask> with her sister .",
    "they sat down to <mask> at five o'clock .",
    "i am very much obliged to you , <mask> elizabeth .",
    "she could not <mask> from laughing .",
)


class Corpus:
    """The text as numbers, cut into training and held-out blocks; everything follows from the seed."""

    def __init__(self, seed: int) -> None:
        novels = [tokenize(novel) for novel in data.load_text().novels]
        blocks = [tokens[i : i + BLOCK] for tokens in novels for i in range(0, len(tokens), BLOCK)]
        train, held_out = hold_out(blocks, 1 / 12, generator=torch.Generator().manual_seed(seed))
        self.vocabulary = Vocabulary.fit((token for block in train for token in block), SIZE)
        self.train = [self.vocabulary.encode(block) for block in train]
        self.held_out = [self.vocabulary.encode(block) for block in held_out]
        self.train_pairs = self._pairs(train, gap=1)
        self.held_out_pairs = self._pairs(held_out, gap=BEFORE + AFTER)

    def _pairs(self, blocks: list[list[str]], gap: int) -> Tensor:
        """Windows of BEFORE + AFTER words around starts of sentences that are at least ``gap`` words apart."""
        rows = []
        for block in blocks:
            numbers, last = self.vocabulary.encode(block), -gap
            for start in sentence_starts(block):
                if BEFORE <= start <= len(block) - AFTER and start >= last + gap:
                    rows.append(numbers[start - BEFORE : start + AFTER])
                    last = start
        return torch.stack(rows)


class MuonAndAdamW(torch.optim.Optimizer):
    """Muon for the transformer's matrices, AdamW for all else: half the steps of AdamW alone (Jordan, 2024)."""

    def __init__(self, model: MaskedLanguageModel, matrix_lr: float, lr: float) -> None:
        matrices = [p for p in model.encoder.parameters() if p.ndim == 2]
        chosen = {id(p) for p in matrices}
        others = [p for p in model.parameters() if id(p) not in chosen]
        super().__init__([{"params": list(model.parameters())}], {})
        self.parts = (
            torch.optim.Muon(matrices, lr=matrix_lr, weight_decay=0.01),
            torch.optim.AdamW(others, lr=lr, betas=(0.9, 0.98), weight_decay=0.01),
        )
        self.param_groups = [group for part in self.parts for group in part.param_groups]

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Update both groups."""
        for part in self.parts:
            part.step()


def shuffle_half(pairs: Tensor, generator: torch.Generator) -> tuple[Tensor, Tensor]:
    """Give half of the first spans the second span of another pair; return the texts and which are true neighbours."""
    first, second = pairs[:, :BEFORE], pairs[:, BEFORE:]
    follows = torch.rand(len(pairs), generator=generator) < 0.5
    return pack_pair(first, torch.where(follows[:, None], second, second.roll(1, 0))), follows


def next_sentence_loss(energy: Tensor, follows: Tensor) -> Tensor:
    """Logistic loss: low energy for neighbours, high for others; one value per pair."""
    return F.softplus(torch.where(follows, energy, -energy))


def train(model: MaskedLanguageModel, corpus: Corpus, steps: int, batch: int, generator: torch.Generator) -> None:
    """Minimise the energy of the hidden words and the next-sentence loss."""
    # All energies start at the words' frequencies, so that training begins with what stands beside what.
    with torch.no_grad():
        model.bias.copy_(Unigram(torch.cat(corpus.train), SIZE).log_p)

    def loss(model: MaskedLanguageModel, pairs: Tensor) -> dict[str, Tensor]:
        y, follows = shuffle_half(pairs, generator)
        x, places = mask_tokens(y, SIZE, p=0.3, generator=generator)
        hidden = model.features(x)
        logits = F.linear(hidden[places], model.words.weight, model.bias)
        masked = F.cross_entropy(logits, y[places])
        pair = next_sentence_loss(-model.follows(hidden[:, 0]).squeeze(-1), follows).mean()
        return {"loss": masked + pair, "masked": masked, "pair": pair}

    def report(history: object) -> None:
        if history.steps % 100 == 0:
            recent = {name: sum(values[-100:]) / 100 for name, values in history.metrics.items()}
            print(f"step {history.steps}: " + ", ".join(f"{k} {v:.3f}" for k, v in recent.items()), flush=True)

    optimizer = MuonAndAdamW(model, matrix_lr=0.02, lr=4e-3)
    warm = max(1, min(200, steps // 10))
    scheduler = LambdaLR(optimizer, lambda step: min((step + 1) / warm, (steps - step) / (steps - warm)))
    fit(
        model,
        loss,
        corpus.train_pairs,
        steps=steps,
        batch_size=batch,
        optimizer=optimizer,
        scheduler=scheduler,
        clip=1.0,
        generator=generator,
        callback=report,
        progress=False,
    )


def fit_discount(corpus: Corpus) -> float:
    """The best of nine discounts for a bigram model of most training blocks, on the last tenth of them."""
    count = len(corpus.train) * 9 // 10
    tuning = windows(corpus.train[count:], BEFORE + AFTER)
    places = mask_apart(tuning, 8, generator=torch.Generator().manual_seed(0)).places
    discounts = [tenth / 10 for tenth in range(1, 10)]
    costs = [
        blank_energies(Bigram(corpus.train[:count], SIZE, discount=discount), tuning, places).mean().item()
        for discount in discounts
    ]
    return discounts[costs.index(min(costs))]


@torch.no_grad()
def masked_energies(model: MaskedLanguageModel, pairs: Tensor, places: Tensor) -> Tensor:
    """-log P of each hidden word, (M,), row by row; all the places of a text are hidden at once."""
    x = pairs.masked_fill(places, MASK)
    x = pack_pair(x[:, :BEFORE], x[:, BEFORE:])
    logits = torch.cat([model(part, part == MASK) for part in x.split(128)])
    return F.cross_entropy(logits, pairs[places], reduction="none")


@torch.no_grad()
def next_sentence_accuracy(model: MaskedLanguageModel, pairs: Tensor, others: Tensor) -> float:
    """Share of true pairs with F < 0 and of pairs with another second span with F > 0, each counted half."""
    right = []
    for second, sign in ((pairs[:, BEFORE:], -1), (others, 1)):
        packed = pack_pair(pairs[:, :BEFORE], second)
        energy = torch.cat([model.next_sentence_energy(part) for part in packed.split(128)])
        right.append((sign * energy > 0).double().mean().item())
    return sum(right) / 2


def evaluate(model: MaskedLanguageModel, corpus: Corpus, seed: int, discount: float | None = None) -> dict[str, float]:
    """Cross-entropies in nats on the same held-out blanks, and the accuracy of next-sentence prediction.

    The bigram model's discount is fitted if it is not given.
    """
    pairs = corpus.held_out_pairs
    generator = torch.Generator().manual_seed(seed + 1)
    places = mask_apart(pairs, 8, generator=generator).places
    discount = fit_discount(corpus) if discount is None else discount
    bigram = Bigram(corpus.train, SIZE, discount=discount)
    energies = {
        "masked_language_model": masked_energies(model, pairs, places),
        "bigram_two_sided": blank_energies(bigram, pairs, places),
        "unigram": blank_energies(Unigram(torch.cat(corpus.train), SIZE), pairs, places),
    }
    figures = {f"cross_entropy_{name}": values.double().mean().item() for name, values in energies.items()}
    gain = (energies["bigram_two_sided"] - energies["masked_language_model"]).double()
    # The blanks of one window are not independent: the error comes from the windows' sums.
    sums = torch.zeros(len(pairs), dtype=torch.float64).index_add_(0, places.nonzero()[:, 0], gain - gain.mean())
    elsewhere = pairs[torch.randperm(len(pairs), generator=generator), BEFORE:]
    return figures | {
        "gain_over_bigram": gain.mean().item(),
        "gain_over_bigram_standard_error": sums.square().sum().sqrt().item() / len(gain),
        "blanks": len(gain),
        "held_out_pairs": len(pairs),
        "bigram_discount": discount,
        "next_sentence_accuracy": next_sentence_accuracy(model, pairs, elsewhere),
        # The next window of the list is mostly from the same block: same people, same matter.
        "next_sentence_accuracy_same_place": next_sentence_accuracy(model, pairs, pairs.roll(-1, 0)[:, BEFORE:]),
    }


def main() -> None:
    """Train, store, load what was stored, and measure that."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--steps", type=int, default=4000)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, default=RESULTS / "masked_language_model.npz")
    options = parser.parse_args()
    torch.set_num_threads(1)
    began, used = time.perf_counter(), time.process_time()
    corpus = Corpus(options.seed)
    generator = torch.Generator().manual_seed(options.seed)
    model = MaskedLanguageModel(**SHAPE, next_sentence=True, generator=generator)
    train(model, corpus, options.steps, options.batch, generator)
    seconds, cpu_seconds = time.perf_counter() - began, time.process_time() - used
    options.out.parent.mkdir(exist_ok=True)
    arguments = {**SHAPE, "next_sentence": True}
    save_models(options.out, corpus.vocabulary, {"masked_language_model": (model, arguments)})
    stored = load_models(options.out).models["masked_language_model"]
    report = {
        "command": " ".join(["python", "training/masked_language_model.py", *sys.argv[1:]]),
        "seed": options.seed,
        "steps": options.steps,
        "batch": options.batch,
        "parameters": sum(p.numel() for p in model.parameters()),
        "train_words": sum(len(block) for block in corpus.train),
        "held_out_words": sum(len(block) for block in corpus.held_out),
        "torch": torch.__version__.split("+")[0],
        "seconds": round(seconds),
        "cpu_seconds": round(cpu_seconds),
        **{k: v if isinstance(v, int) else round(v, 4) for k, v in evaluate(stored, corpus, options.seed).items()},
    }
    options.out.with_suffix(".json").write_text(json.dumps(report, indent=1) + "\n")
    print(json.dumps(report, indent=1))
    for text in BLANKS:
        for words in fill_in_words(stored, corpus.vocabulary, text):
            print(text, "->", ", ".join(f"{word} {p:.2f}" for word, p in words))


if __name__ == "__main__":
    main()
