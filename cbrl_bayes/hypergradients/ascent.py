"""The leader's ascent: any estimator, any Optax optimiser, continuation, noise and restarts."""

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import FollowerError, InvalidInputError, explain
from cbrl_bayes.hypergradients.contract import Estimator
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import Problem
from cbrl_bayes.status import FAILED_ASCENTS, AscentStatus

__all__ = [
    "FAILED_ASCENTS",
    "Ascent",
    "AscentProgram",
    "AscentResult",
    "AscentStatus",
    "AscentTrace",
]


@dataclass(frozen=True)
class Ascent:
    r"""Settings of one ascent.

    Parameters
    ----------
    num_steps : int
        Steps per stage, >= 1.
    learning_rate : float
        Of the default optimiser, Adam with a cosine decay to a hundredth over each stage; > 0.
    optimizer : optax.GradientTransformation, optional
        Any other optimiser; it minimises, so it is handed minus the hypergradient.
    clip_norm : float, optional
        Gradients longer than this are shortened to it; None for no clipping.
    continuation : tuple of float
        Factors on every follower's temperature (lambda), one stage each, warm-started; the last
        must be 1. High temperatures smooth the leader's landscape: with (10, 3, 1) many local
        optima of the target temperature are passed by.
    gradient_noise : float
        Standard deviation of normal noise added to each coordinate of the gradient, relative to
        the gradient's root mean square; falls linearly to zero over the run.
    gradient_tolerance : float
        A run counts as converged when the last gradient norm is below
        ``gradient_tolerance * |objective|`` or a millionth of the run's largest.

    Examples
    --------
    >>> Ascent(num_steps=50, continuation=(4.0, 2.0, 1.0)).total_steps
    150
    """

    num_steps: int = 300
    learning_rate: float = 0.1
    optimizer: optax.GradientTransformation | None = None
    clip_norm: float | None = 1.0
    continuation: tuple[float, ...] = (1.0,)
    gradient_noise: float = 0.0
    gradient_tolerance: float = 1e-3

    def __post_init__(self) -> None:
        factors = np.asarray(self.continuation, float)
        fits = factors.size and (factors > 0).all() and factors[-1] == 1.0
        clip = 1.0 if self.clip_norm is None else self.clip_norm
        numbers = (self.learning_rate, self.gradient_tolerance, clip)
        if not fits or self.num_steps < 1 or min(numbers) <= 0 or self.gradient_noise < 0:
            raise InvalidInputError(
                explain(
                    "ascent settings are out of range",
                    received=self,
                    accepted="num_steps >= 1, positive rates, temperature factors > 0 of "
                    "which the last is 1, gradient_noise >= 0",
                )
            )

    @property
    def total_steps(self) -> int:
        """Steps over all stages."""
        return self.num_steps * len(self.continuation)

    def build_optimizer(self) -> optax.GradientTransformation:
        """Return the optimiser, gradient clipping included."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.num_steps, alpha=0.01)
        step = self.optimizer or optax.adam(schedule)
        return (
            step
            if self.clip_norm is None
            else optax.chain(optax.clip_by_global_norm(self.clip_norm), step)
        )


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AscentTrace:
    """Record of an ascent, one entry per step.

    Attributes
    ----------
    objective : array, shape (T,)
        Objective before the step, exact or estimated, at the stage's temperature.
    gradient_norm, step_norm : arrays, shape (T,)
        Euclidean norms in the unconstrained space, before clipping and after the optimiser.
    temperature_factor : array, shape (T,)
        Factor of the stage.
    solve_status : int array, shape (T,)
        Worst `SolveStatus` of the followers.
    follower_steps : int array, shape (T,)
        Environment steps the followers took for the estimate; 0 where nothing is simulated.
    truncated_share : array, shape (T,)
        Share of rollouts that the estimator's step limit cut short; they bias the estimate.
    """

    objective: Float[Array, " step"]
    gradient_norm: Float[Array, " step"]
    step_norm: Float[Array, " step"]
    temperature_factor: Float[Array, " step"]
    solve_status: Int[Array, " step"]
    follower_steps: Int[Array, " step"]
    truncated_share: Float[Array, " step"]


@jax.tree_util.register_dataclass
@dataclass(frozen=True)
class AscentResult:
    """Where an ascent led.

    Attributes
    ----------
    unconstrained : pytree
        The best iterate at the target temperature for an exact estimator; the mean of the last
        fifth of the iterates for a stochastic one, whose single objectives are noisy.
    objective : float
        The estimator's objective there (exact) or its mean over that fifth (stochastic).
    trace : AscentTrace
    status : AscentStatus
    """

    unconstrained: Any
    objective: float
    trace: AscentTrace
    status: AscentStatus

    @property
    def worth(self) -> float:
        """The objective; -inf where it cannot be relied on."""
        return -np.inf if self.status in FAILED_ASCENTS else self.objective


@dataclass
class AscentProgram:
    """A compiled ascent of one problem with one estimator, to be run for many parameter draws.

    Parameters
    ----------
    problem : Problem
    estimator : Estimator
    settings : Ascent

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.hypergradients import Exact
    >>> from cbrl_bayes.problems import two_state
    >>> problem = two_state(costs=(1.0,), context_probability=(1.0,))
    >>> program = AscentProgram(problem, Exact(), Ascent(num_steps=200))
    >>> result = program.run(problem.default_parameters, key=jax.random.key(0))
    >>> round(float(result.unconstrained["bonus"]), 2), result.status.name
    (1.2, 'CONVERGED')
    """

    problem: Problem
    estimator: Estimator
    settings: Ascent = field(default_factory=Ascent)

    def __post_init__(self) -> None:
        self._optimizer = self.settings.build_optimizer()
        # A follower outside compiled programs is called from Python, step by step.
        on_host = self.estimator.runs_on_host
        self._begin = self._first_carry if on_host else jax.jit(self._first_carry)
        self._advance = self._stage_on_host if on_host else self._stage_compiled
        self._stage_program = jax.jit(self._stage)
        self._judge = jax.jit(self._verdict)

    def run(
        self,
        parameters: Mapping[str, Any],
        *,
        key: Key[Array, ""],
        start: Any = None,
        context_key: Key[Array, ""] | None = None,
        on_step: Callable[[int], None] | None = None,
    ) -> AscentResult:
        """Ascend from ``start``.

        Parameters
        ----------
        parameters : mapping
            All parameters, e.g. one posterior draw.
        key : typed key
        start : pytree, optional
            Unconstrained start. Default: a random one of the incentive space's own scale.
        context_key : typed key, optional
            For the sample of contexts, where there is one; ascents to be compared share it.
        on_step : callable, optional
            Called with the number of steps just finished, for progress bars.

        Returns
        -------
        AscentResult

        Raises
        ------
        FollowerError
            If an outside follower fails. Its ``partial`` is an AscentResult that ends where the
            ascent was (None if it had not made a step): go on with ``start=partial.unconstrained``.
        """
        start_key, run_key = jax.random.split(key)
        if start is None:
            start = self.problem.incentive.random_start(start_key)
        carry = self._begin(start, run_key, run_key if context_key is None else context_key)
        pieces = []
        for stage, factor in enumerate(self.settings.continuation):
            try:
                carry, trace = self._advance(carry, parameters, jnp.asarray(factor), stage, on_step)
            except _Interrupted as stop:
                pieces.append(stop.trace)
                stop.error.partial = self._partial(stop.walk, pieces)
                raise stop.error from stop.error.__cause__
            pieces.append(jax.tree.map(np.asarray, trace))
        trace = jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)
        return self._result(carry, trace)

    def _first_carry(self, start: Any, key: Array, context_key: Array) -> tuple:
        step_key, _ = jax.random.split(key)
        state = self.estimator.init(self.problem, start, key=context_key)
        return start, state, start, jnp.array(-jnp.inf), step_key

    def _stage(
        self, carry: tuple, parameters: Mapping[str, Any], factor: Array, stage: Array
    ) -> tuple[tuple, AscentTrace]:
        first, key, stage_key = self._enter_stage(carry)

        def step(walk: tuple, number: Array) -> tuple[tuple, tuple]:
            return self._step(walk, number, parameters, factor, stage, stage_key)

        walk, trace = jax.lax.scan(step, first, jnp.arange(self.settings.num_steps))
        return self._leave_stage(walk, key), AscentTrace(*trace)

    def _stage_compiled(
        self,
        carry: tuple,
        parameters: Mapping[str, Any],
        factor: Array,
        stage: int,
        on_step: Callable[[int], None] | None,
    ) -> tuple[tuple, AscentTrace]:
        found = self._stage_program(carry, parameters, factor, stage)
        if on_step is not None:
            on_step(self.settings.num_steps)
        return found

    def _stage_on_host(
        self,
        carry: tuple,
        parameters: Mapping[str, Any],
        factor: Array,
        stage: int,
        on_step: Callable[[int], None] | None,
    ) -> tuple[tuple, AscentTrace]:
        walk, key, stage_key = self._enter_stage(carry)
        records: list[tuple] = []
        for number in range(self.settings.num_steps):
            try:
                walk, record = self._step(
                    walk, jnp.asarray(number), parameters, factor, jnp.asarray(stage), stage_key
                )
            except FollowerError as error:
                raise _Interrupted(error, walk, _stacked(records)) from error
            records.append(record)
            if on_step is not None:
                on_step(1)
        return self._leave_stage(walk, key), _stacked(records)

    def _enter_stage(self, carry: tuple) -> tuple[tuple, Array, Array]:
        start, state, _, _, key = carry
        key, stage_key = jax.random.split(key)
        zero = jax.tree.map(jnp.zeros_like, start)
        first = (start, self._optimizer.init(start), state, start, jnp.array(-jnp.inf), zero)
        return first, key, stage_key

    def _leave_stage(self, walk: tuple, key: Array) -> tuple:
        last, _, state, best, best_objective, tail = walk
        answer = best if self.estimator.is_exact else tail
        next_start = best if self.estimator.is_exact else last
        return next_start, state, answer, best_objective, key

    def _partial(self, walk: tuple, pieces: list[AscentTrace]) -> "AscentResult | None":
        """Return where an interrupted ascent was, with the trace so far."""
        trace = jax.tree.map(lambda *parts: np.concatenate(parts), *pieces)
        if not len(trace.objective):
            return None
        return AscentResult(
            jax.tree.map(np.asarray, walk[0]),
            float(trace.objective[-1]),
            trace,
            AscentStatus.INTERRUPTED,
        )

    def _step(
        self,
        walk: tuple,
        number: Array,
        parameters: Mapping[str, Any],
        factor: Array,
        stage: Array,
        stage_key: Array,
    ) -> tuple[tuple, tuple]:
        x, optimizer_state, state, best, best_objective, tail = walk
        estimate_key, noise_key = jax.random.split(jax.random.fold_in(stage_key, number))
        # A follower outside compiled programs has a temperature of its own: it refuses the factor.
        heated, rest = dict(parameters), jnp.asarray(factor)
        if not self.estimator.runs_on_host:
            heated, rest = self.problem.heated(parameters, factor)
        gradient, state, info = self.estimator.estimate(
            self.problem, x, heated, state, key=estimate_key, temperature_factor=rest
        )
        norm = optax.tree.norm(gradient)
        better = info.objective > best_objective
        best = jax.tree.map(lambda new, old: jnp.where(better, new, old), x, best)
        noisy = self._add_noise(gradient, norm, noise_key, stage * self.settings.num_steps + number)
        descent = jax.tree.map(lambda leaf: -leaf, noisy)
        change, stepped = self._optimizer.update(descent, optimizer_state, x)
        # One estimate that is not finite must not spoil all later iterates: stay, and say so.
        finite = jnp.isfinite(norm)
        optimizer_state = jax.tree.map(
            lambda new, old: jnp.where(finite, new, old), stepped, optimizer_state
        )
        change = jax.tree.map(lambda leaf: jnp.where(finite, leaf, 0.0), change)
        moved = optax.apply_updates(x, change)
        tail_steps = max(1, self.settings.num_steps // 5)
        share = (number >= self.settings.num_steps - tail_steps) / tail_steps
        tail = jax.tree.map(lambda mean, leaf: mean + share * leaf, tail, moved)
        record = (
            info.objective,
            norm,
            optax.tree.norm(change),
            factor,
            info.status,
            info.follower_steps,
            info.truncated_share,
        )
        best_objective = jnp.where(better, info.objective, best_objective)
        return (moved, optimizer_state, state, best, best_objective, tail), record

    def _add_noise(self, gradient: Any, norm: Array, key: Array, number: Array) -> Any:
        if self.settings.gradient_noise == 0.0:
            return gradient
        leaves, tree = jax.tree.flatten(gradient)
        size = sum(leaf.size for leaf in leaves)
        remaining = 1.0 - number / self.settings.total_steps
        scale = self.settings.gradient_noise * remaining * norm / jnp.sqrt(size)
        keys = jax.random.split(key, len(leaves))
        noisy = [
            leaf + scale * jax.random.normal(k, leaf.shape)
            for leaf, k in zip(leaves, keys, strict=True)
        ]
        return jax.tree.unflatten(tree, noisy)

    def ascend(
        self, parameters: Mapping[str, Any], start: Any, key: Array, context_key: Array
    ) -> AscentResult:
        """Return what `run` returns, as one traceable function; all leaves are arrays.

        For programs that hold many ascents. Not for followers outside compiled programs.
        """
        _, run_key = jax.random.split(key)
        carry = self._first_carry(start, run_key, context_key)
        pieces = []
        for stage, factor in enumerate(self.settings.continuation):
            carry, trace = self._stage(carry, parameters, jnp.asarray(factor), jnp.asarray(stage))
            pieces.append(trace)
        trace = jax.tree.map(lambda *parts: jnp.concatenate(parts), *pieces)
        objective, status = self._verdict(carry, trace)
        return AscentResult(carry[2], objective, trace, status)

    def _verdict(self, carry: tuple, trace: AscentTrace) -> tuple[Any, Any]:
        """Return objective and status."""
        tail_steps = max(1, self.settings.num_steps // 5)
        objective = carry[3] if self.estimator.is_exact else trace.objective[-tail_steps:].mean()
        norms = trace.gradient_norm
        finite = jnp.isfinite(norms)
        leaves = [objective, *jax.tree.leaves(carry[2])]
        usable = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
        largest = jnp.where(finite, norms, 0.0).max()
        bound = jnp.maximum(self.settings.gradient_tolerance * abs(objective), 1e-6 * largest)
        status = jnp.select(
            [
                ~(usable & finite[-1] & (finite.mean() > 0.99)),
                (trace.solve_status != SolveStatus.CONVERGED).any(),
                norms[-1] <= bound,
            ],
            [
                int(AscentStatus.NOT_FINITE),
                int(AscentStatus.SOLVER_FAILED),
                int(AscentStatus.CONVERGED),
            ],
            int(AscentStatus.STEP_LIMIT),
        )
        return objective, status

    def _result(self, carry: tuple, trace: AscentTrace) -> AscentResult:
        objective, status = self._judge(carry, trace)
        answer = jax.tree.map(np.asarray, carry[2])
        return AscentResult(answer, float(objective), trace, AscentStatus(int(status)))


class _Interrupted(Exception):  # noqa: N818 - a signal inside this module, never seen outside
    """An outside follower failed in the middle of a stage."""

    def __init__(self, error: FollowerError, walk: tuple, trace: AscentTrace) -> None:
        super().__init__(str(error))
        self.error, self.walk, self.trace = error, walk, trace


def _stacked(records: list[tuple]) -> AscentTrace:
    columns: Any = [np.zeros(0)] * len(dataclasses.fields(AscentTrace))
    if records:
        columns = [np.stack([np.asarray(v) for v in one]) for one in zip(*records, strict=True)]
    return AscentTrace(*columns)
