r"""Variational inference: latent variables whose information is limited by making them fuzzy.

.. math::

    \tilde F(y) = \langle E(y, z) \rangle_q + \frac1\beta\,\mathrm{KL}\bigl(q(z \mid y) \,\Vert\, p(z)\bigr)
    \;\ge\; F_\beta(y)

Functions of any energy and any diagonal Gaussian q come first: its draws, its information, the bound and the gap. On
top of them stand the models: :class:`LinearGaussian`, where everything is exact, :class:`VAE`,
:class:`ConditionalVAE`, and :class:`GLO`, which has a latent variable and no q.
"""

from ebm_lib.latent.variational.bound import (
    Bound,
    ImportanceBound,
    VariationalFreeEnergy,
    importance_bound,
    variational_free_energy,
)
from ebm_lib.latent.variational.conditional import ConditionalVAE, best_of, coverage, sharpness
from ebm_lib.latent.variational.descent import descend
from ebm_lib.latent.variational.exact import GridBound, best_gaussian, bound_on_grid, quadratic_free_energy
from ebm_lib.latent.variational.gaussian import (
    DiagonalGaussian,
    Estimate,
    InformationParts,
    gaussian_entropy,
    gaussian_kl,
    information_parts,
    log_normal_density,
    reparameterize,
    sampled_kl,
)
from ebm_lib.latent.variational.glo import GLO, project_ball
from ebm_lib.latent.variational.information import cube_information, in_bits
from ebm_lib.latent.variational.learning import CodePath, information_history
from ebm_lib.latent.variational.linear_gaussian import GaussianPosterior, LinearGaussian
from ebm_lib.latent.variational.vae import VAE, ActiveUnits

__all__ = [
    "GLO",
    "VAE",
    "ActiveUnits",
    "Bound",
    "CodePath",
    "ConditionalVAE",
    "DiagonalGaussian",
    "Estimate",
    "GaussianPosterior",
    "GridBound",
    "ImportanceBound",
    "InformationParts",
    "LinearGaussian",
    "VariationalFreeEnergy",
    "best_gaussian",
    "best_of",
    "bound_on_grid",
    "coverage",
    "cube_information",
    "descend",
    "gaussian_entropy",
    "gaussian_kl",
    "importance_bound",
    "in_bits",
    "information_history",
    "information_parts",
    "log_normal_density",
    "project_ball",
    "quadratic_free_energy",
    "reparameterize",
    "sampled_kl",
    "sharpness",
    "variational_free_energy",
]
