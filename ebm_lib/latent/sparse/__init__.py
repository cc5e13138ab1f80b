"""Sparse latent variables: few of many atoms explain each point."""

from ebm_lib.latent.sparse.amortized import LISTA
from ebm_lib.latent.sparse.codes import Codes, duality_gap, fista, ista, ista_step, max_step_size, sparse_energy
from ebm_lib.latent.sparse.convolutional import ConvSparseCoding, conv_code_size, conv_correlate, conv_decode, conv_norm
from ebm_lib.latent.sparse.convolutional_encoder import ConvLISTA
from ebm_lib.latent.sparse.decoder import LinearDecoder, dictionary_step, normalize_columns
from ebm_lib.latent.sparse.dictionary import SparseCoding
from ebm_lib.latent.sparse.group import GroupSparseCoding, disjoint_pools, group_codes, pool_activity, torus_pools
from ebm_lib.latent.sparse.inhibition import InhibitedSparseCoding, competition, inhibited_codes, inhibition_price
from ebm_lib.latent.sparse.lasso import sparse_codes
from ebm_lib.latent.sparse.maps import Orientation, map_smoothness, orientation_map, pinwheel_centers
from ebm_lib.latent.sparse.multilayer import ConvSparseStack
from ebm_lib.latent.sparse.predictive import PSD, ScaledTanh
from ebm_lib.latent.sparse.proximal import proximal_gradient
from ebm_lib.latent.sparse.pursuit import matching_pursuit, orthogonal_matching_pursuit
from ebm_lib.latent.sparse.shrinkage import group_soft_threshold, hard_threshold, soft_threshold
from ebm_lib.latent.sparse.variance import VarianceSparseCoding, variance_hinge

__all__ = [
    "LISTA",
    "PSD",
    "Codes",
    "ConvLISTA",
    "ConvSparseCoding",
    "ConvSparseStack",
    "GroupSparseCoding",
    "InhibitedSparseCoding",
    "LinearDecoder",
    "Orientation",
    "ScaledTanh",
    "SparseCoding",
    "VarianceSparseCoding",
    "competition",
    "conv_code_size",
    "conv_correlate",
    "conv_decode",
    "conv_norm",
    "dictionary_step",
    "disjoint_pools",
    "duality_gap",
    "fista",
    "group_codes",
    "group_soft_threshold",
    "hard_threshold",
    "inhibited_codes",
    "inhibition_price",
    "ista",
    "ista_step",
    "map_smoothness",
    "matching_pursuit",
    "max_step_size",
    "normalize_columns",
    "orientation_map",
    "orthogonal_matching_pursuit",
    "pinwheel_centers",
    "pool_activity",
    "proximal_gradient",
    "soft_threshold",
    "sparse_codes",
    "sparse_energy",
    "torus_pools",
    "variance_hinge",
]
