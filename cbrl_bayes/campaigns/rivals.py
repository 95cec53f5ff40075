r"""When the surprise check fires: which model of the follower fits what was seen, and what follows.

Every model is fitted to the counts of all rounds by particles, which gives its evidence: the
probability, before anything was seen, of all that was seen. Models count as equally likely at
first; then their probabilities are in proportion to their evidence. It depends on the models'
priors as well (`default_priors` for what a model adds).

One more rival is no model at all (`FREQUENCIES`): choices under each incentive, in each context and
state, have frequencies of their own, with a Dirichlet(1/2) prior. Its evidence has a closed form.
Where it is well ahead, none of the models describes the followers; it predicts nothing for other
incentives, so that it has no design.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.special import gammaln, softmax

from cbrl_bayes.campaigns.answers import Answer
from cbrl_bayes.campaigns.engine import OPTIONS, Engine, State
from cbrl_bayes.campaigns.likelihood import CONTEXTS
from cbrl_bayes.campaigns.particles import Particles, dirichlet_evidence
from cbrl_bayes.errors import InvalidInputError, require_kind
from cbrl_bayes.problems import Problem
from cbrl_bayes.problems.follower_models import lapsing, myopic

OWN, FREQUENCIES = "the model", "no model"


class Comparison(NamedTuple):
    """Models of the follower after what was seen; M models, then `FREQUENCIES`.

    Attributes
    ----------
    names : tuple of str
        `OWN`, the others, and last `FREQUENCIES`.
    log_evidence : array, shape (M + 1,)
    probability : array, shape (M + 1,)
    points : array, shape (M, P)
        Common design of each model, before its transform.
    objective : array, shape (M, M)
        Mean objective of the first axis' design under the second's model.
    last : array, shape (M,)
        Mean objective of the design deployed last, under each model.
    """

    names: tuple[str, ...]
    log_evidence: Float[np.ndarray, " model"]
    probability: Float[np.ndarray, " model"]
    points: Float[np.ndarray, "designed_for coordinate"]
    objective: Float[np.ndarray, "designed_for model"]
    last: Float[np.ndarray, " model"]


def usual_rivals(problem: Problem) -> dict[str, Problem]:
    """Return other models of soft-optimal followers: lapsing ones and, if they plan, myopic ones.

    Examples
    --------
    >>> import cbrl_bayes as cb
    >>> list(usual_rivals(cb.problems.two_state()))
    ['lapsing']
    """
    if problem.response_fn is not None:
        return {}
    found = {"lapsing": lapsing(problem)}
    values, _ = problem.contexts.support(problem.default_parameters)
    context = jax.tree.map(lambda leaf: jnp.asarray(leaf)[0], values)
    incentive = problem.incentive.transform(problem.incentive.initial)
    own = problem.follower_parameters(problem.default_parameters, 0)
    if (np.asarray(problem.mdp_fn(incentive, context, own).discount) > 0.0).any():
        found["myopic"] = myopic(problem, 0.5, uncertain=True)
    return found


@dataclass
class Rivals:
    """Other models of one campaign's followers.

    Parameters
    ----------
    engine : Engine
        Of the campaign. Its dynamics must be known: particles give evidence, drawn laws do not.
    others : mapping, optional
        Name -> problem that differs in how followers respond. Default: `usual_rivals`.

    Raises
    ------
    InvalidInputError
        For no problems, names that are taken, or problems of another size.
    """

    engine: Engine
    others: Mapping[str, Problem] | None = None
    _engines: dict[str, Engine] = field(init=False, default_factory=dict)

    def __post_init__(self) -> None:
        remedy = 'others={"lapsing": cb.problems.follower_models.lapsing(problem)}'
        if self.others is None:
            self.others = usual_rivals(self.engine.problem)
        require_kind(self.others, Mapping, "others", remedy)
        for name, other in self.others.items():
            require_kind(other, Problem, f"others[{name!r}]", remedy)
            if name in (OWN, FREQUENCIES):
                raise InvalidInputError(f"the name {name!r} is taken", remedy=remedy)
            if _sizes(other) != _sizes(self.engine.problem):
                raise InvalidInputError(
                    f"others[{name!r}] is another problem, not another model of its followers",
                    received=str(_sizes(other)),
                    accepted=str(_sizes(self.engine.problem)),
                    remedy=remedy,
                )

    @property
    def possible(self) -> bool:
        """Whether there is evidence to compare: not where the dynamics are unknown."""
        return self.engine.settings.dynamics is None

    def compare(self, state: State, key: Key[Array, ""]) -> Comparison:
        """Fit all models to what a campaign has seen, and design under each."""
        beliefs: list[Particles] = [state.belief]
        engines = [self.engine]
        for number, (name, other) in enumerate((self.others or {}).items()):
            engine = self._engine(name, other)
            fit_key, update_key = jax.random.split(jax.random.fold_in(key, number))
            first = engine.programs.first(fit_key)
            beliefs.append(first.updated(list(state.belief.answers), update_key))
            engines.append(engine)
        evidence = [belief.log_evidence for belief in beliefs]
        evidence.append(self._of_frequencies(state.belief, key))
        log = np.array(evidence)
        points, objective, last = self._designs(engines, beliefs, state, key)
        return Comparison(
            names=(OWN, *(self.others or {}), FREQUENCIES),
            log_evidence=log,
            probability=softmax(np.where(np.isfinite(log), log, -np.inf)),
            points=points,
            objective=objective,
            last=last,
        )

    def _engine(self, name: str, other: Problem) -> Engine:
        if name not in self._engines:
            priors = {
                known: prior
                for known, prior in (self.engine.priors or {}).items()
                if known in other.default_parameters
            }
            settings = replace(self.engine.settings, num_replicates=0)
            # Evidence is compared on the same data: with moves in all models, or in none.
            both = self.engine.moves_tell
            self._engines[name] = Engine(
                other, settings, priors, self.engine.today, with_moves=both
            )
        return self._engines[name]

    def _designs(
        self, engines: list[Engine], beliefs: list[Particles], state: State, key: Array
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        num = self.engine.settings.planning.num_draws
        draw_key, search_key = jax.random.split(key)
        draws = [belief.draws(draw_key, num) for belief in beliefs]
        starts = list(state.points[-OPTIONS:])
        points = np.stack(
            [
                engine.desk.common(own, starts, search_key, wide=False)
                for engine, own in zip(engines, draws, strict=True)
            ]
        )
        scored = np.concatenate([points, state.points[-1:]])
        worth = np.stack(
            [
                engine.desk.outcomes(scored, own).objective.mean(1)
                for engine, own in zip(engines, draws, strict=True)
            ],
            axis=1,
        )
        return points, worth[:-1], worth[-1]

    def _of_frequencies(self, belief: Particles, key: Array) -> float:
        """Return the evidence of choices with frequencies of their own, contexts as in the model.

        Choices in terminal states whose actions are all worth the same count as in the model:
        what is done there says nothing. NaN where moves tell of the model's parameters: frequencies
        of choices say nothing of moves.
        """
        engine = self.engine
        if engine.moves_tell:
            return float("nan")
        draws = belief.draws(key, 2)
        before, counted = engine.programs.context_weights, belief.contexts
        if before is not None:
            total = dirichlet_evidence(before, counted)
        elif CONTEXTS not in engine.unknown or _is_fixed(draws[CONTEXTS]):
            chance = draws[CONTEXTS][0]
            total = float(counted[counted > 0] @ np.log(chance[counted > 0]))
        else:
            return float("nan")  # followers act on a law of contexts that is not known
        for answer in belief.answers:
            ends = self._idle(answer)
            log_policy = engine.desk.log_policies(np.asarray(answer.point), draws)[0]
            total += own_frequencies(answer, log_policy, ends)
        return total

    def _idle(self, answer: Answer) -> np.ndarray:
        """Return in which states an episode ends whatever is done, for the same reward, (C, F, S).

        A one-time choice and the last period are terminal too, but what is done there is paid for.
        """
        problem = self.engine.problem
        given = problem.default_parameters
        values, weights = problem.contexts.support(given)
        point = problem.incentive.unflatten(jnp.asarray(answer.point))
        incentive = problem.incentive.transform(point)
        found = []
        for number in range(weights.shape[0]):
            context = jax.tree.map(lambda leaf, n=number: jnp.asarray(leaf)[n], values)
            for follower in range(problem.followers.num_followers):
                own = problem.follower_parameters(given, follower)
                mdp = problem.mdp_fn(incentive, context, own)
                reward = np.where(np.asarray(mdp.is_open), np.asarray(mdp.reward), np.nan)
                alike = np.nanmax(reward, -1) == np.nanmin(reward, -1)
                found.append(np.asarray(mdp.terminal, bool) & alike)
        shape = (weights.shape[0], problem.followers.num_followers, -1)
        return np.stack(found).reshape(shape)


def own_frequencies(
    answer: Answer, log_policy: Float[np.ndarray, "context follower state action"], ends: np.ndarray
) -> float:
    """Return the log evidence of one answer's choices if each row has frequencies of its own.

    Parameters
    ----------
    answer : Answer
    log_policy : array, shape (C, F, S, A)
        Minus infinity where an action is closed; its values count in terminal states alone.
    ends : bool array, shape (C, F, S)
        Terminal states whose open actions are all worth the same.
    """
    chosen = np.asarray(answer.choices)
    is_open = np.isfinite(log_policy)
    prior = np.where(is_open, 0.5, 0.0)
    parts = np.where(is_open, gammaln(0.5 + chosen) - gammaln(0.5), 0.0).sum(-1)
    whole = gammaln(prior.sum(-1)) - gammaln(prior.sum(-1) + chosen.sum(-1))
    model = np.where(chosen > 0.0, chosen * np.where(is_open, log_policy, 0.0), 0.0).sum(-1)
    return float(np.where(ends, model, parts + whole).sum())


def _sizes(problem: Problem) -> dict[str, int]:
    """Return what must be the same where problems differ in how followers respond alone."""
    return {
        "states": problem.num_states,
        "actions": problem.num_actions,
        "contexts": problem.contexts.num_contexts,
        "followers": problem.followers.num_followers,
        "incentive": problem.incentive.size,
    }


def _is_fixed(values: np.ndarray) -> bool:
    return bool((values == values[:1]).all())
