"""The posterior of RC and theta11 by quadrature on a grid, the increments' law held fixed.

Two parameters are few enough to integrate over. The grid checks what draws and regressions
say, and gives the posterior of any part of the fleet without fitting again. It covers the
logarithms of both parameters. Behaviour tells RC and theta11 apart only weakly, so the mass lies
along a ridge: quantities are computed on coarse nodes that follow it, and carried to the fine
grid by cubic splines.
"""

from dataclasses import dataclass
from functools import cached_property

import numpy as np
import xarray as xr
from demand import leader_accounts, log_choice
from scipy.interpolate import CubicSpline, RectBivariateSpline

from cbrl_bayes.problems import Problem

__all__ = ["Plane", "choice_counts", "edge_mass", "grid_interval", "nested_sampling"]

LOWEST, HIGHEST = np.log([4.0, 0.2]), np.log([80.0, 60.0])
"""RC and theta11, units of the noise scale (per 1,000 bins)."""
FINE = (121, 241)
SLOPE = 1.6
"""Of log theta11 along the ridge, against log RC."""
ACROSS = np.log([0.4, 12.0])
"""Range of theta11 at RC = 10; elsewhere it is shifted along the ridge."""
NODES = (27, 25)


def choice_counts(data: xr.Dataset) -> np.ndarray:
    """Return how often each bus kept or replaced in each bin, shape (buses, 2, 90)."""
    counts = np.zeros((data.sizes["episode"], 2, 90))
    bus, month = np.nonzero(data["choice_observed"].values)
    chosen = data["action"].values[bus, month], data["state"].values[bus, month]
    np.add.at(counts, (bus, *chosen), 1.0)
    return counts


@dataclass(frozen=True)
class Plane:
    """Log-policies and net benefits over the plane of (log RC, log theta11).

    Attributes
    ----------
    log_choice : array, shape (27, 25, 2, 90)
        Log-probability of keeping and replacing on coarse nodes.
    worth : array, shape (options, 27, 25)
        The leader's objective on coarse nodes.
    log_prior : array, shape (121, 241)
        Log-density of the logarithms on the fine grid, up to a constant.
    net_benefit : array, shape (121, 241, options)
        The leader's objective on the fine grid.
    """

    log_choice: np.ndarray
    worth: np.ndarray
    log_prior: np.ndarray
    net_benefit: np.ndarray

    @staticmethod
    def build(
        problem: Problem,
        increments: np.ndarray,
        priors: dict[str, tuple[float, float]],
        nodes: np.ndarray,
        options: np.ndarray,
    ) -> "Plane":
        """Solve on the coarse nodes.

        Parameters
        ----------
        problem : Problem
            Whose objective counts.
        increments : array
            Law of the monthly increment.
        priors : mapping
            Name -> mean and standard deviation of the normal prior of the logarithm.
        nodes, options : arrays
            Subsidies at which the objective is computed, and to which splines carry it.
        """
        along, across = np.meshgrid(*_node_axes(), indexing="ij")
        draws = {
            "RC": np.exp(along.ravel()),
            "theta11": np.exp(_log_theta11(along, across).ravel()),
            "increment_probability": np.broadcast_to(increments, (along.size, len(increments))),
        }
        present = np.swapaxes(log_choice(np.ones(1), draws)[0], -1, -2)
        present = present.reshape(*NODES, *present.shape[1:])
        worth = -sum(leader_accounts(problem, nodes, draws))
        worth = CubicSpline(nodes, worth)(options).reshape(len(options), *NODES)
        grid = np.meshgrid(*axes(), indexing="ij")
        fine = np.stack([_carry(layer, *grid) for layer in worth], axis=-1)
        log_prior = sum(
            -(((axis - mean) / scale) ** 2) / 2
            for axis, (mean, scale) in zip(grid, (priors["RC"], priors["theta11"]), strict=True)
        )
        return Plane(present, worth, log_prior, fine)

    def worth_at(self, RC: np.ndarray, theta11: np.ndarray) -> np.ndarray:
        """Return the net benefits that the splines give at any points, (points, options)."""
        return np.stack([_carry(layer, np.log(RC), np.log(theta11)) for layer in self.worth], -1)

    @cached_property
    def best(self) -> np.ndarray:
        """The net benefit of each point's own best option, shape (121, 241)."""
        return self.net_benefit.max(-1)

    def weights(self, counts: np.ndarray) -> np.ndarray:
        """Return posterior probabilities on the fine grid from choice counts (2, 90)."""
        log_likelihood = np.einsum("ijas,as->ij", self.log_choice, counts)
        grid = np.meshgrid(*axes(), indexing="ij")
        near = np.abs(_across(*grid) - ACROSS.mean()) <= np.ptp(ACROSS) / 2
        log_density = np.where(near, self.log_prior + _carry(log_likelihood, *grid), -np.inf)
        mass = np.exp(log_density - log_density.max())
        return mass / mass.sum()

    def expected(self, weights: np.ndarray) -> np.ndarray:
        """Return the expected net benefit of every option, shape (options,)."""
        return weights.ravel() @ self.net_benefit.reshape(weights.size, -1)

    def perfect(self, weights: np.ndarray) -> float:
        """Return the EVPI: the expected regret of the common option."""
        return float((weights * self.best).sum() - self.expected(weights).max())

    def partial(self, weights: np.ndarray, *, axis: int) -> float:
        """Return the EVPPI on RC (axis 0) or theta11 (axis 1)."""
        given = (weights[..., None] * self.net_benefit).sum(1 - axis)
        return float(given.max(-1).sum() - self.expected(weights).max())


