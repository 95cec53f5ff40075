"""Variables of a model from plain functions that move by a Markov chain of their own."""

import warnings
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.errors import InvalidInputError, as_numbers, import_extra
from cbrl_bayes.problems.grids import ROUNDING, Nodes, names_of, numbers_of, short
from cbrl_bayes.problems.successors import first_equal


@dataclass(frozen=True, eq=False)
class Chain(Nodes):
    """A part of the state that moves by a chain of its own, whatever anybody does.

    Only the moves that can happen are listed: those with a probability above 0 in ``matrix``. (All
    are, if the matrix is a function.)

    Parameters
    ----------
    nodes : sequence of numbers or of str
        As of a `Grid`; numbers need not rise.
    matrix : array, shape (N, N), or callable
        Probability of each next node (column) from each node (row). A function names what it
        needs: incentive, context, parameters, period.
    unit : str
        Unit of the numbers.

    Examples
    --------
    >>> wage = Chain([10.0, 20.0], [[0.9, 0.1], [0.3, 0.7]], unit="EUR per hour")
    >>> wage.stationary(jnp.asarray(wage.matrix)).round(3).tolist()
    [0.75, 0.25]
    """

    nodes: Any
    matrix: Any
    unit: str = ""

    def __post_init__(self) -> None:
        nodes = names_of(self.nodes)
        object.__setattr__(
            self, "nodes", numbers_of("nodes of a chain", self.nodes) if nodes is None else nodes
        )
        if callable(self.matrix):
            return
        matrix = as_numbers("matrix of a chain", self.matrix)
        if (
            matrix.shape != (self.size, self.size)
            or not (matrix >= 0.0).all()
            or (abs(matrix.sum(1) - 1.0) > ROUNDING).any()
        ):
            raise InvalidInputError(
                "matrix of a chain is no law of the next node",
                received=short(matrix),
                accepted=f"shape {(self.size, self.size)}, numbers >= 0, rows that sum to one",
            )
        object.__setattr__(self, "matrix", matrix)

    @cached_property
    def moves(self) -> Int[np.ndarray, "node move"]:
        """The nodes that can follow each node; rows with fewer than others repeat one."""
        if callable(self.matrix):
            return np.tile(np.arange(self.size), (self.size, 1))
        follows = self.matrix > 0.0
        order = np.argsort(~follows, axis=1, kind="stable")[:, : follows.sum(1).max()]
        return np.where(np.take_along_axis(follows, order, 1), order, order[:, :1])

    def chances(self, matrix: Float[Array, "node node"]) -> Float[Array, "node move"]:
        """Return the probabilities of `moves`, 0 for those that only repeat one."""
        repeated = first_equal(self.moves) != np.arange(self.moves.shape[1])
        return jnp.where(repeated, 0.0, jnp.take_along_axis(matrix, jnp.asarray(self.moves), 1))

    def law_at(self, value: Array) -> Float[Array, " node"]:
        """Return the law that stands for one number; NaN if none does."""
        found = jnp.abs(self.numbers - value) <= self.slack
        return jnp.where(found.any(), found.astype(float), jnp.nan)

    def stationary(self, matrix: Float[Array, "node node"]) -> Float[Array, " node"]:
        """Return the law of a node after very many moves, where there is one."""
        return jnp.linalg.solve((jnp.eye(self.size) - matrix + 1.0).T, jnp.ones(self.size))

    @classmethod
    def rouwenhorst(
        cls, num_nodes: int, *, persistence: float, spread: float, constant: float = 0.0
    ) -> "Chain":
        r"""Put :math:`y' = \mu + \rho y + \sigma\varepsilon` on nodes by Rouwenhorst's method.

        It keeps mean, variance and autocorrelation, also where rho is near 1. Needs QuantEcon.py:
        ``pip install 'cbrl-bayes[chains]'``.

        Parameters
        ----------
        num_nodes : int
            >= 2.
        persistence : float
            rho, in (-1, 1).
        spread : float
            sigma, standard deviation of what is new in a period; > 0.
        constant : float
            mu.

        Returns
        -------
        Chain

        References
        ----------
        K. Kopecky and R. Suen, Finite state Markov-chain approximations to highly persistent
        processes, Review of Economic Dynamics 13 (2010) 701-714.
        """
        return cls._of_quantecon("rouwenhorst", num_nodes, persistence, spread, constant)

    @classmethod
    def tauchen(
        cls,
        num_nodes: int,
        *,
        persistence: float,
        spread: float,
        constant: float = 0.0,
        num_deviations: int = 3,
    ) -> "Chain":
        """Put the process of `rouwenhorst` on nodes by Tauchen's (1986) method.

        Nodes reach ``num_deviations`` standard deviations of the process to each side. Other
        parameters as there.
        """
        return cls._of_quantecon(
            "tauchen", num_nodes, persistence, spread, constant, n_std=num_deviations
        )

    @classmethod
    def _of_quantecon(cls, method: str, *given: Any, **more: Any) -> "Chain":
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="The API of", category=UserWarning)
            found = getattr(import_extra("quantecon", "chains"), method)(*given, **more)
        return cls(found.state_values, found.P)
