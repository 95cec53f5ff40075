r"""What is believed where the dynamics are unknown too: Dirichlet laws, and parameters given each.

Transitions alone teach the law: a Dirichlet posterior for each state and action (`LawPrior`), from
all rounds. Under each of some laws drawn from it, choices teach the followers' parameters: a
Laplace approximation on the real line, found by Fisher scoring, from the choices of the last
incentives that were deployed. So what is not known of the law is in the spread of the parameters,
while what choices might say of the law is not used: a cut posterior (Plummer, Statistics and
Computing 25, 2015). Where the law is little known yet, choices look less rational than they are,
and temperatures (lambda) come out too high; this passes as transitions are seen.
"""

from collections import deque
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float, Key

from cbrl_bayes.campaigns.answers import Answer, emptied
from cbrl_bayes.campaigns.likelihood import CONTEXTS, choices_see_contexts
from cbrl_bayes.campaigns.particles import listed
from cbrl_bayes.errors import InvalidInputError, require_kind, require_ranges
from cbrl_bayes.hypergradients.learned_law import LawPrior, Sharing, drawn_rows, law_posteriors
from cbrl_bayes.inference import Prior
from cbrl_bayes.inference.prior_law import PriorLaw, dirichlet_weights
from cbrl_bayes.problems import LAW, Problem, respond_everywhere, with_unknown_law

LONGEST_STEP = 1.0
"""Of Fisher scoring, on the real line: a factor of 2.7 in a positive parameter."""
MOST_SCORINGS, STILL = 20, 0.02
"""Rounds of scoring after earlier data, and how little the median mode must move, unconstrained."""


@dataclass(frozen=True)
class DynamicsSettings:
    """How beliefs are kept where the dynamics are unknown.

    Parameters
    ----------
    prior : LawPrior
        What is believed of transitions seldom seen.
    num_laws : int
        Laws that are drawn each round, >= 2.
    num_recent : int
        Incentives deployed last whose choices teach the followers' parameters, >= 1.
    num_scorings : int
        Steps of Fisher scoring each round, >= 1; they begin where the last round ended.
    """

    prior: LawPrior = field(default_factory=LawPrior)
    num_laws: int = 12
    num_recent: int = 4
    num_scorings: int = 4

    def __post_init__(self) -> None:
        require_kind(self.prior, LawPrior, "prior", "LawPrior(weight=1.0)")
        require_ranges(
            self,
            "settings of unknown dynamics",
            num_laws=">= 2",
            num_recent=">= 1",
            num_scorings=">= 1",
        )


