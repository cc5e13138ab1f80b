r"""Probes: what can be read off a frozen representation by the simplest classifiers.

.. math:: \hat c(h) = \operatorname*{argmax}_c \; w_c \cdot h + b_c \qquad\text{or a vote of the nearest neighbours}
"""

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy, one_hot

from ebm_lib.joint._require import require_embeddings, require_weight, unit
from ebm_lib.require import has_values, require_count, require_positive


class Probe(NamedTuple):
    """A linear classifier and how it did.

    Attributes:
        accuracy: share of the test samples that it classifies rightly.
        train_accuracy: the same on what it was fitted to.
        predicted: its answers on the test samples, (M,) int64.
        gradient: largest entry of the objective's gradient where it stopped: near 0 if it converged.
    """

    accuracy: float
    train_accuracy: float
    predicted: Tensor
    gradient: float


def linear_probe(
    train: Tensor,
    train_labels: Tensor,
    test: Tensor,
    test_labels: Tensor,
    *,
    penalty: float = 1e-4,
    steps: int = 200,
) -> Probe:
    r"""Multinomial logistic regression on frozen features, fitted to the end.

    .. math::

        \min_{w, b} \frac1N \sum_i \Big( -s_{i,c_i} + \log \sum_c e^{s_{ic}} \Big)
        + \frac{\lambda}{2} \lVert w \rVert^2, \qquad s_{ic} = w_c \cdot \tilde h_i + b_c

    on features h̃ standardised by the training set's mean and standard deviation alone. Convex, so by L-BFGS in double
    precision the answer does not depend on a start, a learning rate or a seed. Dimensions that do not vary are left
    out. Same objective as scikit-learn's ``LogisticRegression`` with C = 1/(λN).

    Args:
        train: features, (N, D).
        train_labels: (N,) whole numbers.
        test: features, (M, D).
        test_labels: (M,).
        penalty: λ ≥ 0, on the weights and not on the biases.
        steps: iterations of L-BFGS, at most.

    Returns:
        A Probe.

    Raises:
        ValueError: shapes that do not go together, labels that are no whole numbers from 0, values not finite.

    Source: LeCun, The Energy-Based View of Self-Supervised Learning (GTC 2021), "Contrastive Joint Embedding"
    ("training a supervised linear head").

    >>> h, c = torch.tensor([[0.0], [1.0], [10.0], [11.0]]), torch.tensor([0, 0, 1, 1])
    >>> linear_probe(h, c, torch.tensor([[-5.0], [7.0]]), torch.tensor([0, 1])).accuracy
    1.0
    """
    classes = _require_labelled(train, train_labels, test, test_labels)
    require_weight("penalty", penalty)
    train, test = train.detach().double(), test.detach().double()
    mean, deviation = train.mean(0), train.std(0, correction=0)
    varies = deviation > 1e-12 * train.abs().amax(0)
    scale = torch.where(varies, 1 / torch.where(varies, deviation, 1), 0)
    x, y = ((h - mean) * scale for h in (train, test))
    labels = train_labels.long()
    w = torch.zeros(x.shape[1] + 1, classes, dtype=x.dtype, device=x.device, requires_grad=True)
    optimizer = torch.optim.LBFGS(
        [w], max_iter=require_count("steps", steps), tolerance_grad=1e-7, tolerance_change=1e-12, history_size=20,
        line_search_fn="strong_wolfe",
    )  # fmt: skip

    def objective() -> Tensor:
        with torch.enable_grad():
            optimizer.zero_grad()
            loss = cross_entropy(x @ w[:-1] + w[-1], labels) + penalty / 2 * w[:-1].square().sum()
            loss.backward()
        return loss

    optimizer.step(objective)
    objective()
    with torch.no_grad():
        predicted, fitted = ((h @ w[:-1] + w[-1]).argmax(-1) for h in (y, x))
    return Probe(_share(predicted, test_labels), _share(fitted, labels), predicted, w.grad.abs().max().item())


