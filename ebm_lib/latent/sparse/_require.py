"""What a dictionary and its codes must be."""

from torch import Tensor

from ebm_lib.require import has_values, require_finite, require_points


def require_matrix(W: Tensor) -> None:
    """Refuse what is not a matrix of finite floating-point numbers.

    Raises:
        ValueError: another shape or dtype, no row or column, values not finite.
    """
    if W.ndim != 2 or 0 in W.shape:
        raise ValueError(f"W must be a matrix (D, K) with at least one row and column, got shape {tuple(W.shape)}")
    if not W.is_floating_point():
        raise ValueError(f"W must be floating point, got {W.dtype}")
    require_finite("W", W)


def require_dictionary(y: Tensor, W: Tensor, *, allow_zero: bool = False) -> None:
    """Refuse points or a dictionary that do not fit each other.

    Raises:
        ValueError: y not (..., D), W not (D, K), values not finite, another dtype, a zero column.
    """
    require_points("y", y)
    require_matrix(W)
    if W.shape[0] != y.shape[-1]:
        raise ValueError(f"W must be (D, K) with the D = {y.shape[-1]} of y, got shape {tuple(W.shape)}")
    if W.dtype != y.dtype:
        raise ValueError(f"W must have the dtype of y, {y.dtype}, got {W.dtype}")
    if not allow_zero and has_values(W):
        zero = (W == 0).all(0)
        if zero.any():
            raise ValueError(
                f"W must have no zero column: {int(zero.sum())} of {W.shape[1]} are, the first is number "
                f"{int(zero.nonzero()[0])}"
            )


def require_codes(name: str, z: Tensor, W: Tensor) -> None:
    """Refuse codes that are not (..., K), of the dtype of W, all finite.

    Raises:
        ValueError: another last dimension or dtype, values not finite.
    """
    if z.ndim == 0 or z.shape[-1] != W.shape[1]:
        raise ValueError(f"{name} must be (..., K) with K = {W.shape[1]} columns of W, got shape {tuple(z.shape)}")
    if z.dtype != W.dtype:
        raise ValueError(f"{name} must have the dtype of W, {W.dtype}, got {z.dtype}")
    require_finite(name, z)
