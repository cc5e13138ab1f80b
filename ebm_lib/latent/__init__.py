r"""Latent-variable models whose low-energy volume is kept small by architecture or by a regulariser.

.. math::

    E(y, z) = C(y, \text{Dec}(z)) + \lambda R(z), \qquad
    F_\beta(y) = -\frac{1}{\beta} \log \int e^{-\beta E(y, z)}\,dz

Every model is an ``nn.Module`` that answers the same few calls: :class:`LatentModel` where z is free, :class:`Model`
where it is computed or absent. Sparse codes have a package of their own, :mod:`ebm_lib.latent.sparse`.
"""

from ebm_lib.latent.autoencoder import AutoEncoder
from ebm_lib.latent.em import COVARIANCES, Components, EMRound, component_energies, em_step
from ebm_lib.latent.flow import AffineCoupling, Flow, Mapped
from ebm_lib.latent.gabor import GaborFit, fit_gabor, gabor_function
from ebm_lib.latent.ica import ICA, amari_distance, log_cosh
from ebm_lib.latent.kmeans import KMeans
from ebm_lib.latent.linear import PCA, Moments, Subspace, moments, principal_subspace, subspace_angles
from ebm_lib.latent.linear_autoencoder import LinearAutoEncoder, reconstruction_loss
from ebm_lib.latent.lloyd import Round, lloyd_step
from ebm_lib.latent.mixture import GaussianMixture
from ebm_lib.latent.model import LatentModel, Learned, Model
from ebm_lib.latent.prior import FixedPrior, Prior, latent_prior, volume_bound
from ebm_lib.latent.prototypes import Nearest, kmeans_plus_plus, nearest
from ebm_lib.latent.quantized import VQAutoEncoder
from ebm_lib.latent.quantizer import Quantized, Usage, VectorQuantizer, straight_through, usage
from ebm_lib.latent.regularized_autoencoder import (
    ContractiveAutoEncoder,
    SaturatingAutoEncoder,
    SparseAutoEncoder,
    jacobian_norm,
)
from ebm_lib.latent.unregularized import Unregularized, levenberg_marquardt
from ebm_lib.latent.volume import EffectiveDimension, LowEnergyVolume, effective_dimension, low_energy_volume

__all__ = [
    "COVARIANCES",
    "ICA",
    "PCA",
    "AffineCoupling",
    "AutoEncoder",
    "Components",
    "ContractiveAutoEncoder",
    "EMRound",
    "EffectiveDimension",
    "FixedPrior",
    "Flow",
    "GaborFit",
    "GaussianMixture",
    "KMeans",
    "LatentModel",
    "Learned",
    "LinearAutoEncoder",
    "LowEnergyVolume",
    "Mapped",
    "Model",
    "Moments",
    "Nearest",
    "Prior",
    "Quantized",
    "Round",
    "SaturatingAutoEncoder",
    "SparseAutoEncoder",
    "Subspace",
    "Unregularized",
    "Usage",
    "VQAutoEncoder",
    "VectorQuantizer",
    "amari_distance",
    "component_energies",
    "effective_dimension",
    "em_step",
    "fit_gabor",
    "gabor_function",
    "jacobian_norm",
    "kmeans_plus_plus",
    "latent_prior",
    "levenberg_marquardt",
    "lloyd_step",
    "log_cosh",
    "low_energy_volume",
    "moments",
    "nearest",
    "principal_subspace",
    "reconstruction_loss",
    "straight_through",
    "subspace_angles",
    "usage",
    "volume_bound",
]