@dataclass
class DynamicsPrograms:
    """Compiled parts that all beliefs of one problem share.

    Parameters
    ----------
    problem : Problem
        With its law as stated, of which only the possible successors are used.
    priors : mapping
        From `default_priors`.
    settings : DynamicsSettings

    Raises
    ------
    InvalidInputError
        If `with_unknown_law` refuses the problem, or contexts have a prior that is no Dirichlet.
    """

    problem: Problem
    priors: Mapping[str, Prior]
    settings: DynamicsSettings = field(default_factory=DynamicsSettings)

    def __post_init__(self) -> None:
        weights = dirichlet_weights(self.priors.get(CONTEXTS))
        if weights is not None and choices_see_contexts(self.problem):
            raise InvalidInputError(
                f"followers of problem {self.problem.name!r} act on the law of contexts: with "
                "unknown dynamics it must be known",
                remedy="priors={'context_probability': its values}, or dynamics=None",
            )
        rest = {n: p for n, p in self.priors.items() if weights is None or n != CONTEXTS}
        law = PriorLaw(rest, self.problem.followers.num_followers)
        if weights is None and CONTEXTS in self.priors and CONTEXTS in law.sampled:
            raise InvalidInputError(
                "with unknown dynamics the contexts' law needs a Dirichlet prior, or is known",
                received=self.priors[CONTEXTS],
            )
        self.unknown = with_unknown_law(self.problem)
        self.law = law
        self.sharing = Sharing.of(self.problem, self.problem.default_parameters)
        self.context_weights = weights
        self._score = jax.jit(self._scored)
        self._posteriors = jax.jit(self._law_posteriors)
        self._parameters = jax.jit(jax.vmap(law.parameters))

    def first(self, key: Key[Array, ""]) -> "LearnedDynamics":
        """Return what is believed before anything was seen: draws from the prior."""
        problem, num = self.problem, self.settings.num_laws
        shape = (self._num_tables, problem.num_states, problem.num_actions, problem.num_successors)
        point_key, law_key = jax.random.split(key)
        points = np.asarray(self.law.draw(point_key, num))
        counts = np.zeros(shape)
        laws = self.drawn_laws(counts, law_key)
        return LearnedDynamics(self, points, laws, counts, self.context_weights)

    def restored(self, arrays: Mapping[str, np.ndarray]) -> "LearnedDynamics":
        """Return the belief that `LearnedDynamics.arrays` wrote down."""
        num = len(arrays.get("recent_steps", ()))
        recent = [Answer(*(arrays[f"recent_{n}"][i] for n in Answer._fields)) for i in range(num)]
        return LearnedDynamics(
            self,
            arrays["points"],
            arrays["laws"],
            arrays["counts"],
            arrays.get("context_weights"),
            tuple(recent),
            arrays.get("modes"),
            int(arrays["num_unsolved"]),
        )

    @property
    def _num_tables(self) -> int:
        """Laws that differ: one, or one for each context."""
        return 1 if self.sharing.contexts else self.problem.contexts.num_contexts

    def drawn_laws(self, counts: np.ndarray, key: Key[Array, ""]) -> np.ndarray:
        """Draw laws given counts of transitions, in the form that `with_unknown_law` takes."""
        prior_key, row_key = jax.random.split(key)
        return drawn_rows(self._posteriors(counts, prior_key), row_key)

    def _law_posteriors(self, counts: Array, key: Array) -> Array:
        own, settings = self.problem.default_parameters, self.settings
        found = law_posteriors(
            self.problem, own, counts, settings.prior, settings.num_laws, key=key
        )
        return found[1]

    def _scored(
        self, starts: Array, laws: Array, arms: Array, choices: Array, noise: Array
    ) -> tuple[Array, Array, Array]:
        """Return modes under all laws, a Laplace draw of each, and solves that did not converge."""

        def log_policy(point: Array, law: Array, arm: Array) -> tuple[Array, Array]:
            own = self.law.parameters(point)
            parameters = {**self.problem.default_parameters, **own, LAW: law}
            incentive = self.problem.incentive.transform(self.problem.incentive.unflatten(arm))
            return respond_everywhere(self.unknown, incentive, parameters)

        slope, bend = jax.grad(self.law.log_density), jax.hessian(self.law.log_density)

        def of_arm(point: Array, law: Array, arm: Array, chosen: Array) -> tuple[Array, ...]:
            def along(direction: Array) -> tuple[Array, Array, Array]:
                return jax.jvp(
                    lambda u: log_policy(u, law, arm), (point,), (direction,), has_aux=True
                )

            value, sensitivity, status = jax.lax.map(along, jnp.eye(point.shape[0]))
            unsolved = (status[0] != 0).any() & (chosen > 0.0).any()
            score = (chosen * sensitivity).sum((1, 2, 3, 4))
            chance = jnp.exp(value[0]) * chosen.sum(-1, keepdims=True)
            informed = jnp.einsum("icfsa,jcfsa,cfsa->ij", sensitivity, sensitivity, chance)
            return score, informed, unsolved

        def one(entry: tuple) -> tuple[Array, Array, Array]:
            start, law, own_noise = entry

            def both(point: Array) -> tuple[Array, Array, Array]:
                found = jax.lax.map(lambda arm: of_arm(point, law, *arm), (arms, choices))
                score, information, unsolved = jax.tree.map(lambda leaf: leaf.sum(0), found)
                return score + slope(point), information + _positive(-bend(point)), unsolved

            def step(point: Array, _: Any) -> tuple[Array, tuple[Array, Array]]:
                score, information, unsolved = both(point)
                change = jnp.linalg.solve(information, score)
                size = jnp.abs(change).max()
                change = change * jnp.minimum(1.0, LONGEST_STEP / jnp.maximum(size, 1e-300))
                change = jnp.where(jnp.isfinite(change).all(), change, 0.0)
                return point + change, (information, unsolved)

            mode, found = jax.lax.scan(step, start, length=self.settings.num_scorings)
            informed, unsolved = found
            root = jnp.linalg.cholesky(informed[-1])
            spread = jax.scipy.linalg.solve_triangular(root.T, own_noise, lower=False)
            drawn = mode + jnp.where(jnp.isfinite(spread).all(), spread, 0.0)
            return mode, drawn, unsolved.sum()

        modes, points, unsolved = jax.lax.map(one, (starts, laws, noise))
        return modes, points, unsolved.sum()


