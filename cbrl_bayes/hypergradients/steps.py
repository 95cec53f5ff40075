"""The steps of an ascent: from an estimate at a point to the next point."""

from dataclasses import dataclass
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array

from cbrl_bayes.hypergradients.contract import EstimateInfo
from cbrl_bayes.hypergradients.trace import AscentTrace
from cbrl_bayes.mdp import SolveStatus


class Walk(NamedTuple):
    """Where an ascent is."""

    point: Any
    state: Any  # of the estimator
    optimizer: Any
    best: Any  # of the points of this stage
    best_objective: Array
    best_gradient: Any
    tail: Any  # mean of the stage's last points so far
    key: Array


class StageFactors(NamedTuple):
    """What the followers' temperatures and the incentive's price are multiplied by in a stage."""

    heat: Array | float
    price: Array | float


def chosen(condition: Array, new: Any, old: Any) -> Any:
    """Return ``new`` where the condition holds, else ``old``, leaf by leaf."""
    return jax.tree.map(lambda one, other: jnp.where(condition, one, other), new, old)


@dataclass(frozen=True)
class Steps:
    """How an ascent moves.

    Parameters
    ----------
    optimizer : optax.GradientTransformation
    scale : pytree
        What counts as one step of each unconstrained number.
    gradient_unit : float
        What gradients are measured by.
    num_steps, total_steps : int
        Of one stage, and of the ascent.
    noise : float
        As `Ascent.gradient_noise`.
    is_exact : bool
        Whether the estimator is.
    """

    optimizer: optax.GradientTransformation
    scale: Any
    gradient_unit: float
    num_steps: int
    total_steps: int
    noise: float
    is_exact: bool

    def set_out(self, start: Any, state: Any, key: Array) -> "Walk":
        """Return a walk before its first step."""
        zero = jax.tree.map(jnp.zeros_like, start)
        nothing = jnp.array(-jnp.inf)
        return Walk(start, state, self.optimizer.init(start), start, nothing, zero, zero, key)

    @property
    def before_last_stage(self) -> int:
        """Steps of all stages but the last."""
        return self.total_steps - self.num_steps

    def after(
        self,
        walk: "Walk",
        estimate: tuple[Any, Any, EstimateInfo],
        *,
        number: Any,
        passed: Any,
        factors: StageFactors,
        key: Array,
    ) -> tuple["Walk", AscentTrace]:
        """Return the walk after step ``number`` of a stage, and the step's record.

        ``estimate`` was made where the walk is (`Estimator.estimate`), at the stage's ``factors``;
        ``passed`` steps of the ascent were made before.
        """
        gradient, state, info = estimate
        norm = optax.tree.norm(gradient)
        # One estimate that is not finite must not spoil all later iterates.
        fine = jnp.isfinite(norm)
        if self.is_exact:
            fine &= jnp.isfinite(info.objective) & (info.status == SolveStatus.CONVERGED)
        better = fine & (info.objective > walk.best_objective)
        change, stepped = self._change(gradient, walk, key, passed)
        moved = chosen(fine, optax.apply_updates(walk.point, change), self._back(walk))
        change = jax.tree.map(jnp.subtract, moved, walk.point)
        tail_steps = max(1, self.num_steps // 5)
        share = (number >= self.num_steps - tail_steps) / tail_steps
        record = AscentTrace(
            objective=info.objective,
            gradient_norm=norm,
            step_norm=optax.tree.norm(change),
            temperature_factor=jnp.asarray(factors.heat),
            price_factor=jnp.asarray(factors.price),
            solve_status=info.status,
            follower_steps=info.follower_steps,
            truncated_share=info.truncated_share,
            prior_share=info.prior_share,
        )
        after = Walk(
            point=moved,
            state=state,
            optimizer=chosen(fine, stepped, walk.optimizer),
            best=chosen(better, walk.point, walk.best),
            best_gradient=chosen(better, gradient, walk.best_gradient),
            best_objective=jnp.where(better, info.objective, walk.best_objective),
            tail=jax.tree.map(lambda mean, leaf: mean + share * leaf, walk.tail, moved),
            key=walk.key,
        )
        return after, record

    def _change(self, gradient: Any, walk: "Walk", key: Array, passed: Any) -> tuple[Any, Any]:
        """Return the optimiser's move, and its state after it."""
        scale, unit = self.scale, self.gradient_unit
        noisy = self._add_noise(
            jax.tree.map(lambda leaf, one: leaf * (one / unit), gradient, scale), key, passed
        )
        descent = jax.tree.map(jnp.negative, noisy)
        standard = jax.tree.map(jnp.divide, walk.point, scale)
        change, stepped = self.optimizer.update(descent, walk.optimizer, standard)
        return jax.tree.map(jnp.multiply, change, scale), stepped

    def _back(self, walk: "Walk") -> Any:
        """Return where to go from a point that cannot be used: half way back to the best one."""
        known = jnp.isfinite(walk.best_objective) & self.is_exact
        half_way = jax.tree.map(lambda one, other: 0.5 * (one + other), walk.point, walk.best)
        return chosen(known, half_way, walk.point)

    def _add_noise(self, gradient: Any, key: Array, number: Array) -> Any:
        if self.noise == 0.0:
            return gradient
        norm = optax.tree.norm(gradient)
        leaves, tree = jax.tree.flatten(gradient)
        size = sum(leaf.size for leaf in leaves)
        remaining = 1.0 - number / self.total_steps
        scale = self.noise * remaining * norm / jnp.sqrt(size)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            leaf + scale * jax.random.normal(k, leaf.shape)
            for leaf, k in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(tree, noisy)
