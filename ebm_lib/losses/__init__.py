r"""Losses: functions of energies whose minimum over the parameters is a well-shaped energy.

The energy F is what inference minimises over y; a loss is what training minimises over the parameters of F. A loss here
takes tensors of energies, never a model: compute F at the data and at the contrastive points, pass the numbers, and
differentiate. It returns one value per sample, pair or group, so that the caller may weight them; to train, take the
mean::

    loss = losses.hinge(F(y), F(y_hat), margin=1.0).mean()

A good loss leaves a gap between the energy of the data (F⁺) and of everything else (F⁻): in the words of LeCun, Chopra,
Hadsell, Ranzato and Huang, A Tutorial on Energy-Based Learning (2006), the right answer must have the lowest energy
(condition 1), by a margin m (condition 2). A loss with margin 0 is content with a flat energy, which tells nothing: it
*permits collapse*, and whether collapse happens is then up to the architecture. They are listed, as data, in
:data:`ebm_lib.losses.TABLE`.
"""

from ebm_lib.losses.answers import (
    Answers,
    Offender,
    all_outputs_hinge,
    join,
    mee,
    most_offending,
    nll,
    perceptron,
)
from ebm_lib.losses.group import general_margin, group_margin, hard_negative_info_nce, info_nce, nca, nce
from ebm_lib.losses.likelihood import contrastive_divergence, negative_log_likelihood
from ebm_lib.losses.pair import (
    energy_loss,
    hinge,
    log_loss,
    lvq2,
    mce,
    ranking,
    simple,
    square_exp,
    square_square,
)
from ebm_lib.losses.table import TABLE, Loss

__all__ = [
    "TABLE",
    "Answers",
    "Loss",
    "Offender",
    "all_outputs_hinge",
    "contrastive_divergence",
    "energy_loss",
    "general_margin",
    "group_margin",
    "hard_negative_info_nce",
    "hinge",
    "info_nce",
    "join",
    "log_loss",
    "lvq2",
    "mce",
    "mee",
    "most_offending",
    "nca",
    "nce",
    "negative_log_likelihood",
    "nll",
    "perceptron",
    "ranking",
    "simple",
    "square_exp",
    "square_square",
]
