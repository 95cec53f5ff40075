"""The leader's ascent: any estimator, any Optax optimiser, continuation, noise and restarts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from typing import Any, cast

import jax
import jax.numpy as jnp
import numpy as np
import optax
from jaxtyping import Array, Key

from cbrl_bayes.errors import FollowerError, InvalidInputError, require_kind, require_ranges
from cbrl_bayes.hypergradients.climb import Climb
from cbrl_bayes.hypergradients.contract import EstimateInfo, Estimator
from cbrl_bayes.hypergradients.steps import StageFactors, Steps, Walk
from cbrl_bayes.hypergradients.trace import AscentResult, AscentTrace
from cbrl_bayes.mdp import SolveStatus, is_traced
from cbrl_bayes.problems import Problem
from cbrl_bayes.status import AscentStatus


@dataclass(frozen=True)
class Ascent:
    r"""Settings of one ascent.

    Parameters
    ----------
    num_steps : int
        Steps per stage, >= 1.
    learning_rate : float
        Of the default optimiser, Adam with a cosine decay to a hundredth over each stage; > 0. It
        measures steps by the scale of the problem (`Problem.scale`), so that the same steps are
        made in any unit of money.
    optimizer : optax.GradientTransformation, optional
        Any other optimiser; it minimises, so it is handed minus the hypergradient, as it is: its
        step sizes are in the problem's own units.
    clip_norm : float, optional
        Gradients longer than this are shortened to it; None for no clipping. In units of the
        problem's scale too, unless there is an ``optimizer``.
    continuation : tuple of float
        Factors on every follower's temperature (lambda), one stage each, warm-started; the last
        must be 1. High temperatures smooth the leader's landscape: (10, 3, 1) avoids many local
        optima of the target temperature.
    price_continuation : tuple of float
        Factors on the price of the incentive (`Problem.incentive_price_fn`), one stage each,
        warm-started; the last must be 1. Where the incentive costs, the landscape is rugged:
        (.03, .1, .3, .6, 1) first finds what works and then makes it cheap. With a
        ``continuation`` of temperatures too, both need the same number of stages.
    gradient_noise : float
        Standard deviation of normal noise added to each coordinate of the gradient, relative to
        the gradient's root mean square; falls linearly to zero over the run.
    num_extensions : int
        An exact run at whose end something nearby is still better goes on with as many steps
        again, up to this number of times.
    tolerance : float
        > 0. An exact run ends with probes around the best point, and goes on to better ones. It
        counts as converged when they gain less than this share of what the objective reacts to a
        step of one scale (`Probes`). A stochastic run never counts as converged.

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
    price_continuation: tuple[float, ...] = (1.0,)
    gradient_noise: float = 0.0
    num_extensions: int = 2
    tolerance: float = 1e-3

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "ascent settings",
            num_steps=">= 1",
            learning_rate="(0, inf)",
            clip_norm="> 0 or None",
            gradient_noise=">= 0",
            num_extensions=">= 0",
            tolerance="> 0",
        )
        require_kind(
            self.optimizer, optax.GradientTransformation | None, "optimizer", "optax.sgd(0.1)"
        )
        for name in ("continuation", "price_continuation"):
            _require_factors(name, getattr(self, name))
        lengths = {len(self.continuation), len(self.price_continuation)} - {1}
        if len(lengths) > 1:
            raise InvalidInputError(
                "ascent settings do not agree on the number of stages",
                received=f"continuation = {self.continuation}, "
                f"price_continuation = {self.price_continuation}",
                accepted="the same number of factors in both, or one of them left out",
            )

    @property
    def stages(self) -> tuple[tuple[float, float], ...]:
        """Factors on temperatures and on the incentive's price, stage by stage."""
        heats, prices = self.continuation, self.price_continuation
        num = max(len(heats), len(prices))
        both = (factors * (num // len(factors)) for factors in (heats, prices))
        return tuple(zip(*both, strict=True))

    @property
    def total_steps(self) -> int:
        """Steps over all stages."""
        return self.num_steps * len(self.stages)

    def build_optimizer(self) -> optax.GradientTransformation:
        """Return the optimiser, gradient clipping included."""
        schedule = optax.cosine_decay_schedule(self.learning_rate, self.num_steps, alpha=0.01)
        step = self.optimizer or optax.adam(schedule)
        return (
            step
            if self.clip_norm is None
            else optax.chain(optax.clip_by_global_norm(self.clip_norm), step)
        )


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
        require_kind(self.problem, Problem, "problem")
        require_kind(self.estimator, Estimator, "estimator", "cb.Exact() or cb.HPGD()")
        require_kind(self.settings, Ascent, "settings", "Ascent(...)")
        if len(self.settings.price_continuation) > 1:
            self.problem.priced(1.0)  # raises where there is no price
        space, scale, settings = self.problem.incentive, self.problem.scale, self.settings
        raw = settings.optimizer is not None
        self._steps = Steps(
            optimizer=settings.build_optimizer(),
            scale=space.unflatten(np.ones(space.size) if raw else scale.incentive),
            gradient_unit=1.0 if raw else scale.objective,
            num_steps=settings.num_steps,
            total_steps=settings.total_steps,
            noise=settings.gradient_noise,
            is_exact=self.estimator.is_exact,
        )
        self._climb = Climb(
            jax.jit(self._estimate),  # traced once for all its uses
            self._steps,
            space,
            scale.incentive,
            settings.tolerance,
            settings.num_extensions,
        )
        # A follower outside compiled programs is called from Python, step by step.
        on_host = self.estimator.runs_on_host
        self._begin = self._first_walk if on_host else jax.jit(self._first_walk)
        self._stage_program = jax.jit(self._stage)
        self._end = jax.jit(self._stochastic_result)
        self._climb_program = jax.jit(self._climb.result)
        self._whole_program = jax.jit(self._whole)

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

        Under a JAX transformation the ascent is a part of the caller's program and all leaves of
        the result are traced arrays. A follower outside compiled programs cannot be used there.

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
        if start is not None:
            start = jax.tree.map(lambda leaf: jnp.asarray(leaf, float), start)
        if len(self.settings.stages) == 1 and not self.estimator.runs_on_host:
            found = self._whole_program(start, key, context_key, parameters)
            if on_step is not None:
                on_step(self.settings.num_steps)
            return found.settled()
        walk = self._begin(start, key, context_key)
        pieces: list[AscentTrace] = []
        try:
            for reached in self._pieces(walk, parameters):
                walk, piece = reached
                pieces.append(piece)
                if on_step is not None:
                    on_step(len(piece.objective))
        except FollowerError as error:
            if pieces:
                last = float(pieces[-1].objective[-1])
                end = AscentResult(
                    walk.point, last, _joined(pieces), AscentStatus.INTERRUPTED, np.nan
                )
                error.partial = end.settled()
            raise
        if not self.estimator.is_exact:
            return self._end(walk, _joined(pieces)).settled()
        found = self._climb_program(walk, parameters)
        if on_step is not None:
            on_step(self.settings.num_steps)
        return replace(found, trace=_joined([*pieces, found.trace])).settled()

    def from_low_prices(
        self, start: Any, parameters: Mapping[str, Any], *, prices: tuple[float, ...], key: Array
    ) -> Any:
        """Return where stages with the incentive's price times ``prices`` lead, one after another.

        Not for a follower outside compiled programs.
        """
        walk = self._begin(start, key, key)
        for price in prices:
            walk, _ = self._stage_program(walk, parameters, StageFactors(1.0, price), 0)
        return walk.best if self.estimator.is_exact else walk.tail

    def _estimate(
        self, point: Any, parameters: Mapping[str, Any], state: Any, key: Array, stage: StageFactors
    ) -> tuple[Any, Any, EstimateInfo]:
        problem = self.problem.heated(stage.heat)
        if problem.incentive_price_fn is not None:
            problem = problem.priced(stage.price)
        return self.estimator.estimate(problem, point, parameters, state, key=key)

    def _whole(
        self, start: Any, key: Array, context_key: Array | None, parameters: Mapping[str, Any]
    ) -> AscentResult:
        """Do an ascent of one stage, at the followers' own temperatures, as one program."""
        walk = self._first_walk(start, key, context_key)
        if self.estimator.is_exact:
            return self._climb.result(walk, parameters)
        return self._stochastic_result(*self._stage(walk, parameters, StageFactors(1.0, 1.0), 0))

    def _first_walk(self, start: Any, key: Array, context_key: Array | None) -> Walk:
        start_key, run_key = jax.random.split(key)
        if start is None:
            space = self.problem.incentive
            spread = space.start_scale * self.problem.scale.incentive
            start = space.random_start(start_key, spread)
        step_key, _ = jax.random.split(run_key)
        context_key = run_key if context_key is None else context_key
        state = self.estimator.init(self.problem, start, key=context_key)
        return self._steps.set_out(start, state, step_key)

    def _pieces(
        self, walk: Walk, parameters: Mapping[str, Any]
    ) -> Iterator[tuple[Walk, AscentTrace]]:
        """Yield where the walk is: after each stage, or after each step of an outside follower.

        The last stage of an exact ascent is not among them: it is a climb.
        """
        stages = [StageFactors(*factors) for factors in self.settings.stages]
        for stage, factor in enumerate(stages[:-1] if self.estimator.is_exact else stages):
            if not self.estimator.runs_on_host:
                walk, trace = self._stage_program(walk, parameters, factor, stage)
                yield walk, trace
                continue
            walk, step = self._enter_stage(walk, parameters, factor, stage)
            for number in range(self.settings.num_steps):
                walk, record = step(walk, number)
                yield walk, jax.tree.map(lambda value: np.asarray(value)[None], record)

    def _stage(
        self, walk: Walk, parameters: Mapping[str, Any], factor: StageFactors, stage: Any
    ) -> tuple[Walk, AscentTrace]:
        walk, step = self._enter_stage(walk, parameters, factor, stage)
        return jax.lax.scan(step, walk, jnp.arange(self.settings.num_steps))

    def _enter_stage(
        self, walk: Walk, parameters: Mapping[str, Any], factor: StageFactors, stage: Any
    ) -> tuple[Walk, Callable[[Walk, Any], tuple[Walk, AscentTrace]]]:
        """Return the walk at the start of a stage, and the stage's step."""
        key, stage_key = jax.random.split(walk.key)
        start = walk.best if self.estimator.is_exact else walk.point

        def step(walk: Walk, number: Any) -> tuple[Walk, AscentTrace]:
            keys = jax.random.split(jax.random.fold_in(stage_key, number))
            return self._steps.after(
                walk,
                self._estimate(walk.point, parameters, walk.state, keys[0], factor),
                number=number,
                passed=stage * self.settings.num_steps + number,
                factors=factor,
                key=keys[1],
            )

        return self._steps.set_out(start, walk.state, key), step

    def _stochastic_result(self, walk: Walk, trace: AscentTrace) -> AscentResult:
        tail_steps = max(1, self.settings.num_steps // 5)
        objective = trace.objective[-tail_steps:].mean()
        finite = jnp.isfinite(trace.gradient_norm)
        leaves = [objective, *jax.tree.leaves(walk.tail)]
        usable = jnp.stack([jnp.isfinite(leaf).all() for leaf in leaves]).all()
        status = jnp.select(
            [
                ~(usable & finite[-1] & (finite.mean() > 0.99)),
                (trace.solve_status != SolveStatus.CONVERGED).any(),
                (trace.gradient_norm == 0.0).all(),
            ],
            [int(AscentStatus.NOT_FINITE), int(AscentStatus.SOLVER_FAILED), int(AscentStatus.FLAT)],
            int(AscentStatus.STEP_LIMIT),
        )
        gain = jnp.array(jnp.nan)
        return AscentResult(
            walk.tail, cast(Any, objective), trace, cast(Any, status), cast(Any, gain)
        )


def _require_factors(name: str, given: Any) -> None:
    """Refuse what is no list of positive factors that ends with 1."""
    try:
        factors = np.asarray(given, float)
    except (TypeError, ValueError):  # no numbers
        factors = np.zeros(0)
    proper = factors.ndim == 1 and factors.size > 0 and ((factors > 0) & (factors < np.inf)).all()
    if not proper or factors[-1] != 1.0:
        raise InvalidInputError(
            "ascent settings are out of range",
            received=f"{name} = {given}",
            accepted="factors > 0, the last one 1",
        )


def _joined(pieces: list[AscentTrace]) -> AscentTrace:
    join = jnp.concatenate if is_traced(pieces) else np.concatenate
    return jax.tree.map(lambda *parts: join(parts), *pieces)
