r"""Sampling: points drawn from an energy's Gibbs distribution by walking through its landscape.

.. math:: P(y) = e^{-\beta E(y)} / Z

Every sampler moves many chains at once: the leading dimensions of ``start`` count chains, the last is the variable's
own. A step is a pure function, whose noise is passed in; a state carries the energy and gradient of its point, so
that one step costs one gradient. The samplers draw their noise from ``generator``, call the step, and return
:class:`Chains`. A call that takes some steps and a second one that goes on from there with the same generator give
the same chain as one call that takes them all. Batch them by leading dimensions: those that follow gradients do not
run under ``torch.func.vmap``.
"""

from ebm_lib.sampling._gibbs import Sweeps, gibbs, gibbs_binary
from ebm_lib.sampling._hmc import hmc, hmc_step, leapfrog
from ebm_lib.sampling._langevin import langevin, langevin_step, reflect
from ebm_lib.sampling._mala import mala, mala_step
from ebm_lib.sampling.annealed import Annealed, annealed_importance, geometric_path
from ebm_lib.sampling.chains import Chains, Info, State, start_state
from ebm_lib.sampling.diagnostics import acceptance, autocorrelation, effective_sample_size, split_rhat
from ebm_lib.sampling.replay import ReplayBuffer

__all__ = [
    "Annealed",
    "Chains",
    "Info",
    "ReplayBuffer",
    "State",
    "Sweeps",
    "acceptance",
    "annealed_importance",
    "autocorrelation",
    "effective_sample_size",
    "geometric_path",
    "gibbs",
    "gibbs_binary",
    "hmc",
    "hmc_step",
    "langevin",
    "langevin_step",
    "leapfrog",
    "mala",
    "mala_step",
    "reflect",
    "split_rhat",
    "start_state",
]
