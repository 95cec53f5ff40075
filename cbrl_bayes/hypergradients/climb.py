"""An exact ascent as one program: steps, then probes, then more steps where probes still gain."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, NamedTuple, cast

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Int

from cbrl_bayes.hypergradients.contract import EstimateInfo
from cbrl_bayes.hypergradients.probes import Place, Probes
from cbrl_bayes.hypergradients.steps import StageFactors, Steps, Walk, chosen
from cbrl_bayes.hypergradients.trace import AscentResult, AscentTrace
from cbrl_bayes.mdp import SolveStatus
from cbrl_bayes.problems import IncentiveSpace
from cbrl_bayes.status import AscentStatus

FAILED_SOLVES = (
    SolveStatus.ITERATION_LIMIT,
    SolveStatus.NOT_FINITE,
    SolveStatus.CUT_SHORT,
    SolveStatus.UNSETTLED,
)
MOST_FAILED_SOLVES = 0.01


class _Climb(NamedTuple):
    """Where a climb is."""

    walk: Walk
    number: Int[Array, ""]  # steps made since it last set out
    extensions: Int[Array, ""]
    probes: Probes
    trace: AscentTrace  # of the first steps, not of extensions


@dataclass(frozen=True)
class Climb:
    """The last stage of an exact ascent, at the followers' own temperatures.

    Every turn of its loop evaluates one point, for a step or for a probe, so that the estimator is
    compiled once.

    Parameters
    ----------
    estimate : callable
        ``(point, parameters, state, key, factor) -> (gradient, state, info)``.
    steps : Steps
    space : IncentiveSpace
    scale : array, shape (P,)
    tolerance : float
    num_extensions : int
    """

    estimate: Callable[..., tuple[Any, Any, EstimateInfo]]
    steps: Steps
    space: IncentiveSpace
    scale: Float[np.ndarray, " coordinate"]
    tolerance: float
    num_extensions: int

    def result(self, walk: Walk, parameters: Any) -> AscentResult:
        """Climb from where the walk of earlier stages ended, or begins."""
        key, stage_key = jax.random.split(walk.key)
        num = self.steps.num_steps
        one = StageFactors(jnp.asarray(1.0), jnp.asarray(1.0))

        def unfinished(climb: _Climb) -> Array:
            return (climb.number < num) | ~climb.probes.over

        def turn(climb: _Climb) -> _Climb:
            probing = climb.number >= num
            probe = climb.probes.next_point(self.scale)
            at = chosen(probing, self.space.unflatten(probe), climb.walk.point)
            keys = jax.random.split(jax.random.fold_in(stage_key, climb.number))
            estimate = self.estimate(at, parameters, climb.walk.state, keys[0], one)

            def step() -> _Climb:
                stepped, record = self.steps.after(
                    climb.walk,
                    estimate,
                    number=climb.number,
                    passed=self.steps.before_last_stage + climb.number,
                    factors=one,
                    key=keys[1],
                )
                return _Climb(
                    stepped,
                    climb.number + 1,
                    climb.extensions,
                    self._around(stepped),
                    self._kept(climb, record),
                )

            def look() -> _Climb:
                gradient, _, info = estimate
                fine = info.status == SolveStatus.CONVERGED
                worth = jnp.where(fine, info.objective, -jnp.inf)
                place = Place(probe, worth, self._flat(gradient))
                probes = climb.probes.seen(place, self.tolerance)
                unsettled = probes.over & ~probes.converged & jnp.isfinite(probes.centre.objective)
                again = unsettled & (climb.extensions < self.num_extensions)
                after = climb._replace(probes=probes)
                return jax.lax.cond(again, self._extended, lambda same: same, after)

            return jax.lax.cond(probing, look, step)

        start = self.steps.set_out(walk.best, walk.state, key)
        record = jax.eval_shape(lambda: self._record(start, parameters, one))
        trace = jax.tree.map(lambda leaf: jnp.zeros((num, *leaf.shape), leaf.dtype), record)
        zero = jnp.zeros((), int)
        first = _Climb(start, zero, zero, self._around(start), trace)
        climb = jax.lax.while_loop(unfinished, turn, first)
        return self._result(climb.probes, climb.trace)

    def _flat(self, tree: Any) -> Array:
        return jnp.asarray(self.space.flatten(tree))

    def _around(self, walk: Walk) -> Probes:
        best = Place(self._flat(walk.best), walk.best_objective, self._flat(walk.best_gradient))
        return Probes.around(best)

    def _record(self, walk: Walk, parameters: Any, factor: StageFactors) -> AscentTrace:
        estimate = self.estimate(walk.point, parameters, walk.state, walk.key, factor)
        after = self.steps.after(walk, estimate, number=0, passed=0, factors=factor, key=walk.key)
        return after[1]

    def _kept(self, climb: _Climb, record: AscentTrace) -> AscentTrace:
        """Return the trace with a step's record, if the step is one of the first."""
        # A place beyond the end is left out.
        at = jnp.where(climb.extensions == 0, climb.number, self.steps.num_steps)
        return jax.tree.map(
            lambda leaf, one: leaf.at[at].set(one, mode="drop"), climb.trace, record
        )

    def _extended(self, climb: _Climb) -> _Climb:
        """Return the climb set out again from the best point."""
        best = self.space.unflatten(climb.probes.centre.point)
        walk = self.steps.set_out(best, climb.walk.state, climb.walk.key)
        return climb._replace(walk=walk, number=jnp.zeros((), int), extensions=climb.extensions + 1)

    def _result(self, found: Probes, trace: AscentTrace) -> AscentResult:
        place = found.centre
        failed = jnp.isin(trace.solve_status, jnp.array(FAILED_SOLVES)).mean() > MOST_FAILED_SOLVES
        usable = jnp.isfinite(place.objective) & jnp.isfinite(place.point).all()
        status: Any = jnp.select(
            [~usable, failed, found.flat, found.converged],
            [
                int(AscentStatus.NOT_FINITE),
                int(AscentStatus.SOLVER_FAILED),
                int(AscentStatus.FLAT),
                int(AscentStatus.CONVERGED),
            ],
            int(AscentStatus.STEP_LIMIT),
        )
        answer = self.space.unflatten(place.point)
        worth, gain = cast(Any, place.objective), cast(Any, found.gain)
        return AscentResult(answer, worth, trace, status, gain)