@torch.no_grad()
def knn(
    train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor, *, k: int = 200, temperature: float = 0.07
) -> float:
    r"""Accuracy of a vote among the k nearest neighbours by cosine, the nearer ones counting more.

    .. math:: \hat c(h) = \operatorname*{argmax}_c \sum_{i \in \mathcal N_k(h)} e^{\cos(h_i, h)/\tau} \, [c_i = c]

    Nothing is trained and nothing subtracted: a common offset of the features counts against them.

    Args:
        train: features, (N, D).
        train_labels: (N,) whole numbers.
        test: features, (M, D).
        test_labels: (M,).
        k: neighbours, at most N.
        temperature: τ > 0.

    Returns:
        The share of test samples that it classifies rightly.

    Raises:
        ValueError: as :func:`linear_probe`; k or τ out of range, a zero vector.

    Source: Wu, Xiong, Yu and Lin, Unsupervised Feature Learning via Non-Parametric Instance Discrimination (CVPR 2018),
    section 3.4.

    >>> h, c = torch.tensor([[1.0, 0.0], [0.9, 0.1], [0.0, 1.0]]), torch.tensor([0, 0, 1])
    >>> knn(h, c, torch.tensor([[0.1, 1.0], [1.0, 0.2]]), torch.tensor([1, 0]), k=3)
    1.0
    """
    classes = _require_labelled(train, train_labels, test, test_labels)
    require_positive("temperature", temperature)
    if require_count("k", k) > len(train):
        raise ValueError(f"k must be at most the {len(train)} training samples, got {k}")
    bank, votes = unit("train", train), one_hot(train_labels.long(), classes).to(train.dtype)
    right = 0.0
    for queries, truth in zip(unit("test", test).split(1024), test_labels.split(1024), strict=True):
        nearest = (queries @ bank.T).topk(k, -1)
        weight = ((nearest.values - 1) / temperature).exp()  # the largest is 1: nothing overflows
        right += ((weight[..., None] * votes[nearest.indices]).sum(1).argmax(-1) == truth).double().sum().item()
    return right / len(test)


def label_subset(labels: Tensor, share: float, *, generator: torch.Generator | None = None) -> Tensor:
    r"""Choose a small part of a labelled set, the same share of each class.

    .. math:: n'_c = \max\big(1, \operatorname{round}(p\, n_c)\big)

    Args:
        labels: (N,) whole numbers.
        share: p in (0, 1].
        generator: which ones.

    Returns:
        Indices, sorted, int64: the same for features of any method, so that methods are compared on the same labels.

    Raises:
        ValueError: labels that are no whole numbers from 0, a share out of range.

    Source: LeCun, From Machine Learning to Autonomous Intelligence, lecture 3 (Les Houches 2022), "VICReg: Results with
    linear head and semi-supervised." (1 % and 10 % of the labels).

    >>> label_subset(torch.tensor([0] * 20 + [1] * 10), 0.1, generator=torch.Generator().manual_seed(0)).shape
    torch.Size([3])
    """
    require_labels("labels", labels)
    if isinstance(share, bool) or not 0 < share <= 1:
        raise ValueError(f"share must be in (0, 1], got {share}")
    origin = "cpu" if generator is None else generator.device
    order = torch.randperm(len(labels), generator=generator, device=origin).to(labels.device)
    chosen = []
    for c in labels.unique():
        rows = order[labels[order] == c]
        chosen.append(rows[: max(1, round(share * len(rows)))])
    return torch.cat(chosen).sort().values


@torch.no_grad()
def represent(encoder: torch.nn.Module, images: Tensor, *, batch_size: int = 512) -> Tensor:
    """Representations of pictures by a frozen encoder, in evaluation mode and without gradient; its mode is put back.

    Args:
        encoder: any module of images.
        images: (N, ...).
        batch_size: how many at a time.

    Returns:
        (N, D).

    Raises:
        ValueError: ``batch_size`` below 1; what the encoder refuses.

    >>> represent(torch.nn.Flatten(), torch.zeros(3, 1, 2, 2)).shape
    torch.Size([3, 4])
    """
    require_count("batch_size", batch_size)
    modes = [(part, part.training) for part in encoder.modules()]
    encoder.eval()
    try:
        return torch.cat([encoder(part) for part in images.split(batch_size)])
    finally:
        for part, training in modes:
            part.training = training


def require_labels(name: str, labels: Tensor) -> int:
    """Return the number of classes if ``labels`` is (N,) whole numbers from 0.

    Raises:
        ValueError: another shape, another dtype, a negative one, or none.

    >>> require_labels("labels", torch.tensor([0, 2]))
    3
    """
    if labels.ndim != 1 or len(labels) == 0 or labels.is_floating_point() or labels.dtype == torch.bool:
        raise ValueError(f"{name} must be a vector of whole numbers, got {labels.dtype} of shape {tuple(labels.shape)}")
    if has_values(labels) and labels.min() < 0:
        raise ValueError(f"{name} must count from 0, got {int(labels.min())}")
    return int(labels.max()) + 1


def _require_labelled(train: Tensor, train_labels: Tensor, test: Tensor, test_labels: Tensor) -> int:
    require_embeddings("train", train, minimum=2)
    require_embeddings("test", test)
    if train.shape[1] != test.shape[1]:
        raise ValueError(f"train and test must have the same dimensions, got {train.shape[1]} and {test.shape[1]}")
    classes = 0
    for name, h, labels in (("train_labels", train, train_labels), ("test_labels", test, test_labels)):
        classes = max(classes, require_labels(name, labels))
        if len(labels) != len(h):
            raise ValueError(f"{name} must be one for each sample, {len(h)}, got {len(labels)}")
    return classes


def _share(predicted: Tensor, labels: Tensor) -> float:
    return (predicted == labels).double().mean().item()