def axes() -> list[np.ndarray]:
    """Return the two axes of the fine grid, log RC and log theta11."""
    return [np.linspace(*ends) for ends in zip(LOWEST, HIGHEST, FINE, strict=True)]


def grid_interval(weights: np.ndarray, *, axis: int, prob: float = 0.9) -> tuple[float, float]:
    """Return the equal-tailed interval of RC (axis 0) or theta11 (axis 1)."""
    marginal = weights.sum(1 - axis)
    # Half of a point's mass lies below it.
    below = np.cumsum(marginal) - marginal / 2
    tail = (1.0 - prob) / 2
    low, high = np.exp(np.interp([tail, 1.0 - tail], below, axes()[axis]))
    return float(low), float(high)


def edge_mass(weights: np.ndarray) -> float:
    """Return the probability next to the rim of what is covered; it should be nothing."""
    along, theta11 = np.meshgrid(*axes(), indexing="ij")
    across = _across(along, theta11)
    rim = 0.05
    inner = (np.abs(across - ACROSS.mean()) < np.ptp(ACROSS) * (0.5 - rim)) & (
        np.abs(along - along.mean()) < np.ptp(along) * (0.5 - rim)
    )
    return float(weights[~inner].sum())


def nested_sampling(
    plane: Plane, weights: np.ndarray, *, num_outer: int, num_inner: int
) -> tuple[float, float]:
    """Return the EVPPI on RC by sampling theta11 given each sampled RC, with its error.

    The maximum over noisy inner means makes it too large; the bias falls as 1 / num_inner.
    """
    generator = np.random.default_rng(0)
    marginal = weights.sum(1)
    best = int(plane.expected(weights).argmax())
    gains = []
    for row in generator.choice(len(marginal), size=num_outer, p=marginal):
        given = generator.multinomial(num_inner, weights[row] / marginal[row]) / num_inner
        worth = given @ plane.net_benefit[row]
        gains.append(worth.max() - worth[best])
    return float(np.mean(gains)), float(np.std(gains, ddof=1) / np.sqrt(num_outer))


def _node_axes() -> tuple[np.ndarray, np.ndarray]:
    return (
        np.linspace(LOWEST[0], HIGHEST[0], NODES[0]),
        np.linspace(ACROSS[0], ACROSS[1], NODES[1]),
    )


def _log_theta11(along: np.ndarray, across: np.ndarray) -> np.ndarray:
    return across + SLOPE * (along - np.log(10.0))


def _across(log_RC: np.ndarray, log_theta11: np.ndarray) -> np.ndarray:
    return log_theta11 - SLOPE * (log_RC - np.log(10.0))


def _carry(layer: np.ndarray, log_RC: np.ndarray, log_theta11: np.ndarray) -> np.ndarray:
    """Interpolate from the nodes; beyond them the value at the rim (it has no weight)."""
    return RectBivariateSpline(*_node_axes(), layer).ev(log_RC, _across(log_RC, log_theta11))
