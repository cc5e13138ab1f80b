"""What a linear readout finds in representations: ridge regression, fitted on some and judged on others."""

import torch
from torch import Tensor


def explained(known: Tensor, truth: Tensor, new: Tensor, new_truth: Tensor, penalty: float) -> float:
    """Return R² of factors, averaged over them.

    Args:
        known: representations to fit on, (N, D).
        truth: their factors, (N, F).
        new: representations to judge by, (M, D).
        new_truth: their factors, (M, F).
        penalty: of squared weights, for representations of variance 1.
    """
    known, truth, new, new_truth = (part.double() for part in (known, truth, new, new_truth))
    centre, scale, offset = known.mean(0), known.std(0).clamp(min=1e-12), truth.mean(0)
    known, new = (known - centre) / scale, (new - centre) / scale
    gram = known.T @ known / len(known) + penalty * torch.eye(known.shape[1], dtype=known.dtype)
    weights = torch.linalg.solve(gram, known.T @ (truth - offset) / len(known))
    error = (new_truth - offset - new @ weights).square().sum(0)
    return (1 - error / (new_truth - new_truth.mean(0)).square().sum(0)).mean().item()