@dataclass(frozen=True)
class LearnedDynamics:
    """What is believed: counts of transitions, laws drawn from them, parameters under each.

    Attributes
    ----------
    points : array, shape (L, d)
        The followers' parameters on the real line, one draw under each law.
    laws : array, shape (L, ..., S, A, K)
    counts : array, shape (1 or C, S, A, K)
    context_weights : array, shape (C,), optional
    recent : tuple of Answer
        Whose choices count.
    modes : array, shape (L, d), optional
        Where the next scoring begins.
    num_unsolved : int
        Best responses of the last update that did not converge.
    """

    programs: DynamicsPrograms
    points: Float[np.ndarray, "law coordinate"]
    laws: np.ndarray
    counts: Float[np.ndarray, "context state action successor"]
    context_weights: Float[np.ndarray, " context"] | None
    recent: tuple[Answer, ...] = ()
    modes: Float[np.ndarray, "law coordinate"] | None = None
    num_unsolved: int = 0

    @property
    def num_distinct(self) -> int:
        """Laws drawn: no two are alike."""
        return len(self.points)

    @property
    def effective_size(self) -> float:
        """Number of laws drawn: each has the same weight."""
        return float(len(self.points))

    def updated(self, answers: Sequence[Answer], key: Key[Array, ""]) -> "LearnedDynamics":
        """Return what is believed after one more round."""
        programs, problem = self.programs, self.programs.problem
        law_key, noise_key = jax.random.split(key)
        counts, weights = self.counts, self.context_weights
        for answer in answers:
            pairs = answer.moves.reshape(-1, *answer.moves.shape[2:])
            counts = counts + np.asarray(programs.sharing.pooled(pairs, problem))[:, 0]
            weights = None if weights is None else weights + answer.contexts
        recent = tuple(deque([*self.recent, *answers], maxlen=programs.settings.num_recent))
        laws = programs.drawn_laws(counts, law_key)
        points = modes = self.points
        unsolved = 0
        if points.shape[1]:
            start = np.median(self.points if self.modes is None else self.modes, axis=0)
            starts = np.broadcast_to(start, points.shape)
            missing = programs.settings.num_recent - len(recent)
            padded = [*recent, *[emptied(recent[0])] * missing]
            arms, choices = (np.stack([getattr(a, n) for a in padded]) for n in _USED)
            noise = jax.random.normal(noise_key, points.shape)
            found = programs._score(starts, laws, arms, choices, noise)
            modes, points, lost = (np.asarray(part) for part in found)
            unsolved = int(lost)
        return replace(
            self,
            points=points,
            laws=laws,
            counts=counts,
            context_weights=weights,
            recent=recent,
            modes=modes,
            num_unsolved=unsolved,
        )

    def taught(self, answers: Sequence[Answer], key: Key[Array, ""]) -> "LearnedDynamics":
        """Return what is believed after data from before the campaign, however many they are.

        Raises
        ------
        InvalidInputError
            For more incentives than the choices of which are kept.
        """
        most = self.programs.settings.num_recent
        if len(answers) > most:
            raise InvalidInputError(
                "the earlier data have more incentives than parameters can be learned from",
                received=f"{len(answers)}",
                accepted=f"{most} (num_recent of DynamicsSettings) or fewer",
                remedy=f"dynamics=cb.DynamicsSettings(num_recent={len(answers)})",
            )
        found = self.updated(answers, key)
        for number in range(MOST_SCORINGS):
            last, found = found, found.updated((), jax.random.fold_in(key, number))
            if found.modes is None or np.abs(np.median(found.modes - last.modes, 0)).max() < STILL:
                break
        return found

    def draws(self, key: Key[Array, ""], num: int) -> dict[str, np.ndarray]:
        """Return ``num`` draws of all parameters, the law included; laws serve in turn."""
        programs = self.programs
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        every = -(-num // len(self.points))
        chosen = np.concatenate([rng.permutation(len(self.points)) for _ in range(every)])[:num]
        defaults = {
            name: np.broadcast_to(np.asarray(value), (num, *np.shape(value)))
            for name, value in programs.problem.default_parameters.items()
        }
        own = programs._parameters(self.points[chosen])
        found = defaults | {name: np.asarray(value) for name, value in own.items()}
        if self.context_weights is not None:
            found[CONTEXTS] = rng.dirichlet(self.context_weights, num)
        return found | {LAW: self.laws[chosen]}

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `DynamicsPrograms.restored` needs."""
        names = ("points", "laws", "counts", "context_weights", "modes")
        found = {name: getattr(self, name) for name in names}
        kept = {name: np.asarray(value) for name, value in found.items() if value is not None}
        kept["num_unsolved"] = np.asarray(self.num_unsolved)
        return kept | listed("recent", self.recent)


_USED = ("point", "choices")


def _positive(matrix: Array) -> Array:
    """Return a symmetric matrix without its negative directions."""
    values, vectors = jnp.linalg.eigh(matrix)
    return (vectors * jnp.maximum(values, 1e-9)) @ vectors.T
