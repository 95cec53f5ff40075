r"""What is believed while the dynamics are known: particles re-weighted and, at need, moved.

Each round's counts multiply the weights by their likelihood. Where the effective sample size (ESS)
falls below a threshold, particles are resampled and moved by Metropolis steps whose proposals come
from a Student t with their own mean and covariance (Chopin, Biometrika 89, 2002). Where one round
says too much at once, its likelihood is put in by degrees, each chosen so that the ESS stays at the
threshold (Del Moral, Doucet and Jasra, JRSS B 68, 2006). The law of contexts is conjugate where its
prior is a Dirichlet.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Float, Key
from scipy.special import gammaln, logsumexp

from cbrl_bayes.campaigns.answers import Answer, merged
from cbrl_bayes.campaigns.likelihood import CONTEXTS, AnswerLikelihood, choices_see_contexts
from cbrl_bayes.errors import require_ranges
from cbrl_bayes.inference import Prior
from cbrl_bayes.inference.prior_law import PriorLaw, dirichlet_weights
from cbrl_bayes.problems import Problem

DEGREES_OF_FREEDOM = 5.0
MOST_MOVES = 12


@dataclass(frozen=True)
class ParticleSettings:
    """How beliefs are kept while the dynamics are known.

    Parameters
    ----------
    num_particles : int
        >= 20.
    least_share : float
        In (0, 1): an ESS below this share of the particles calls for moves.
    acceptance : float
        > 0: moves go on until their acceptance rates add up to it, at most 12 of them.
    """

    num_particles: int = 400
    least_share: float = 0.5
    acceptance: float = 2.0

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "settings of the particles",
            num_particles=">= 20",
            least_share="(0, 1)",
            acceptance="> 0",
        )


@dataclass
class ParticlePrograms:
    """Compiled parts that all beliefs of one problem share; see `AnswerLikelihood`."""

    problem: Problem
    priors: Mapping[str, Prior]
    settings: ParticleSettings = field(default_factory=ParticleSettings)
    with_moves: bool | None = None

    def __post_init__(self) -> None:
        weights = dirichlet_weights(self.priors.get(CONTEXTS))
        if weights is not None and choices_see_contexts(self.problem):
            weights = None  # then the law of contexts is one of the points
        rest = {n: p for n, p in self.priors.items() if weights is None or n != CONTEXTS}
        law = PriorLaw(rest, self.problem.followers.num_followers)
        self.context_weights = weights
        self.law = law
        self.likelihood = AnswerLikelihood(self.problem, law, weights is None, self.with_moves)
        self._density = jax.jit(jax.vmap(law.log_density))
        self._parameters = jax.jit(jax.vmap(law.parameters))

    def first(self, key: Key[Array, ""]) -> "Particles":
        """Return draws from the prior."""
        num = self.settings.num_particles
        weights = self.context_weights
        counts = np.zeros(self.problem.contexts.num_contexts)
        points = np.asarray(self.law.draw(key, num))
        return Particles(self, points, np.zeros(num), np.zeros(num), weights, (), counts)

    def restored(self, arrays: Mapping[str, np.ndarray]) -> "Particles":
        """Return the belief that `Particles.arrays` wrote down."""
        names = [n for n in Answer._fields if f"answer_{n}" in arrays]
        num = len(arrays["answer_steps"]) if names else 0
        answers = [Answer(*(arrays[f"answer_{n}"][i] for n in Answer._fields)) for i in range(num)]
        return Particles(
            programs=self,
            points=arrays["points"],
            log_weight=arrays["log_weight"],
            log_likelihood=arrays["log_likelihood"],
            context_weights=arrays.get("context_weights"),
            answers=tuple(answers),
            contexts=arrays["contexts"],
            log_evidence=float(arrays["log_evidence"]),
            num_moves=int(arrays["num_moves"]),
            acceptance=float(arrays["acceptance"]),
            num_unsolved=int(arrays["num_unsolved"]),
        )

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return the log prior density of each."""
        return np.asarray(self._density(points)) if points.shape[1] else np.zeros(len(points))

    def parameters(self, points: np.ndarray) -> dict[str, np.ndarray]:
        """Return the parameters of each."""
        found = self._parameters(points)
        return {name: np.asarray(value) for name, value in found.items()}


