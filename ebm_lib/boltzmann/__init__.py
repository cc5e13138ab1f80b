r"""Boltzmann machines: quadratic energies of vectors of zeros and ones.

.. math:: E(s) = -\sum_{i<j} w_{ij} s_i s_j - \sum_i b_i s_i, \qquad E(v, h) = -h^\top W v - a^\top v - b^\top h

Their negatives come from Gibbs sampling. The loss is the difference of the mean energies (or free energies) of data
and negatives; its gradient, which autograd finds, is the learning rule: correlations in the model minus correlations
in the data.
"""

from ebm_lib.boltzmann.machine import BoltzmannMachine
from ebm_lib.boltzmann.restricted import RBM, PartitionEstimate
from ebm_lib.boltzmann.units import binary_states, log_odds

__all__ = ["RBM", "BoltzmannMachine", "PartitionEstimate", "binary_states", "log_odds"]
