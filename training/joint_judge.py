"""What is asked of every representation in the benchmark of joint-embedding methods."""

from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from sklearn.manifold import TSNE
from torch import Tensor, nn

from ebm_lib import data, joint
from ebm_lib.data.sprites import Sprites

MAPPED = 1500  # test pictures on the maps
PAIRED = 2000  # test pictures whose two views are compared
SHARES = {"labels_1": 0.01, "labels_10": 0.1}
DRAWS = 5  # of which pictures have a label
KNOWN = ("place", "radius", "ground", "figure", "bright")


class Sets(NamedTuple):
    """Pictures to learn from and pictures to measure on, with all that they were drawn from."""

    train: Sprites
    test: Sprites


def pictures(train: int, test: int, seed: int) -> Sets:
    """Draw the data set."""
    drawn = data.sprites(train + test, generator=torch.Generator().manual_seed(seed))
    return Sets(Sprites(*(part[:train] for part in drawn)), Sprites(*(part[train:] for part in drawn)))


def labelled(sets: Sets, share: float, draw: int) -> Tensor:
    """Rows of the training set that have a label: the same for every method."""
    return joint.label_subset(sets.train.labels, share, generator=torch.Generator().manual_seed(draw))


def factors(sprites: Sprites) -> dict[str, Tensor]:
    """The factors that are numbers, each (N, d)."""
    return {name: getattr(sprites, name).double().view(len(sprites.labels), -1) for name in KNOWN}


def determined(train: Tensor, test: Tensor, sets: Sets) -> dict[str, float]:
    """How well each factor can be read off by least squares: R² on the test set, 0 for the mean and 1 for all of it."""
    a, b = ((h.double() - train.double().mean(0)) / train.double().std(0).clamp(min=1e-9) for h in (train, test))
    gram = a.T @ a + 1e-3 * len(a) * torch.eye(a.shape[1], dtype=a.dtype)
    found = {}
    for (name, known), asked in zip(factors(sets.train).items(), factors(sets.test).values(), strict=True):
        mean = known.mean(0)
        guess = b @ torch.linalg.solve(gram, a.T @ (known - mean)) + mean
        found[name] = (1 - (guess - asked).square().sum() / (asked - mean).square().sum()).item()
    return found


def shape(z: Tensor, first: Tensor, second: Tensor, mean: Tensor) -> dict[str, Any]:
    """How vectors are spread, and how near the two views of a picture are.

    Args:
        z: of test pictures, (N, D).
        first: of one view of some of them, (M, D).
        second: of the other view.
        mean: of training pictures, subtracted before directions are compared.
    """
    unit = (z - mean) / (z - mean).norm(dim=1, keepdim=True)
    found = joint.collapse(z / z.norm(dim=1, keepdim=True))
    return {
        "dimensions": z.shape[1],
        "effective_rank": joint.effective_rank(z).item(),
        "centred_rank": joint.effective_rank(z, center=True).item(),
        "std": joint.spread(z).mean().item(),
        "std_on_sphere": z.shape[1] ** 0.5 * joint.spread(unit).mean().item(),
        "alignment": joint.alignment(first, second).item(),
        "uniformity": joint.uniformity(first).item(),
        "centred_alignment": joint.alignment(first - mean, second - mean).item(),
        "centred_uniformity": joint.uniformity(first - mean).item(),
        "verdict": found.verdict,
        "relative_spread": found.spread,
    }


def rounded(facts: Any) -> Any:
    """Numbers to five digits, which is more than another machine would agree to."""
    if isinstance(facts, dict):
        return {name: rounded(value) for name, value in facts.items()}
    if isinstance(facts, list):
        return [rounded(value) for value in facts]
    return float(f"{facts:.5g}") if isinstance(facts, float) else facts


def spectrum(z: Tensor) -> Tensor:
    """Standard deviations along the principal directions, from the largest, at most 512 of them."""
    return torch.linalg.svdvals((z - z.mean(0)).double())[:512] / (len(z) - 1) ** 0.5


def principal(z: Tensor, dimensions: int) -> Tensor:
    """The leading principal components, each with the sign that makes its largest entry positive."""
    U, sigma, _ = torch.linalg.svd((z - z.mean(0)).double(), full_matrices=False)
    found = (U * sigma)[:, :dimensions]
    return found * found.gather(0, found.abs().argmax(0, keepdim=True)).sign()


def maps(z: Tensor) -> dict[str, Tensor]:
    """Two maps of the plane: two principal components, and neighbourhoods by t-SNE started from them."""
    some = z[:MAPPED]
    near = TSNE(init="pca", perplexity=30, random_state=0).fit_transform(principal(some, min(50, z.shape[1])).numpy())
    return {"pca": principal(some, 2), "tsne": torch.from_numpy(near)}


@torch.no_grad()
def judge(
    represent: Callable[[Tensor], Tensor], head: nn.Module | None, sets: Sets, views: joint.Views, drawn: bool
) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Measure a representation.

    Args:
        represent: from pictures to representations, frozen.
        head: from representations to what the loss saw, in evaluation mode; None if there is none.
        sets: to learn probes from, and to measure on.
        views: two of each picture are compared.
        drawn: whether to make the maps too.

    Returns:
        Arrays, and numbers.
    """
    (train, labels), (test, truth) = ((represent(part.images), part.labels) for part in sets)
    full = joint.linear_probe(train, labels, test, truth)
    facts: dict[str, Any] = {
        "linear": full.accuracy,
        "linear_train": full.train_accuracy,
        "probe_gradient": full.gradient,
        "knn": joint.knn(train, labels, test, truth),
    }
    for name, share in SHARES.items():
        chosen = [labelled(sets, share, draw) for draw in range(DRAWS)]
        facts[name] = [joint.linear_probe(train[c], labels[c], test, truth).accuracy for c in chosen]
    facts["determined"] = determined(train, test, sets)
    first, second = (represent(v) for v in views(sets.test.images[:PAIRED], torch.Generator().manual_seed(0))[:2])
    facts["representation"] = shape(test, first, second, train.mean(0))
    arrays = {"spectrum": spectrum(test)}
    if head is not None:
        facts["embedding"] = shape(head(test), head(first), head(second), head(train).mean(0))
        arrays["embedding_spectrum"] = spectrum(head(test))
    if drawn:
        classes = len(data.SHAPES)
        confusion = (truth * classes + full.predicted).bincount(minlength=classes**2)
        arrays |= maps(test) | {"confusion": confusion.view(classes, classes)}
    return arrays, rounded(facts)
