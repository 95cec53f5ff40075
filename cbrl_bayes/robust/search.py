"""Robust and risk-aware designs: one design per criterion, judged on all posterior draws."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from functools import partial

import jax
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.designs.criteria import Criterion
from cbrl_bayes.designs.evaluation import Score, score_program, scores_are_noisy
from cbrl_bayes.designs.executors import ThreadExecutor
from cbrl_bayes.designs.running import Running
from cbrl_bayes.designs.scoring import complete_draws, evaluate_designs, usable_objective
from cbrl_bayes.designs.thinning import evenly_spaced
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.hypergradients import AscentStatus, Estimator
from cbrl_bayes.problems import Problem
from cbrl_bayes.robust.constraints import ChanceConstraint, CostAtMost
from cbrl_bayes.robust.depth import posterior_depth
from cbrl_bayes.robust.judge import EXTREMES, SETTLED, Judge, Pool, settled, spread_of
from cbrl_bayes.robust.record import HeldOut, RobustSettings, RobustStudy


def search_designs(
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    *,
    names: Sequence[str],
    designs: Float[np.ndarray, "design coordinate"],
    own: Float[np.ndarray, "draw coordinate"],
    criteria: Sequence[Criterion],
    constraints: Sequence[ChanceConstraint] = (),
    estimator: Estimator,
    key: Key[Array, ""],
    settings: RobustSettings | None = None,
    run: Running | None = None,
    more: Mapping[str, np.ndarray] | None = None,
    fresh: Mapping[str, np.ndarray] | None = None,
) -> RobustStudy:
    """Find the design that maximises each criterion, and score it beside known designs.

    Known designs and some draws' own designs are judged by the criterion on all draws; from the
    most promising ones ascents climb the criterion. The best of everything seen is the answer,
    so that no design in the table is better by its own criterion.

    Parameters
    ----------
    problem : Problem
    draws : mapping
        Parameter name -> array (N, ...).
    names, designs : sequence of str and array, shape (D, P)
        Designs known before, e.g. the common one.
    own : array, shape (N, P)
        Each draw's own design.
    criteria : sequence of Criterion
        Of different names.
    constraints : sequence of ChanceConstraint
        Kept by the answers where any candidate keeps them; need an exact estimator.
    estimator : Estimator
    key : typed key
    settings : RobustSettings, optional
    run : Running, optional
        How it runs. Default: two threads.
    more : mapping, optional
        Further draws on which designs are chosen, not where scores are noisy.
    fresh : mapping, optional
        Draws on which the final designs are scored, and nothing else.

    Returns
    -------
    RobustStudy
    """
    settings, run = settings or RobustSettings(), run or Running()
    _check(problem, criteria, constraints, estimator, settings, names)
    noisy = scores_are_noisy(problem, settings.evaluation)
    draws, num_own = complete_draws(problem, draws)
    draws, unused = _put_together(problem, draws, None if noisy else more, fresh)
    num = len(next(iter(draws.values())))
    depth = posterior_depth(_put_after(draws, unused))
    score_key, fresh_key, ascent_key = jax.random.split(key, 3)

    scored = _scorer(problem, settings, run, draws, score_key)
    usable = np.isfinite(own).all(1)
    own = np.where(usable[:, None], own, designs[0])
    some = own[evenly_spaced(num_own, settings.num_candidates)]
    # A draw beyond the study's has no design of its own: the common one stands in.
    own = np.concatenate([own, np.broadcast_to(designs[0], (num - num_own, designs.shape[1]))])
    first = np.concatenate([designs, some])
    pool = Pool(first, scored("known_designs", first))
    own_score = usable_objective(scored("best_per_draw", own[None]))[0]
    best = own_score if noisy else np.maximum(own_score, usable_objective(pool.scores).max(0))
    judge = Judge(problem, draws, estimator, settings, best, depth[:num], tuple(constraints))
    starts, statuses = [], []
    for number, criterion in enumerate(criteria):
        run.report(f"design by {criterion.name}", number, len(criteria))
        own_key = jax.random.fold_in(ascent_key, number)
        pool, reached, status = _climbed(
            judge, criterion, pool, f"ascent_{number}", scored=scored, key=own_key, run=run
        )
        starts.append(reached)
        statuses.append(status)
    if not noisy:
        judge = replace(judge, best=np.maximum(best, usable_objective(pool.scores).max(0)))
    chosen = [judge.order(criterion, pool.scores)[0] for criterion in criteria]
    index = np.append(np.arange(len(designs)), chosen).astype(int)
    scores = pool.chosen(index)
    if noisy:
        # The best of many noisy scores is too good: report from fresh noise.
        scores = scored("fresh_noise", pool.designs[index], own_key=fresh_key)
        again = scored("fresh_noise_per_draw", own[None], own_key=fresh_key)
        own_score = usable_objective(again)[0]
        judge = replace(judge, best=own_score)
    held_out = None
    if unused:
        points = np.concatenate([pool.designs[index], some])
        unseen = scored("draws_held_out", points, own_key=fresh_key, draws=unused)
        chosen_on = [judge.values(criterion, scores) for criterion in criteria]
        held_out = _held_out(judge, criteria, unseen, chosen_on, depth[num:])
    found = _collect(
        judge, names, pool.designs[index], criteria, scores, own_score, starts, statuses, held_out
    )
    return _of_study(found, num_own)


def _scorer(
    problem: Problem,
    settings: RobustSettings,
    run: Running,
    draws: dict[str, np.ndarray],
    key: Array,
) -> Callable[..., Score]:
    """Return ``(name of the work, designs) -> Score``; other draws and keys may be given."""
    score = score_program(problem, settings.evaluation)

    def scored(
        table: str, points: np.ndarray, own_key: Array = key, draws: dict[str, np.ndarray] = draws
    ) -> Score:
        return evaluate_designs(
            problem,
            points,
            draws,
            key=own_key,
            evaluation=settings.evaluation,
            score=score if isinstance(run.executor, ThreadExecutor | None) else None,
            run=run,
            table=table,
        )

    return scored


def _climbed(
    judge: Judge,
    criterion: Criterion,
    pool: Pool,
    where: str,
    *,
    scored: Callable[[str, np.ndarray], Score],
    key: Array,
    run: Running,
) -> tuple[Pool, np.ndarray, AscentStatus]:
    """Ascend a criterion; return the pool with the ends, what they reached, and a status.

    Ascents see some of the draws. If others are worse where they ended, they begin once more from
    there and see these too.
    """
    for name in (where, f"{where}_again") if isinstance(criterion, EXTREMES) else (where,):
        ended = run.once(name, partial(judge.ascend, criterion, pool, key))
        ends = scored(f"ends_of_{name}", ended["ends"])
        reached = judge.values(criterion, ends)
        status = settled(AscentStatus(int(ended["status"])), reached, pool)
        pool = pool.joined(ended["ends"], ends)
        missed = ended["worth"].max() - reached.max()
        if missed <= SETTLED * spread_of(pool.scores.objective[:1]):
            break
    return pool, reached, status


def _put_together(
    problem: Problem,
    draws: dict[str, np.ndarray],
    more: Mapping[str, np.ndarray] | None,
    fresh: Mapping[str, np.ndarray] | None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return the draws to choose on, and those held out, all parameters filled in."""
    if more:
        draws = _put_after(draws, complete_draws(problem, more)[0])
    return draws, complete_draws(problem, fresh)[0] if fresh else {}


