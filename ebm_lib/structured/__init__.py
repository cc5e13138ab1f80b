"""Structured prediction: energies of sequences and graphs, and the dynamic programmes that minimise them.

One idea carries the package: the recursion that finds the lowest energy gives, in another
:mod:`~ebm_lib.structured.semiring`, the free energy, and by its derivative the best configuration, the marginals and
samples.
"""

from ebm_lib.structured.chains import Marginals, Path, chain, chain_energy, label_marginals, sample_labels, viterbi
from ebm_lib.structured.graph import Factor, FactorGraph
from ebm_lib.structured.semiring import Minimum, Sampled, Semiring, SoftMinimum, occupation, of_temperature

__all__ = [
    "Factor",
    "FactorGraph",
    "Marginals",
    "Minimum",
    "Path",
    "Sampled",
    "Semiring",
    "SoftMinimum",
    "chain",
    "chain_energy",
    "label_marginals",
    "occupation",
    "of_temperature",
    "sample_labels",
    "viterbi",
]
