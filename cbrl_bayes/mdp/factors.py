"""Sparse factors of I - M on the host, for M without negative entries, kept for the next call."""

import hashlib
import os
import threading
from collections import OrderedDict, deque
from concurrent.futures import ThreadPoolExecutor
from functools import cached_property

import numpy as np
from scipy.sparse import coo_matrix, csc_matrix, identity
from scipy.sparse.linalg import SuperLU, splu

LARGEST_SUM = 1e9
"""A larger one, of a row of the inverse, says that I - M is singular to rounding."""
MOST_KEPT = 8
"""Factorisations kept for the next call, as of contexts that come one by one."""

_kept: "OrderedDict[bytes, Factors | None]" = OrderedDict()
_lock = threading.Lock()
_ended: deque[SuperLU] = deque()
"""No longer used; the thread that makes factors frees them before it makes more."""
_maker: list[ThreadPoolExecutor] = []


class _LU:
    """A sparse LU that is made, and ends, on one thread of its own.

    SciPy knows the memory of a SuperLU object only on the thread that made it, and frees nothing
    elsewhere. Programs call the host on many threads, and some of them do not live long.
    """

    def __init__(self, matrix: csc_matrix) -> None:
        self.lu: SuperLU | None = _maker[0].submit(_make, matrix).result()

    def solve(self, right_side: np.ndarray) -> np.ndarray:
        """Solve for each row of (n, S)."""
        assert self.lu is not None  # `are_of_an_m_matrix` looked
        return self.lu.solve(right_side.T).T

    def __del__(self) -> None:
        if self.__dict__.get("lu") is not None:
            _ended.append(self.__dict__.pop("lu"))


def _make(matrix: csc_matrix) -> SuperLU | None:
    """Return the factors, or None of a matrix with a pivot of exactly zero."""
    while _ended:
        _ended.pop()
    # Pivots on the diagonal: then nothing that is not negative is ever subtracted from z, and
    # every entry is right by its own size, also one of 1e-150 beside one of 1.
    options = {"SymmetricMode": True}
    try:
        return splu(matrix, permc_spec="COLAMD", diag_pivot_thresh=0.0, options=options)
    except RuntimeError:
        return None


def _begin() -> None:
    """Start the thread that makes factors; anew, with the lock, in a process that was forked."""
    global _lock
    _lock = threading.Lock()
    _maker[:] = [ThreadPoolExecutor(1, thread_name_prefix="factors")]


class Factors:
    """Sparse LU of I - M and of its transpose."""

    def __init__(self, matrix: csc_matrix) -> None:
        self.matrix = matrix
        self._plain = _LU(matrix)

    @cached_property
    def _transposed(self) -> _LU:
        # A second factorisation: SuperLU's own transposed solve takes twice as long.
        return _LU(self.matrix.T.tocsc())

    def are_of_an_m_matrix(self) -> bool:
        """Return whether M's spectral radius is below 1.

        So it is if and only if the sums of the rows of the inverse are all positive: then they are
        1 at least. The factors' diagonal would tell as well, but SciPy copies them to show it.
        """
        lu = self._plain.lu
        if lu is None:
            return False
        sums = lu.solve(np.ones(len(lu.perm_r)))
        kept = np.array_equal(lu.perm_r, lu.perm_c)
        return kept and bool(((sums > 0.0) & (sums < LARGEST_SUM)).all())

    def solve(self, right_side: np.ndarray) -> np.ndarray:
        """Solve for each row of (n, S)."""
        return self._plain.solve(right_side)

    def solve_transposed(self, right_side: np.ndarray) -> np.ndarray:
        """Solve with the transpose for each row of (n, S)."""
        return self._transposed.solve(right_side)


def factored(
    state: np.ndarray, ahead: np.ndarray, weight: np.ndarray, num_states: int
) -> Factors | None:
    """Return the factors of I - M, those of an earlier call where they are the same.

    Parameters
    ----------
    state, ahead : int arrays, shape (k,)
        Row and column of each entry of M; entries at one place add up.
    weight : array, shape (k,)
        The entries, >= 0.
    num_states : int
        Rows of M.

    Returns
    -------
    Factors or None
        None where M's spectral radius is not below 1: then sums over paths are infinite.
    """
    digest = hashlib.blake2b(np.int64(num_states).tobytes())
    for array in (state, ahead, weight):
        digest.update(np.ascontiguousarray(array))
    key = digest.digest()
    with _lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    found = _new_factors(state, ahead, weight, num_states)
    with _lock:
        _kept[key] = found
        while len(_kept) > MOST_KEPT:
            _kept.popitem(last=False)
    return found


def _new_factors(
    state: np.ndarray, ahead: np.ndarray, weight: np.ndarray, num_states: int
) -> Factors | None:
    if not np.isfinite(weight).all():
        return None
    moves = coo_matrix((weight, (state, ahead)), shape=(num_states, num_states)).tocsc()
    factors = Factors((identity(num_states, format="csc") - moves).tocsc())
    return factors if factors.are_of_an_m_matrix() else None


_begin()
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_begin)
