"""Preference learning: a reward model for a policy whose own answers are what humans compare."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

NEVER = -1e6  # a finite log probability of what does not occur; its exponential is 0

UNITS = {
    "temperature": "log-odds",
    "rationality": "1 / log-odds",
    "human_reward": "reward",
    "annotator_log_temperature": "log reward",
    "annotator_log_tie": "log odds",
    "context_probability": "probability",
}


def comparison_log_probability(
    difference: Float[Array, "*shape"], log_tie: Float[Array, "*shape"] | float
) -> Float[Array, "*shape 3"]:
    r"""Return log probabilities that the left answer wins, the right one wins, or a tie.

    Davidson's (1970) extension of Bradley and Terry: with difference d and tie strength
    :math:`\nu` the three outcomes have odds :math:`e^{d/2} : e^{-d/2} : \nu`. Given that there
    is no tie, left wins with probability :math:`1/(1 + e^{-d})`.

    Parameters
    ----------
    difference : array
        Reward of the left answer less that of the right one, in units of the annotator's
        temperature.
    log_tie : array or float
        Logarithm of nu; -1e6 for annotators who never tie.

    Returns
    -------
    array
        One more axis than ``difference``: left, right, tie.

    Examples
    --------
    >>> jnp.exp(comparison_log_probability(jnp.array(0.0), 0.0)).round(3).tolist()
    [0.333, 0.333, 0.333]
    """
    tie = jnp.broadcast_to(log_tie, jnp.shape(difference))
    return jax.nn.log_softmax(jnp.stack([difference / 2, -difference / 2, tie], -1))


def rlhf(
    *,
    human_reward: Any = (1.0, 0.0, -1.0),
    annotator_temperature: tuple[float, ...] = (1.0,),
    annotator_tie_strength: tuple[float, ...] | None = None,
    annotator_probability: tuple[float, ...] | None = None,
    kl_temperature: float = 0.5,
    logged_share: float = 0.0,
    available: Any = None,
    reference_policy: Any = None,
    initial_reward: tuple[float, ...] | None = None,
    answer_names: tuple[str, ...] = (),
    prompt_names: tuple[str, ...] = (),
) -> Problem:
    r"""Learn a reward model from comparisons of the answers that its own policy gives.

    **The follower** is a policy over the A answers to a prompt, trained on the reward model x
    with a Kullback-Leibler penalty toward a reference policy. It is a one-step MDP with reward
    :math:`x_a + \lambda \log \pi_{ref}(a)` and temperature :math:`\lambda`, so that
    :math:`\pi_x(a) \propto \pi_{ref}(a)\, e^{x_a/\lambda}`.

    **Contexts** are pairs of prompt i and annotator n. The annotator compares two answers by
    Davidson's model (`comparison_log_probability`) with difference
    :math:`(r_{ia} - r_{ib})/\tau_n` and tie strength :math:`\nu_n`; call its law
    :math:`P^*(o|a,b)`.

    **The leader** picks x and maximises the expected log-likelihood of the comparisons,

    .. math:: F(x) = E_{i,n} \sum_{a,b} q(a) q(b) \sum_o P^*(o|a,b) \log p_x(o|a,b), \qquad
        q = (1 - s)\,\pi_x + s\,\pi_{ref},

    where :math:`p_x` has difference :math:`x_a - x_b` and one tie strength, which is part of x.
    At logged share s = 1 the comparisons are those of a fixed policy and F is the likelihood of
    ordinary reward learning; at s = 0 they are the policy's own, and x also decides **which**
    comparisons are made.

    Parameters
    ----------
    human_reward : array, shape (A,) or (prompts, A)
        r, in any unit; A >= 2. Parameter of the same name, shape (prompts, A). One row serves
        every prompt of ``available`` or ``reference_policy``.
    annotator_temperature : tuple of float
        tau > 0, one per annotator, in the unit of the rewards: only r / tau matters, so divide
        both by one number at will. Parameter ``annotator_log_temperature``.
    annotator_tie_strength : tuple of float, optional
        nu > 0, one per annotator. Default: nobody ties, and x has no tie strength. Parameter
        ``annotator_log_tie``.
    annotator_probability : tuple of float, optional
        Law of the annotators. Default: uniform. Prompts are equally likely.
    kl_temperature : float
        lambda > 0, in units of x (log-odds of a comparison). The parameter ``temperature``.
    logged_share : float
        s in [0, 1].
    available : bool array, shape (prompts, A), optional
        Which answers exist; at least two for each prompt. Default: all.
    reference_policy : array, shape (A,) or (prompts, A), optional
        Weights >= 0, made to sum to one over the answers available. Default: uniform.
    initial_reward : tuple of float, optional
        Where the search for x starts; default: zeros.
    answer_names, prompt_names : tuple of str, optional
        Default: numbers.

    Returns
    -------
    Problem
        Incentives ``reward`` (A values of mean zero, since only differences count) and, where
        there are ties, ``log_tie``.

    Raises
    ------
    InvalidInputError
        For shapes that do not fit, temperatures or tie strengths that are not positive, or a
        prompt with fewer than two answers.

    Notes
    -----
    Both answers are drawn from q independently, so they may be the same one; its comparison
    with itself is a coin toss (or a tie) that no x predicts. The order of presentation is taken
    to be random. Source: Thoma et al., NeurIPS 2024 (arXiv 2406.01575), application to
    reinforcement learning from human feedback; R. R. Davidson, J. Am. Stat. Assoc. 65 (1970).

    Examples
    --------
    >>> from cbrl_bayes.problems import leader_outcome
    >>> problem = rlhf(human_reward=(0.0, 0.0))
    >>> outcome = leader_outcome(problem, problem.incentive.initial, problem.default_parameters)
    >>> round(float(outcome.objective), 6)  # every comparison is a coin toss: -log 2
    -0.693147
    """
    rewards, reference = _tables(human_reward, available, reference_policy)
    num_prompts, num_answers = rewards.shape
    log_temperature = _logs("annotator_temperature", annotator_temperature)
    has_ties = annotator_tie_strength is not None
    log_tie = _logs("annotator_tie_strength", annotator_tie_strength) if has_ties else np.zeros(0)
    start = np.zeros(num_answers) if initial_reward is None else np.asarray(initial_reward, float)
    _check_settings(start, num_answers, kl_temperature, logged_share)
    if has_ties and log_tie.shape != log_temperature.shape:
        raise InvalidInputError(
            "annotator_tie_strength needs one value for each annotator",
            received=len(log_tie),
            accepted=str(len(log_temperature)),
        )
    log_reference = jnp.where(reference > 0, jnp.log(jnp.where(reference > 0, reference, 1)), NEVER)

    def mdp_fn(incentive: Incentive, context: Array, parameters: Parameters) -> MDP:
        temperature = parameters["temperature"]
        return MDP(
            reward=(incentive["reward"] + temperature * log_reference[context[0]])[None],
            transition=DenseTransition(jnp.ones((1, num_answers, 1))),
            initial=jnp.ones(1),
            discount=0.0,
            temperature=temperature,
        )

    def likelihood(
        incentive: Incentive, policy: Array, context: Array, parameters: Parameters
    ) -> Array:
        prompt, annotator = context[0], context[1]
        shown = (1.0 - logged_share) * policy[0] + logged_share * reference[prompt]
        tau = jnp.exp(parameters["annotator_log_temperature"][annotator])
        tie = parameters["annotator_log_tie"][annotator] if has_ties else NEVER
        human = _all_pairs(parameters["human_reward"][prompt] / tau, tie)
        model = _all_pairs(incentive["reward"], incentive["log_tie"] if has_ties else NEVER)
        return shown @ (jnp.exp(human) * model).sum(-1) @ shown

    return Problem(
        name="rlhf",
        incentive=_reward_model(start, answer_names, float(np.mean(log_tie)) if has_ties else None),
        contexts=_contexts(num_prompts, len(log_temperature), annotator_probability, prompt_names),
        mdp_fn=mdp_fn,
        parameters={
            "temperature": kl_temperature,
            "human_reward": rewards,
            "annotator_log_temperature": log_temperature,
        }
        | ({"annotator_log_tie": log_tie} if has_ties else {}),
        objective_fn=likelihood,
        leader_discount=0.0,
        per_follower=(),
        action_names=tuple(answer_names) or tuple(f"answer {a}" for a in range(num_answers)),
        objective_unit="log-likelihood per comparison",
        parameter_units={n: u for n, u in UNITS.items() if has_ties or n != "annotator_log_tie"},
        uncertain=(),
    )


def _all_pairs(reward: Array, log_tie: Array | float) -> Float[Array, "left right 3"]:
    return comparison_log_probability(reward[:, None] - reward[None, :], log_tie)


def _reward_model(
    start: np.ndarray, names: tuple[str, ...], log_tie: float | None
) -> IncentiveSpace:
    """Describe rewards of mean zero, and a tie strength where there is one to start from."""
    answers = tuple(names) or tuple(map(str, range(len(start))))
    if len(answers) != len(start):
        raise InvalidInputError(
            "answer_names do not fit the rewards",
            received=len(answers),
            accepted=f"{len(start)} names",
        )
    initial = {"reward": jnp.asarray(start)}
    labels = {
        "reward": Labels(
            ("answer",),
            {"answer": (("answer",), answers)},
            unit="log-odds",
            description="reward model",
        )
    }
    if log_tie is not None:
        initial["log_tie"] = jnp.asarray(log_tie)
        labels["log_tie"] = Labels(unit="log odds", description="log tie strength of the model")
    return IncentiveSpace(
        initial=initial,
        transform=lambda x: {**x, "reward": x["reward"] - x["reward"].mean()},
        labels=labels,
        start_scale=0.5,
        scale=1.0,
    )


def _contexts(
    num_prompts: int, num_annotators: int, law: tuple[float, ...] | None, names: tuple[str, ...]
) -> DiscreteContexts:
    """List every prompt with every annotator, annotators fastest."""
    prompts = tuple(names) or tuple(f"prompt {i}" for i in range(num_prompts))
    weights = np.full(num_annotators, 1.0 / num_annotators) if law is None else np.asarray(law)
    if len(prompts) != num_prompts or weights.shape != (num_annotators,):
        raise InvalidInputError(
            "prompts and annotators need one name and one probability each",
            received=f"{len(prompts)} names, {weights.size} probabilities",
            accepted=f"{num_prompts} prompts, {num_annotators} annotators",
        )
    pairs = [(i, n) for i in range(num_prompts) for n in range(num_annotators)]
    return DiscreteContexts(
        tuple(f"{prompts[i]}, annotator {n}" for i, n in pairs),
        jnp.asarray(pairs),
        tuple(np.tile(weights / num_prompts, num_prompts)),
    )


def _tables(human_reward: Any, available: Any, reference: Any) -> tuple[Array, Array]:
    """Return rewards and the reference policy, both of shape (prompts, answers)."""
    rewards = np.atleast_2d(np.asarray(human_reward, float))
    exists = np.ones((1, rewards.shape[-1])) if available is None else np.asarray(available)
    weights = np.ones(rewards.shape[-1:]) if reference is None else np.asarray(reference, float)
    # Any of the three may tell how many prompts there are; what is given once holds for all.
    tables = (rewards, exists, weights)
    prompts = max((len(table) for table in tables if table.ndim == 2), default=1)
    rewards, exists, weights = (
        np.repeat(np.atleast_2d(table), prompts if np.atleast_2d(table).shape[0] == 1 else 1, 0)
        for table in tables
    )
    if rewards.ndim != 2 or rewards.shape != exists.shape or rewards.shape != weights.shape:
        raise InvalidInputError(
            "rewards, availability and reference policy do not fit one another",
            received=f"shapes {rewards.shape}, {exists.shape}, {weights.shape}",
            accepted="(prompts, answers) each",
        )
    if not np.isfinite(rewards).all() or not np.isfinite(weights).all() or (weights < 0).any():
        raise InvalidInputError(
            "rewards must be finite, weights of the reference policy finite and >= 0"
        )
    shown = weights * exists.astype(bool)
    few = np.flatnonzero((shown > 0).sum(1) < 2)
    if few.size:
        raise InvalidInputError(
            "a comparison needs two answers that are available and that the reference policy gives",
            received=f"fewer for prompts {few.tolist()}",
        )
    return jnp.asarray(rewards), jnp.asarray(shown / shown.sum(1, keepdims=True))


def _logs(name: str, values: Any) -> np.ndarray:
    array = np.asarray(values, float)
    if array.ndim != 1 or not array.size or not np.isfinite(array).all() or (array <= 0).any():
        raise InvalidInputError(
            f"{name} cannot be used",
            received=values,
            accepted="one finite number > 0 per annotator",
        )
    return np.log(array)


def _check_settings(
    start: np.ndarray, num_answers: int, kl_temperature: float, logged_share: float
) -> None:
    if start.shape != (num_answers,) or not np.isfinite(start).all():
        raise InvalidInputError(
            "initial_reward does not fit the answers",
            received=start.tolist(),
            accepted=f"{num_answers} finite numbers",
        )
    if not (np.isfinite(kl_temperature) and kl_temperature > 0):
        raise InvalidInputError(
            "kl_temperature is not positive", received=kl_temperature, accepted="> 0"
        )
    if not 0.0 <= logged_share <= 1.0:
        raise InvalidInputError(
            "logged_share is out of range", received=logged_share, accepted="[0, 1]"
        )
