"""The methods, each a few lines on top of an encoder, heads and a criterion."""

from ebm_lib.joint.methods.base import Method, learn
from ebm_lib.joint.methods.clustering import DeepCluster, Supervised, SwAV
from ebm_lib.joint.methods.contrastive import PIRL, MoCo, Siamese, SimCLR
from ebm_lib.joint.methods.distillation import BYOL, Regularized, SimSiam, regularized
from ebm_lib.joint.methods.information import BarlowTwins, SIGReg, VICReg

__all__ = [
    "BYOL",
    "PIRL",
    "BarlowTwins",
    "DeepCluster",
    "Method",
    "MoCo",
    "Regularized",
    "SIGReg",
    "Siamese",
    "SimCLR",
    "SimSiam",
    "Supervised",
    "SwAV",
    "VICReg",
    "learn",
    "regularized",
]