def _put_after(one: Mapping[str, np.ndarray], other: Mapping[str, np.ndarray]) -> dict:
    return {n: np.concatenate([v, other[n]]) if other else np.asarray(v) for n, v in one.items()}


def _held_out(
    judge: Judge,
    criteria: Sequence[Criterion],
    scores: Score,
    chosen_on: Sequence[np.ndarray],
    depth: np.ndarray,
) -> HeldOut:
    """Judge the final designs, which come first, on draws that no design was chosen on.

    ``chosen_on`` has each criterion of them on the other draws.
    """
    num_final = len(chosen_on[0])
    objective = usable_objective(scores)
    best = objective.max(0)
    final = jax.tree.map(lambda leaf: leaf[:num_final], scores)
    apart = replace(judge, best=best, depth=depth)
    values = [apart.values(criterion, final) for criterion in criteria]
    for row, criterion in enumerate(criteria):
        if isinstance(criterion, EXTREMES):  # more draws can only show more of a set
            any_inside = (depth < criterion.prob).any()
            values[row] = np.minimum(values[row] if any_inside else np.inf, chosen_on[row])
    return HeldOut(
        objective=final.objective,
        best=np.where(np.isfinite(best), best, np.nan),
        depth=depth,
        criterion_value=np.stack(values),
        satisfied=apart.satisfied(final),
    )


