"""Zeroth-order: one-sided differences of the leader's own outcome along random directions."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients.contract import EstimateInfo, FollowerAccess
from cbrl_bayes.hypergradients.learned_crowd import in_crowd
from cbrl_bayes.hypergradients.pairs import (
    choose_contexts,
    contexts_change,
    leader_view,
    map_in_order,
    memory_per_pair,
    over_pairs,
    walkers_per_pair,
)
from cbrl_bayes.hypergradients.rollout_terms import Truncation, was_cut, worth_of
from cbrl_bayes.problems import Problem, leader_outcome


@dataclass(frozen=True)
class ZerothOrder:
    r"""Estimate :math:`(F(x + uZ) - F(x))\,Z/u` with standard normal directions Z.

    The smoothing radius falls with the steps, :math:`u = C/t`. Contexts, training and rollout
    noise are the same on both sides. Source: the baseline of Thoma et al. 2024, section 5.

    Needs: what the leader earns, nothing else; not even how the incentive enters. Cost per step:
    ``num_directions + 1`` evaluations. Bias: of order u (F smoothed), and rollouts longer than
    ``max_steps``. The variance grows with the number d of parameters, and with simulated
    evaluations also as 1/u^2. A general ``objective_fn`` is taken with ``num_rollouts=None``
    only. Choose it only where the leader cannot say how its incentive enters reward and
    transitions.

    Parameters
    ----------
    radius : float
        C > 0, in units of the problem's scale (`Problem.scale`), so that the unit of money does
        not matter.
    min_radius : float
        u does not fall below it; > 0.
    num_directions : int
        Directions averaged per step, >= 1.
    num_rollouts : int or None
        Rollouts per evaluation, over all contexts and followers; None for the exact objective
        (which needs the model).
    max_steps : int
        Longest rollout.
    truncation_exponent : float
        kappa in [0, 1], as in `HPGD`.
    num_contexts : int, optional
        Contexts drawn per step (simulated evaluations). Default: all, with their probabilities.
    oracle : TrajectoryOracle
        The follower, for simulated evaluations.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, estimator = two_state(), ZerothOrder(num_rollouts=None, num_directions=500)
    >>> x = problem.incentive.initial
    >>> state = estimator.init(problem, x, key=jax.random.key(0))
    >>> gradient, state, info = estimator.estimate(
    ...     problem, x, problem.default_parameters, state, key=jax.random.key(1))
    >>> bool(abs(gradient["bonus"] - 0.369) < 0.1)
    True
    """

    is_exact: ClassVar[bool] = False
    radius: float = 0.5
    min_radius: float = 1e-3
    num_directions: int = 1
    num_rollouts: int | None = 40
    max_steps: int = 200
    truncation_exponent: float = 0.5
    num_contexts: int | None = None
    oracle: TrajectoryOracle = field(default_factory=ExactFollower)

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "zeroth-order settings",
            radius="> 0",
            min_radius="> 0",
            num_directions=">= 1",
            num_rollouts=">= 1 or None",
            max_steps=">= 1",
            num_contexts=">= 1 or None",
            truncation_exponent="[0, 1]",
        )

    @property
    def access(self) -> FollowerAccess:
        """Sees outcomes of trajectories, or the exact objective."""
        exact = self.num_rollouts is None
        return FollowerAccess.MODEL if exact else FollowerAccess.TRAJECTORIES

    @property
    def runs_on_host(self) -> bool:
        """As the oracle, where there is one."""
        return self.num_rollouts is not None and self.oracle.runs_on_host

    def init(self, problem: Problem, unconstrained: Any, *, key: Array) -> Any:
        """Return the followers' memories, the key of sampled contexts, and step 1."""
        if self.num_rollouts is None:  # soft values, for warm starts
            memory = memory_per_pair(problem, None, jnp.zeros(problem.num_states))
        else:
            follower = self.oracle.initial_memory(problem)
            memory = memory_per_pair(problem, self.num_contexts, follower)
        return memory, key, jnp.ones(())

    def estimate(
        self,
        problem: Problem,
        unconstrained: Any,
        parameters: Mapping[str, Any],
        state: Any,
        *,
        key: Array,
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the mean over the directions; see `Estimator.estimate`."""
        memory, context_key, step = state
        radius = jnp.maximum(self.radius / step, self.min_radius)
        scale = jnp.asarray(problem.scale.incentive)
        noise_key, direction_key = jax.random.split(key)
        space = problem.incentive
        flat = space.flatten(unconstrained)

        def worth(point: Array, kept: Any) -> tuple[Any, Any, EstimateInfo]:
            if self.num_rollouts is None:
                outcome = leader_outcome(
                    problem,
                    space.unflatten(point),
                    parameters,
                    key=context_key,
                    initial_values=kept,
                )
                info = EstimateInfo.unsimulated(outcome.objective, outcome.status)
                return (), outcome.values, info
            return self._simulate(problem, space.unflatten(point), parameters, kept, noise_key)

        # Both sides train from the same memory, or learning would pass for a slope.
        _, after, here = worth(flat, memory)

        def along(one_key: Array) -> tuple[Array, EstimateInfo]:
            direction = jax.random.normal(one_key, flat.shape)
            _, _, there = worth(flat + radius * scale * direction, memory)
            return (there.objective - here.objective) / (radius * scale) * direction, there

        keys = jax.random.split(direction_key, self.num_directions)
        slopes, there = map_in_order(along, keys, on_host=self.runs_on_host)
        info = EstimateInfo(
            here.objective,
            jnp.maximum(here.status, there.status.max()),
            here.follower_steps + there.follower_steps.sum(),
            jnp.maximum(here.truncated_share, there.truncated_share.max()),
        )
        return space.unflatten(slopes.mean(0)), (after, context_key, step + 1.0), info

    def _simulate(
        self, problem: Problem, unconstrained: Any, parameters: Mapping, memory: Any, key: Array
    ) -> tuple[Any, Any, EstimateInfo]:
        """Return the mean discounted return of the leader over rollouts."""
        context_key, work_key = jax.random.split(key)
        parameters = in_crowd(problem, unconstrained, parameters, self.oracle, key=context_key)
        contexts = choose_contexts(problem, parameters, self.num_contexts, context_key)
        if contexts_change(problem, self.num_contexts):
            memory, _, _ = self.init(problem, unconstrained, key=context_key)
        num_walkers = walkers_per_pair(problem, self.num_rollouts or 1, self.num_contexts)
        walk = Truncation.of(problem.leader_discount, self.truncation_exponent)
        weights = walk.weights(problem.leader_discount, jnp.arange(self.max_steps + 1))

        def one_pair(context: Any, one: Mapping, kept: Any, pair_key: Array) -> tuple:
            train_key, limit_key, walk_key = jax.random.split(pair_key, 3)
            limit = walk.limits(limit_key, num_walkers)
            sample, kept, status = self.oracle.train(
                problem,
                problem.incentive.transform(unconstrained),
                context,
                one,
                kept,
                key=train_key,
            )
            walked = sample(
                key=walk_key, num_steps=self.max_steps, num_rollouts=num_walkers, step_limit=limit
            )
            mdp, reward = leader_view(problem, context, one)(unconstrained)
            discount = problem.leader_discount
            worth = worth_of(walked, weights[:-1], weights[-1], mdp, reward, discount, limit)
            cut = was_cut(walked, limit).mean()
            info = EstimateInfo(worth.returns.mean(), status, walked.active.sum(), cut)
            return (), kept, info

        return over_pairs(
            problem, parameters, contexts, memory, one_pair, key=work_key, on_host=self.runs_on_host
        )
