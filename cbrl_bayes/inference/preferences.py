"""Rewards and annotators' rationality from pairwise comparisons: a NumPyro model and its fit."""

import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, Key

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.inference.fit import FitDraws
from cbrl_bayes.inference.nuts import NUTSSettings, run_nuts
from cbrl_bayes.problems.rlhf import NEVER, comparison_log_probability
from cbrl_bayes.progress import Progress, reporter

ROW = ("prompt", "left", "right", "annotator")


@dataclass(frozen=True)
class PreferenceModel:
    r"""Comparisons of answers by annotators who differ in rationality and in how often they tie.

    Annotator n shown answers a (left) and b (right) to prompt i says left, right or tie with
    log-odds :math:`(d + h)/2`, :math:`-(d + h)/2` and :math:`\log\nu_n`, where
    :math:`d = (r_{ia} - r_{ib})/\tau_n` (`comparison_log_probability`) and h is the pull of the
    left-hand place. With :math:`z` standard normal throughout,

    - rewards :math:`r_{ia} = \rho_a + \delta_{ia}`, :math:`\rho` normal with standard deviation
      ``reward_spread``, :math:`\delta_{ia} = ` ``prompt_spread`` :math:`z_{ia}`;
    - temperatures :math:`\log\tau_n = ` ``temperature_spread`` :math:`z_n`;
    - ties :math:`\log\nu_n = ` ``tie_population`` + ``tie_spread`` :math:`z_n`.

    **What comparisons do not reveal** is fixed: rewards have mean zero in every prompt (only
    differences matter), and temperatures have geometric mean one (only r / tau matters), so
    rewards are in units of the average annotator's temperature: their difference is the
    log-odds of a decided comparison.

    Parameters
    ----------
    rows : int array, shape (M, 4)
        Prompt, left answer, right answer, annotator; each an index from 0.
    counts : array, shape (M, 3)
        How often left, right and tie were said; >= 0. Without any ties the model has none.
    num_prompts, num_answers, num_annotators : int
        At least 1, 2 and 1; they may exceed what the rows show.
    one_temperature, one_tie_strength, one_reward : bool
        Whether all annotators share a temperature (one, then), or a tie strength, and whether
        answers are equally good for every prompt. Spreads that are not there are left out.
    """

    rows: Int[np.ndarray, "row 4"]
    counts: Float[np.ndarray, "row 3"]
    num_prompts: int
    num_answers: int
    num_annotators: int
    one_temperature: bool = False
    one_tie_strength: bool = False
    one_reward: bool = True

    def __post_init__(self) -> None:
        sizes = (self.num_prompts, self.num_answers, self.num_answers, self.num_annotators)
        rows, counts = np.asarray(self.rows), np.asarray(self.counts, float)
        if rows.ndim != 2 or rows.shape[1:] != (4,) or counts.shape != (len(rows), 3):
            raise InvalidInputError(
                "comparisons have the wrong shape",
                received=f"rows {rows.shape}, counts {counts.shape}",
                accepted="(M, 4) and (M, 3)",
            )
        if not len(rows) or (rows < 0).any() or (rows >= sizes).any():
            raise InvalidInputError(
                "indices of comparisons are out of range",
                received=f"smallest {rows.min(0, initial=0).tolist()}, "
                f"largest {rows.max(0, initial=-1).tolist()}",
                accepted=f"at least one row; prompt, left, right, annotator from 0, below {sizes}",
            )
        if (rows[:, 1] == rows[:, 2]).any():
            raise InvalidInputError("an answer is compared with itself")
        if not np.isfinite(counts).all() or (counts < 0).any():
            raise InvalidInputError("counts are out of range", accepted="finite numbers >= 0")

    @property
    def has_ties(self) -> bool:
        """Whether anyone ever ties."""
        return bool(np.asarray(self.counts)[:, 2].any())

    def __call__(self, condition: bool = True, counts: Array | None = None) -> None:
        """Run the model inside NumPyro; without data it draws from the prior.

        ``counts`` take the place of the model's own, for programs that are compiled once and
        run for many data sets.
        """
        parameters = self._draw()
        if condition:
            given = jnp.asarray(self.counts) if counts is None else counts
            table = self.log_probability(parameters, self.rows)
            numpyro.factor("comparisons", (given * table).sum())

    def _draw(self) -> dict[str, Array]:
        spread = numpyro.sample("reward_spread", dist.HalfNormal(2.0))
        answers = dist.ZeroSumNormal(spread, event_shape=(self.num_answers,))
        reward = numpyro.sample("reward", answers)
        rewards = jnp.broadcast_to(reward, (self.num_prompts, self.num_answers))
        if not self.one_reward:
            scale = numpyro.sample("prompt_spread", dist.HalfNormal(1.0))
            one_prompt = dist.ZeroSumNormal(1.0, event_shape=(self.num_answers,))
            # Few judgements of each: standardised they sample better than as they are.
            offset = numpyro.sample(
                "prompt_offset", one_prompt.expand([self.num_prompts]).to_event(1)
            )
            rewards = rewards + scale * offset
        found = {
            "human_reward": rewards,
            "left_pull": numpyro.sample("left_pull", dist.Normal(0.0, 0.5)),
        }
        numpyro.deterministic("human_reward", rewards)
        if self.one_temperature:
            logs = jnp.zeros(self.num_annotators)
            found["annotator_log_temperature"] = numpyro.deterministic(
                "annotator_log_temperature", logs
            )
        else:
            scale = numpyro.sample("temperature_spread", dist.HalfNormal(1.0))
            # An annotator's judgements say little of a temperature: standardised as well.
            people = dist.ZeroSumNormal(1.0, event_shape=(self.num_annotators,))
            offset = numpyro.sample("temperature_offset", people)
            found["annotator_log_temperature"] = numpyro.deterministic(
                "annotator_log_temperature", scale * offset
            )
        if self.has_ties:
            found["annotator_log_tie"] = self._draw_ties()
        return found

    def _draw_ties(self) -> Array:
        log_tie = numpyro.sample("tie_population", dist.Normal(0.0, 1.0))
        if self.one_tie_strength:
            ties = jnp.broadcast_to(log_tie, self.num_annotators)
            return numpyro.deterministic("annotator_log_tie", ties)
        scale = numpyro.sample("tie_spread", dist.HalfNormal(1.0))
        people = dist.Normal(log_tie, scale).expand([self.num_annotators]).to_event(1)
        return numpyro.sample("annotator_log_tie", people)

    def log_probability(
        self, parameters: Mapping[str, Any], rows: Int[np.ndarray, "row 4"]
    ) -> Float[Array, "row 3"]:
        """Return log probabilities of left, right and tie in each row.

        Parameters
        ----------
        parameters : mapping
            ``human_reward`` (prompts, answers), ``annotator_log_temperature`` (annotators,),
            ``left_pull`` and, with ties, ``annotator_log_tie`` (annotators,).
        rows : int array, shape (M, 4)
            The model's own or others, such as held-out ones.

        Returns
        -------
        array, shape (M, 3)
        """
        prompt, left, right, annotator = jnp.asarray(rows).T
        reward = parameters["human_reward"]
        tau = jnp.exp(parameters["annotator_log_temperature"][annotator])
        difference = (reward[prompt, left] - reward[prompt, right]) / tau
        tie = parameters["annotator_log_tie"][annotator] if self.has_ties else NEVER
        return comparison_log_probability(difference + parameters["left_pull"], tie)


