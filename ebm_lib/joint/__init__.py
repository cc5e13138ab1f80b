r"""Joint embedding without collapse: criteria, architectures, methods, and how to judge what they learned.

.. math:: F(x, y) = C\big(\text{Enc}(x), \text{Enc}(y)\big)

Two views of one thing should have near embeddings. That alone is best done by one point for everything, and what each
method adds to forbid that is its identity: negatives (:func:`nt_xent`, :func:`moco`, :func:`pirl`, the Siamese losses),
asymmetry (:func:`byol`, :func:`simsiam`), populated clusters (:func:`deepcluster`, :func:`swav`), or information
(:func:`barlow_twins`, :func:`vicreg`, :func:`sigreg`).

A **criterion** is a function of batches of embeddings, row i of each belonging to sample i; it returns a named tuple:
``loss`` first, then the terms that it is the sum of. An **architecture** is an encoder, a head, and what else there is:
predictor, momentum copy, queue. A **method** puts one criterion on one architecture, and :func:`learn` trains it::

    method = SimCLR(SmallEncoder(generator=g), generator=g)
    learn(method, images, Views(augment, augment), epochs=10, generator=g)
    probe = linear_probe(represent(method.encoder, images), labels, represent(method.encoder, unseen), truth)
"""

from ebm_lib.joint.architecture import Momentum, SmallEncoder, head, momentum_schedule
from ebm_lib.joint.augment import Augmentation, Kornia, Views, jigsaw
from ebm_lib.joint.clustering import Assignment, Classified, Prototypes, Swapped, assign, deepcluster, sinkhorn, swav
from ebm_lib.joint.contrastive import Contrast, PIRLTerms, moco, nt_xent, pirl
from ebm_lib.joint.distillation import Distilled, byol, negative_cosine, simsiam
from ebm_lib.joint.gaussian import LeJEPATerms, epps_pulley, lejepa, random_directions, sigreg
from ebm_lib.joint.information import BarlowTerms, VICRegTerms, barlow_twins, covariance_squares, variance_hinge, vicreg
from ebm_lib.joint.measures import Collapse, alignment, collapse, effective_rank, relative_spread, spread, uniformity
from ebm_lib.joint.memory import MemoryBank, Queue
from ebm_lib.joint.methods import (
    BYOL,
    PIRL,
    BarlowTwins,
    DeepCluster,
    Method,
    MoCo,
    Regularized,
    Siamese,
    SIGReg,
    SimCLR,
    SimSiam,
    Supervised,
    SwAV,
    VICReg,
    learn,
    regularized,
)
from ebm_lib.joint.probes import Probe, knn, label_subset, linear_probe, represent
from ebm_lib.joint.siamese import mine, siamese_square_exp, siamese_square_square, triplet
from ebm_lib.joint.temporal import Temporal, bend, linear_predictability, temporal

__all__ = [
    "BYOL",
    "PIRL",
    "Assignment",
    "Augmentation",
    "BarlowTerms",
    "BarlowTwins",
    "Classified",
    "Collapse",
    "Contrast",
    "DeepCluster",
    "Distilled",
    "Kornia",
    "LeJEPATerms",
    "MemoryBank",
    "Method",
    "MoCo",
    "Momentum",
    "PIRLTerms",
    "Probe",
    "Prototypes",
    "Queue",
    "Regularized",
    "SIGReg",
    "Siamese",
    "SimCLR",
    "SimSiam",
    "SmallEncoder",
    "Supervised",
    "SwAV",
    "Swapped",
    "Temporal",
    "VICReg",
    "VICRegTerms",
    "Views",
    "alignment",
    "assign",
    "barlow_twins",
    "bend",
    "byol",
    "collapse",
    "covariance_squares",
    "deepcluster",
    "effective_rank",
    "epps_pulley",
    "head",
    "jigsaw",
    "knn",
    "label_subset",
    "learn",
    "lejepa",
    "linear_predictability",
    "linear_probe",
    "mine",
    "moco",
    "momentum_schedule",
    "negative_cosine",
    "nt_xent",
    "pirl",
    "random_directions",
    "regularized",
    "relative_spread",
    "represent",
    "siamese_square_exp",
    "siamese_square_square",
    "sigreg",
    "simsiam",
    "sinkhorn",
    "spread",
    "swav",
    "temporal",
    "triplet",
    "uniformity",
    "variance_hinge",
    "vicreg",
]
