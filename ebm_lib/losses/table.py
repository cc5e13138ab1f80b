"""The lecture's table of loss functions, as data: something for a page to loop over."""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor

from ebm_lib.losses.answers import all_outputs_hinge, mee, nll, perceptron
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


class Loss(NamedTuple):
    r"""A row of the table.

    Attributes:
        name: as on the slide.
        function: of this library.
        takes: its arguments: ``"positive"`` (F⁺), ``"pair"`` (F⁺, F⁻), ``"answers"`` (energies of all answers, target).
        formula: in TeX.
        margin: the gap F⁻ − F⁺ up to which F⁻ is pushed while F⁺ = 0: ``"0"``, ``"m"``, ``"m(y, ŷ)"`` or ``"∞"``.
        collapses: whether a flat energy is among its minima over energies F ≥ 0, so that an architecture which can be
            flat may end there.
    """

    name: str
    function: Callable[..., Tensor]
    takes: str
    formula: str
    margin: str
    collapses: bool


TABLE = (
    Loss("energy", energy_loss, "positive", r"F(x, y)", "0", True),
    Loss("perceptron", perceptron, "answers", r"F(x, y) - \min_{\check y} F(x, \check y)", "0", True),
    Loss("hinge", hinge, "pair", r"[m + F(x, y) - F(x, \hat y)]^+", "m", False),
    Loss("log", log_loss, "pair", r"\log(1 + e^{F(x, y) - F(x, \hat y)})", "∞", False),
    Loss("LVQ2", lvq2, "pair", r"\min(M, [F(x, y) - F(x, \hat y)]^+)", "0", True),
    Loss("MCE", mce, "pair", r"(1 + e^{F(x, \hat y) - F(x, y)})^{-1}", "∞", False),
    Loss("square-square", square_square, "pair", r"F(x, y)^2 + ([m - F(x, \hat y)]^+)^2", "m", False),
    Loss("square-exp", square_exp, "pair", r"F(x, y)^2 + \gamma e^{-F(x, \hat y)}", "∞", False),
    Loss("NLL/MMI", nll, "answers", r"F(x, y) + \frac1\beta \log\sum_{\hat y} e^{-\beta F(x, \hat y)}", "∞", False),
    Loss("MEE", mee, "answers", r"1 - e^{-\beta F(x, y)} / \sum_{\hat y} e^{-\beta F(x, \hat y)}", "∞", False),
    Loss("simple", simple, "pair", r"[F(x, y)]^+ + [m - F(x, \hat y)]^+", "m", False),
    Loss("ranking", ranking, "pair", r"[F(x, y) - F(x, \hat y) + m(y, \hat y)]^+", "m(y, ŷ)", False),
    Loss(
        "all-outputs hinge",
        all_outputs_hinge,
        "answers",
        r"\sum_{\hat y \ne y} [F(x, y) - F(x, \hat y) + m(y, \hat y)]^+",
        "m(y, ŷ)",
        False,
    ),
)
"""The ten losses of the slide "Plenty of Contrastive Loss Functions to Choose From", in its order, then three more."""