def count_comparisons(
    rows: Int[np.ndarray, "judgement 4"], outcome: Int[np.ndarray, " judgement"]
) -> tuple[Int[np.ndarray, "row 4"], Float[np.ndarray, "row 3"]]:
    """Gather equal rows and count left (0), right (1) and tie (2) among their outcomes.

    Raises
    ------
    InvalidInputError
        For other outcomes, or a number of them that is not that of the rows.

    Examples
    --------
    >>> rows, counts = count_comparisons(np.array([[0, 1, 2, 0], [0, 1, 2, 0]]), np.array([0, 2]))
    >>> rows.tolist(), counts.tolist()
    ([[0, 1, 2, 0]], [[1.0, 0.0, 1.0]])
    """
    rows, outcome = np.asarray(rows), np.asarray(outcome)
    if outcome.shape != rows.shape[:1] or not np.isin(outcome, (0, 1, 2)).all():
        raise InvalidInputError(
            "outcomes do not fit the judgements",
            received=f"{rows.shape[0]} rows, outcomes of shape {outcome.shape} with values "
            f"{np.unique(outcome)[:5].tolist()}",
            accepted="0 (left), 1 (right) or 2 (tie) for each row",
        )
    distinct, place = np.unique(rows, axis=0, return_inverse=True)
    counts = np.zeros((len(distinct), 3))
    np.add.at(counts, (place.ravel(), outcome.astype(int)), 1.0)
    return distinct, counts


def ties_as_half_wins(counts: Float[np.ndarray, "row 3"]) -> Float[np.ndarray, "row 3"]:
    """Replace each tie by half a win of either side, the usual shortcut.

    Examples
    --------
    >>> ties_as_half_wins(np.array([[2.0, 0.0, 1.0]])).tolist()
    [[2.5, 0.5, 0.0]]
    """
    counts = np.asarray(counts, float)
    return np.column_stack([counts[:, :2] + counts[:, 2:] / 2, np.zeros(len(counts))])


def fit_preferences(
    model: PreferenceModel,
    *,
    key: Key[Array, ""],
    settings: NUTSSettings | None = None,
    progress: Progress = None,
) -> FitDraws:
    """Draw from the posterior by NUTS.

    Parameters
    ----------
    model : PreferenceModel
    key : typed key
    settings : NUTSSettings, optional
        Default: 2 chains, 500 steps each of warm-up and sampling.
    progress : bool or callable, optional
        See `cbrl_bayes.progress.reporter`.

    Returns
    -------
    FitDraws
        ``posterior`` and ``sample_stats``; the log-likelihood and the predictive groups are
        left empty (`PreferenceModel.log_probability` gives the former for any rows).
    """
    begun = time.perf_counter()
    chosen = settings or NUTSSettings(num_chains=2)
    with reporter(progress) as report:
        posterior, stats = run_nuts(model, key=key, settings=chosen, report=report)
    return FitDraws(
        posterior=posterior,
        sample_stats=stats,
        log_likelihood={},
        posterior_predictive={},
        prior={},
        prior_predictive={},
        seconds=time.perf_counter() - begun,
    )
