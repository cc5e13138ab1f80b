"""Structured prediction: energies of sequences, alignments, graphs and sets, and the programmes that minimise them.

One idea carries the package: the recursion that finds the lowest energy gives, in another
:mod:`~ebm_lib.structured.semiring`, the free energy, and by its derivative the best configuration, the marginals and
samples.
"""

from ebm_lib.structured.alignment import (
    WarpingPath,
    align,
    alignment_probability,
    dtw,
    squared_distances,
    warping_path,
)
from ebm_lib.structured.boxes import average_precision, box_iou, generalized_iou
from ebm_lib.structured.chains import Marginals, Path, chain, chain_energy, label_marginals, sample_labels, viterbi
from ebm_lib.structured.criteria import sequence_hinge, sequence_nll, sequence_perceptron
from ebm_lib.structured.graph import Factor, FactorGraph
from ebm_lib.structured.matching import (
    Matching,
    SetLoss,
    match,
    matching_free_energy,
    matching_program,
    set_loss,
)
from ebm_lib.structured.segments import Segmentations, best_segmentations, segmentation, spelling, spelling_loss
from ebm_lib.structured.semiring import Minimum, Sampled, Semiring, SoftMinimum, occupation, of_temperature

__all__ = [
    "Factor",
    "FactorGraph",
    "Marginals",
    "Matching",
    "Minimum",
    "Path",
    "Sampled",
    "Segmentations",
    "Semiring",
    "SetLoss",
    "SoftMinimum",
    "WarpingPath",
    "align",
    "alignment_probability",
    "average_precision",
    "best_segmentations",
    "box_iou",
    "chain",
    "chain_energy",
    "dtw",
    "generalized_iou",
    "label_marginals",
    "match",
    "matching_free_energy",
    "matching_program",
    "occupation",
    "of_temperature",
    "sample_labels",
    "segmentation",
    "sequence_hinge",
    "sequence_nll",
    "sequence_perceptron",
    "set_loss",
    "spelling",
    "spelling_loss",
    "squared_distances",
    "viterbi",
    "warping_path",
]
