"""Energy-based models as functions of energies: inference, free energy, learning, planning.

An energy is a callable that returns one number per sample; everything else in this library is a
function of energies. Start at :mod:`ebm_lib.energy`.
"""

from importlib.metadata import PackageNotFoundError, version

try:
    __version__ = version("ebm-lib")
except PackageNotFoundError:  # a source tree on the path, not installed
    __version__ = "0+source"