@dataclass(frozen=True)
class Particles:
    """What is believed: weighted points, and the counts of contexts.

    Attributes
    ----------
    points : array, shape (N, d)
        On the real line (`PriorLaw`).
    log_weight : array, shape (N,)
    log_likelihood : array, shape (N,)
        Of all answers so far.
    context_weights : array, shape (C,), optional
        Dirichlet of the contexts' law; None where it is among the points, or known.
    answers : tuple of Answer
        One for each incentive that was in force; the same again adds to its counts.
    contexts : array, shape (C,)
        Episodes begun in each.
    log_evidence : float
        Log marginal likelihood of all answers, up to a constant of the data.
    num_moves, acceptance : int, float
        Metropolis steps so far, and the acceptance rate of the last.
    num_unsolved : int
        Best responses of the last update that did not converge.
    """

    programs: ParticlePrograms
    points: Float[np.ndarray, "draw coordinate"]
    log_weight: Float[np.ndarray, " draw"]
    log_likelihood: Float[np.ndarray, " draw"]
    context_weights: Float[np.ndarray, " context"] | None
    answers: tuple[Answer, ...]
    contexts: Float[np.ndarray, " context"]
    log_evidence: float = 0.0
    num_moves: int = 0
    acceptance: float = float("nan")
    num_unsolved: int = 0

    @property
    def num_distinct(self) -> int:
        """Particles that differ: resampling makes copies, which moves part again."""
        return len(np.unique(self.points, axis=0))

    @property
    def effective_size(self) -> float:
        """Effective sample size of the weights."""
        return _effective_size(self.log_weight)

    def updated(self, answers: Sequence[Answer], key: Key[Array, ""]) -> "Particles":
        """Return what is believed after one more round."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        fresh, unsolved = self.programs.likelihood(self.points, answers)
        now, share = replace(self, num_unsolved=unsolved), 0.0
        least = self.programs.settings.least_share * len(self.points)
        while share < 1.0:
            step = _largest_step(now.log_weight, fresh, 1.0 - share, least)
            gained = logsumexp(now.log_weight + step * fresh) - logsumexp(now.log_weight)
            share = 1.0 if step >= 1.0 - share else share + step
            now = replace(
                now,
                log_weight=now.log_weight + step * fresh,
                log_likelihood=now.log_likelihood + step * fresh,
                log_evidence=now.log_evidence + float(gained),
            )
            if now.effective_size < least or share < 1.0:
                now, fresh = now._moved(answers, share, fresh, rng)
        return now._with_counts(answers)

    def taught(self, answers: Sequence[Answer], key: Key[Array, ""]) -> "Particles":
        """Return what is believed after data from before the campaign."""
        return self.updated(answers, key)

    def draws(self, key: Key[Array, ""], num: int) -> dict[str, np.ndarray]:
        """Return ``num`` equally weighted draws of all parameters of the problem."""
        rng = np.random.default_rng(np.asarray(jax.random.key_data(key)))
        chosen = rng.permutation(_resampled(self.log_weight, num, rng))
        problem = self.programs.problem
        defaults = {
            name: np.broadcast_to(np.asarray(value), (num, *np.shape(value)))
            for name, value in problem.default_parameters.items()
        }
        found = defaults | self.programs.parameters(self.points[chosen])
        if self.context_weights is not None:
            found[CONTEXTS] = rng.dirichlet(self.context_weights, num)
        return found

    def arrays(self) -> dict[str, np.ndarray]:
        """Return all that `ParticlePrograms.restored` needs."""
        found: dict[str, Any] = {
            name: np.asarray(getattr(self, name))
            for name in ("points", "log_weight", "log_likelihood", "contexts")
        }
        numbers = ("log_evidence", "num_moves", "acceptance", "num_unsolved")
        found |= {name: np.asarray(float(getattr(self, name))) for name in numbers}
        if self.context_weights is not None:
            found["context_weights"] = self.context_weights
        return found | listed("answer", self.answers)

    def _moved(
        self, fresh: Sequence[Answer], share: float, own: np.ndarray, rng: np.random.Generator
    ) -> tuple["Particles", np.ndarray]:
        """Resample and move, with ``share`` of the fresh answers' likelihood in the target."""
        programs = self.programs
        chosen = _resampled(self.log_weight, len(self.points), rng)
        points, likelihood, own = self.points[chosen], self.log_likelihood[chosen], own[chosen]
        target = programs.log_density(points) + likelihood
        proposal = _Student.like(points)
        total, moves, rate, unsolved = 0.0, 0, np.nan, self.num_unsolved
        while total < programs.settings.acceptance and moves < MOST_MOVES and points.shape[1]:
            tried = proposal.draw(len(points), rng)
            new, lost = programs.likelihood(tried, fresh)
            old, lost_before = programs.likelihood(tried, self.answers)
            old, unsolved = old + share * new, unsolved + lost + lost_before
            at_tried = programs.log_density(tried) + old
            ratio = at_tried - target + proposal.log_density(points) - proposal.log_density(tried)
            taken = np.log(rng.uniform(size=len(points))) < ratio
            points = np.where(taken[:, None], tried, points)
            likelihood, own = np.where(taken, old, likelihood), np.where(taken, new, own)
            target = np.where(taken, at_tried, target)
            rate = float(taken.mean())
            total, moves = total + rate, moves + 1
        after = replace(
            self,
            points=points,
            log_weight=np.zeros(len(points)),
            log_likelihood=likelihood,
            num_moves=self.num_moves + moves,
            acceptance=rate,
            num_unsolved=unsolved,
        )
        return after, own

    def _with_counts(self, answers: Sequence[Answer]) -> "Particles":
        """Return the same with the round's counts among those that are kept."""
        kept = list(self.answers)
        begun = np.sum([answer.contexts for answer in answers], axis=0)
        for answer in answers:
            same = [i for i, old in enumerate(kept) if np.array_equal(old.point, answer.point)]
            if same:
                old = kept[same[0]]
                summed = {n: getattr(old, n) + getattr(answer, n) for n in Answer._fields[1:]}
                kept[same[0]] = old._replace(**summed)
            else:
                kept.append(answer)
        weights, evidence = self.context_weights, self.log_evidence
        if weights is not None:
            evidence += dirichlet_evidence(weights, begun)
            weights = weights + begun
        return replace(
            self,
            answers=tuple(kept),
            contexts=self.contexts + begun,
            context_weights=weights,
            log_evidence=float(evidence),
        )