def _of_study(found: RobustStudy, num: int) -> RobustStudy:
    """Leave the draws beyond the study's out of what is told draw by draw."""
    return replace(
        found,
        scores=jax.tree.map(lambda leaf: leaf[:, :num], found.scores),
        own_objective=found.own_objective[:num],
        best=found.best[:num],
        depth=found.depth[:num],
    )


def _check(
    problem: Problem,
    criteria: Sequence[Criterion],
    constraints: Sequence[ChanceConstraint],
    estimator: Estimator,
    settings: RobustSettings,
    names: Sequence[str],
) -> None:
    asked = [criterion.name for criterion in criteria]
    taken = {*names, "plug-in", "best per draw", "own"}
    if not asked or len(set(asked)) < len(asked) or taken & set(asked):
        raise InvalidInputError(
            "criteria need different names",
            received=asked,
            accepted=f"at least one, none twice, none of {', '.join(sorted(taken))}",
        )
    if constraints and not estimator.is_exact:
        raise InvalidInputError(
            "chance constraints need the exact hypergradient",
            received=type(estimator).__name__,
            remedy="estimator=cb.Exact()",
        )
    if constraints and not settings.evaluation.is_exact:
        raise InvalidInputError(
            "chance constraints on costs and follower values need exact scores",
            received=type(settings.evaluation).__name__,
            remedy="ExactEvaluation()",
        )
    for constraint in constraints:
        if isinstance(constraint, CostAtMost) and problem.incentive_price_fn is None:
            raise InvalidInputError(
                f"problem {problem.name!r} has no price of its incentive: its cost has no limit",
                received=constraint,
                remedy="an incentive_price_fn, or hard constraints",
            )
        if getattr(constraint, "follower", 0) >= problem.followers.num_followers:
            raise InvalidInputError(
                "there is no such follower",
                received=constraint,
                accepted=f"0 to {problem.followers.num_followers - 1}",
            )


def _collect(
    judge: Judge,
    names: Sequence[str],
    designs: np.ndarray,
    criteria: Sequence[Criterion],
    scores: Score,
    own_score: np.ndarray,
    starts: list[np.ndarray],
    statuses: list[AscentStatus],
    held_out: HeldOut | None,
) -> RobustStudy:
    longest = max(len(value) for value in starts)
    padded = [np.pad(v, (0, longest - len(v)), constant_values=np.nan) for v in starts]
    return RobustStudy(
        names=(*names, *(criterion.name for criterion in criteria)),
        designs=designs,
        scores=scores,
        own_objective=np.where(np.isfinite(own_score), own_score, np.nan),
        best=np.where(np.isfinite(judge.best), judge.best, np.nan),
        depth=judge.depth,
        criterion_value=np.stack([judge.values(criterion, scores) for criterion in criteria]),
        start_value=np.stack(padded),
        status=np.array([int(status) for status in statuses]),
        constraints=tuple(f"P({c.name}) >= {c.prob:g}" for c in judge.constraints),
        satisfied=judge.satisfied(scores),
        feasible=judge.shortfall(scores) == 0.0,
        num_chosen_on=len(judge.best),
        held_out=held_out,
    )
