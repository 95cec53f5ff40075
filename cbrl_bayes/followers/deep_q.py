"""A follower whose soft action values are a neural network (Equinox), trained with Optax."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

import jax
import jax.numpy as jnp
import optax
from jaxtyping import Array, Float

from cbrl_bayes.errors import import_extra, require_ranges
from cbrl_bayes.followers.oracle import TrajectorySampler
from cbrl_bayes.followers.tabular import explore, sampler_of, softmax_policy
from cbrl_bayes.mdp import MDP, finite_status
from cbrl_bayes.problems import Problem


@dataclass(frozen=True)
class DeepQFollower:
    r"""Deep soft Q-learning: a network, a replay buffer, a slow copy for the targets.

    In every step each walker acts by :math:`\mathrm{softmax}(Q_\theta/\lambda)` (a share of
    actions uniformly), the transitions enter the buffer, and one Adam step fits
    :math:`Q_\theta(s,a)` to :math:`r + \gamma\lambda\log\sum_b e^{Q_{\bar\theta}(s',b)/\lambda}`
    on a random batch; :math:`\bar\theta` follows :math:`\theta` slowly. Source: the regularised
    deep Q-network of Thoma et al. 2024, experiment B, in small.

    Parameters
    ----------
    num_steps : int
        Learning steps per training, >= 1.
    num_walkers, batch_size, buffer_size : int
        Transitions added, used, and kept per step; >= 1.
    width, depth : int
        Hidden units and hidden layers.
    learning_rate : float
        Of Adam, > 0.
    target_rate : float
        Share by which the slow copy follows, in (0, 1].
    exploration : float
        Chance of a uniform action while learning, in [0, 1].
    value_scale : float
        The network's output is multiplied by it; the order of the action values, > 0.
    features_fn : callable, optional
        ``problem -> array (S, F)``: what the network sees of a state. Default: one-hot.
    warm_start : bool
        Go on with network, buffer and walkers at the next training in the same context.
    seed : int
        Of the first weights.

    Raises
    ------
    InvalidInputError
        If a setting is out of range or Equinox (extra ``deep``) is not installed.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.problems import two_state
    >>> problem, oracle = two_state(), DeepQFollower(num_steps=5, width=8)
    >>> sample, memory, status = oracle.train(
    ...     problem, {"bonus": 1.0}, 0.5, problem.default_parameters,
    ...     oracle.initial_memory(problem), key=jax.random.key(0))
    >>> sample(key=jax.random.key(1), num_steps=2, num_rollouts=3).state.shape
    (3, 2)
    """

    runs_on_host: ClassVar[bool] = False
    num_steps: int = 1000
    num_walkers: int = 16
    batch_size: int = 64
    buffer_size: int = 4096
    width: int = 64
    depth: int = 2
    learning_rate: float = 1e-3
    target_rate: float = 0.02
    exploration: float = 0.1
    value_scale: float = 1.0
    features_fn: Callable[[Problem], Float[Array, "state feature"]] | None = None
    warm_start: bool = True
    seed: int = 0

    def __post_init__(self) -> None:
        counts = ("num_steps", "num_walkers", "batch_size", "width", "depth")
        require_ranges(
            self,
            "deep Q settings",
            **dict.fromkeys(counts, ">= 1"),
            buffer_size=f">= {self.num_walkers}",
            target_rate="(0, 1]",
            exploration="[0, 1]",
            learning_rate="> 0",
            value_scale="> 0",
        )
        import_extra("equinox", "deep")

    def initial_memory(self, problem: Problem) -> dict[str, Any]:
        """Return fresh weights, an empty buffer and walkers that have not begun."""
        weights, _ = self._network(problem)
        blank = jnp.zeros(self.buffer_size, jnp.int32)
        return {
            "weights": weights,
            "slow_weights": weights,
            "optimizer": optax.adam(self.learning_rate).init(weights),
            "buffer": (blank, blank, blank),
            "filled": jnp.zeros((), int),
            "state": jnp.zeros(self.num_walkers, jnp.int32),
            "begins": jnp.ones(self.num_walkers, bool),
        }

    def train(
        self,
        problem: Problem,
        incentive: Mapping[str, Array],
        context: Any,
        parameters: Mapping[str, Any],
        memory: dict[str, Any],
        *,
        key: Array,
    ) -> tuple[TrajectorySampler, dict[str, Any], Array]:
        """Learn; see `TrajectoryOracle.train`."""
        mdp = problem.mdp_fn(incentive, context, parameters)
        evaluate = self._evaluator(problem)
        start = memory if self.warm_start else self.initial_memory(problem)
        learned, _ = jax.lax.scan(
            lambda kept, step_key: (self._step(mdp, evaluate, kept, step_key), None),
            start,
            jax.random.split(key, self.num_steps),
        )
        q_values = evaluate(learned["weights"], jnp.arange(problem.num_states))
        policy = softmax_policy(mdp, q_values)
        return sampler_of(mdp, policy), learned, finite_status(mdp, q_values)

    def action_values(
        self, problem: Problem, memory: dict[str, Any]
    ) -> Float[Array, "state action"]:
        """Return what the network holds, to inspect it; estimators see trajectories alone."""
        evaluate = self._evaluator(problem)
        return evaluate(memory["weights"], jnp.arange(problem.num_states))

    def _features(self, problem: Problem) -> Array:
        if self.features_fn is not None:
            return jnp.asarray(self.features_fn(problem), float)
        return jnp.eye(problem.num_states)

    def _network(self, problem: Problem) -> tuple[Any, Any]:
        """Return the first weights, and the rest of the network."""
        eqx = import_extra("equinox", "deep")
        network = eqx.nn.MLP(
            self._features(problem).shape[1],
            problem.num_actions,
            self.width,
            self.depth,
            key=jax.random.key(self.seed),
        )
        return eqx.partition(network, eqx.is_array)

    def _evaluator(self, problem: Problem) -> Callable[[Any, Array], Array]:
        """Return ``(weights, states) -> action values``."""
        features = self._features(problem)
        _, rest = self._network(problem)
        combine = import_extra("equinox", "deep").combine

        def evaluate(weights: Any, state: Array) -> Array:
            return self.value_scale * jax.vmap(combine(weights, rest))(features[state])

        return evaluate

    def _step(self, mdp: MDP, evaluate: Callable, kept: dict[str, Any], key: Array) -> dict:
        walk_key, batch_key = jax.random.split(key)
        kept = self._walk(mdp, evaluate, kept, walk_key)
        filled = jnp.minimum(kept["filled"], self.buffer_size)
        rows = jax.random.randint(batch_key, (self.batch_size,), 0, filled)
        state, action, reached = (column[rows] for column in kept["buffer"])
        values = mdp.soft_maximum(evaluate(kept["slow_weights"], reached), at=reached)
        goes_on = mdp.continues[state]
        target = mdp.reward[state, action] + mdp.discount * goes_on * values

        def loss(weights: Any) -> Array:
            found = jnp.take_along_axis(evaluate(weights, state), action[:, None], axis=1)[:, 0]
            return jnp.mean(((found - target) / self.value_scale) ** 2)

        slopes = jax.grad(loss)(kept["weights"])
        change, optimizer = optax.adam(self.learning_rate).update(slopes, kept["optimizer"])
        weights = optax.apply_updates(kept["weights"], change)
        slow = optax.incremental_update(weights, kept["slow_weights"], self.target_rate)
        return kept | {"weights": weights, "slow_weights": slow, "optimizer": optimizer}

    def _walk(self, mdp: MDP, evaluate: Callable, kept: dict[str, Any], key: Array) -> dict:
        """Let every walker take one step and write it into the ring buffer."""
        state, action, reached, ends = explore(
            mdp,
            kept["state"],
            kept["begins"],
            lambda at: evaluate(kept["weights"], at),
            self.exploration,
            key,
        )
        rows = (kept["filled"] + jnp.arange(self.num_walkers)) % self.buffer_size
        seen = (state, action, reached)
        buffer = tuple(
            column.at[rows].set(new.astype(jnp.int32))
            for column, new in zip(kept["buffer"], seen, strict=True)
        )
        return kept | {
            "buffer": buffer,
            "filled": kept["filled"] + self.num_walkers,
            "state": reached,
            "begins": ends,
        }