@dataclass(frozen=True)
class _Student:
    """A multivariate Student t with five degrees of freedom."""

    mean: np.ndarray
    root: np.ndarray

    @classmethod
    def like(cls, points: np.ndarray) -> "_Student":
        """Return the one with the points' mean and covariance."""
        size = points.shape[1]
        covariance = np.atleast_2d(np.cov(points, rowvar=False)) if size else np.zeros((0, 0))
        # All particles may be copies of few: some width is left then.
        width = np.maximum(np.diag(covariance), 1e-10)
        jitter = 1e-6 * np.diag(width)
        return cls(points.mean(0), np.linalg.cholesky(covariance + jitter))

    def draw(self, num: int, rng: np.random.Generator) -> np.ndarray:
        normal = rng.normal(size=(num, len(self.mean)))
        heavy = np.sqrt(DEGREES_OF_FREEDOM / rng.chisquare(DEGREES_OF_FREEDOM, size=(num, 1)))
        return self.mean + (normal * heavy) @ self.root.T

    def log_density(self, points: np.ndarray) -> np.ndarray:
        """Return it up to a constant."""
        away = np.linalg.solve(self.root, (points - self.mean).T)
        power = (DEGREES_OF_FREEDOM + len(self.mean)) / 2.0
        return -power * np.log1p((away**2).sum(0) / DEGREES_OF_FREEDOM)


def _effective_size(log_weight: np.ndarray) -> float:
    total, square = logsumexp(log_weight), logsumexp(2.0 * log_weight)
    return float(np.exp(2.0 * total - square))


def _largest_step(
    log_weight: np.ndarray, gain: np.ndarray, most: float, least: float, turns: int = 40
) -> float:
    """Return the largest power of the gain, at most ``most``, that leaves the ESS at ``least``."""
    if _effective_size(log_weight + most * gain) >= least:
        return most
    if _effective_size(log_weight) <= least:
        # Weights are uneven already: all of it at once if it is little, else a tenth.
        enough = _effective_size(log_weight + most * gain) >= 0.5 * least
        return most if enough else 0.1 * most
    low, high = 0.0, most
    for _ in range(turns):
        middle = 0.5 * (low + high)
        fine = _effective_size(log_weight + middle * gain) >= least
        low, high = (middle, high) if fine else (low, middle)
    return max(low, 1e-9 * most)


def _resampled(log_weight: np.ndarray, num: int, rng: np.random.Generator) -> np.ndarray:
    """Return indices by systematic resampling."""
    weight = np.exp(log_weight - logsumexp(log_weight))
    heights = (rng.uniform() + np.arange(num)) / num
    return np.minimum(np.searchsorted(np.cumsum(weight), heights), len(weight) - 1)


def dirichlet_evidence(weights: np.ndarray, counts: np.ndarray) -> float:
    """Return the log probability of counted contexts in some order."""
    total = gammaln(weights.sum()) - gammaln(weights.sum() + counts.sum())
    return float(total + (gammaln(weights + counts) - gammaln(weights)).sum())


def listed(prefix: str, answers: Sequence[Answer]) -> dict[str, np.ndarray]:
    """Return answers as arrays with one leading axis; none where there is no answer."""
    if not answers:
        return {}
    stacked = merged(answers)
    return {f"{prefix}_{n}": np.asarray(v, float) for n, v in stacked._asdict().items()}


Belief = Any
"""`Particles` or `LearnedDynamics`: both have ``draws``, ``updated`` and ``effective_size``."""
