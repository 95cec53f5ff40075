"""Two options and learners: when to give which reward so that one option is taken more often."""

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import MDP, DenseTransition, finite_horizon
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.delta_rule import DeltaRule
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

OPTIONS = ("target", "other")
NUM_HALVINGS = 60


def two_option_learning(
    *,
    num_trials: int = 100,
    budgets: tuple[float, float] = (25.0, 25.0),
    largest_reward: float = 1.0,
    learning_rate: float = 0.2,
    temperature: float = 0.2,
    habit: float = 0.0,
    initial_value: float = 0.0,
    learns: bool = True,
    num_values: int = 33,
) -> Problem:
    r"""Schedule rewards over the trials so that learners take the target option more often.

    **The follower** chooses between the options *target* and *other* in every trial, and gets what
    the schedule holds for the option it took. It does not know the schedule: it learns by the
    delta rule and may have a habit (`DeltaRule`). With ``learns=False`` it knows the schedule and
    responds at best, :math:`\pi_t(a) \propto \exp(r_{t,a} / \lambda)`: the static follower to
    compare with.

    **The leader** chooses the schedule: :math:`r_{t,a}` in [0, ``largest_reward``], which sums to
    the budget of each option over the trials. Both budgets are spent, so that what counts is the
    time. Its objective is the expected number of choices of the target. What learners do not
    collect is lost to them, and no gain of the leader's.

    Parameters
    ----------
    num_trials : int
        T >= 2.
    budgets : tuple of float
        Sum of the rewards of each option over the trials, in units of reward; above 0 and below
        ``num_trials * largest_reward``.
    largest_reward : float
        > 0, in units of reward.
    learning_rate : float
        alpha in (0, 1), per trial.
    temperature : float
        lambda > 0, in units of reward; rationality is 1/lambda.
    habit : float
        Bonus for the option taken last, in units of reward. Known (0) unless it gets a prior.
    initial_value : float
        What learners hold both options for before the first trial, in units of reward; known.
    learns : bool
        Whether followers learn, or know the schedule.
    num_values : int
        As in `DeltaRule`.

    Returns
    -------
    Problem
        Parameters ``temperature`` and, of learners, ``learning_rate``, ``habit`` and
        ``initial_value``.

    Raises
    ------
    InvalidInputError
        For settings out of range.

    Notes
    -----
    After Dan and Loewenstein (2019), *From choice architecture to choice engineering*, Nature
    Communications, doi 10.1038/s41467-019-10825-6: 100 trials and 25 rewards for each option,
    which are 0 or 1 there and any number between here. An episode is the whole session of one
    learner, from the first trial on; its regime is the schedule. The problem stands outside the
    list of ready-made problems that all estimators are tested on: they follow the best response
    of one MDP, and learners have none. Use `cbrl_bayes.Exact`.

    Examples
    --------
    >>> from cbrl_bayes.problems import leader_outcome
    >>> problem = two_option_learning(num_trials=2, budgets=(1.0, 1.0))
    >>> start = problem.incentive.initial  # an even schedule
    >>> round(float(leader_outcome(problem, start, problem.default_parameters).objective), 6)
    1.0
    """
    learner = {"learning_rate": learning_rate, "habit": habit, "initial_value": initial_value}
    _check_settings(num_trials, budgets, largest_reward, {"temperature": temperature} | learner)
    target = jnp.zeros((num_trials, 2)).at[:, 0].set(1.0)

    def mdp_fn(incentive: Incentive, context: Array, parameters: Parameters) -> MDP:
        return finite_horizon(
            reward=incentive["reward"][:, None, :],
            transition=DenseTransition(jnp.ones((1, 2, 1))),
            initial=jnp.ones(1),
            discount=1.0,
            temperature=parameters["temperature"],
            num_periods=num_trials,
        )

    trials = tuple(range(1, num_trials + 1))
    return Problem(
        name="two_option_learning" if learns else "two_option_choice",
        incentive=_schedule(num_trials, budgets, largest_reward),
        contexts=DiscreteContexts(("session",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature} | (learner if learns else {}),
        leader_reward_fn=lambda incentive, context, parameters: target,
        leader_discount=1.0,
        per_follower=("temperature", *(("learning_rate", "habit") if learns else ())),
        state_labels=Labels(("state",), {"trial": (("state",), trials)}),
        action_names=OPTIONS,
        objective_unit="choices of the target",
        parameter_units={
            "temperature": "reward",
            "rationality": "1 / reward",
            "learning_rate": "per trial",
            "habit": "reward",
            "initial_value": "reward",
            "context_probability": "probability",
        },
        ranges={"learning_rate": (0.0, 1.0)} if learns else {},
        uncertain=("temperature", *(("learning_rate",) if learns else ())),
        response_fn=DeltaRule(num_values) if learns else None,
    )


def spend(
    unconstrained: Float[Array, " trial"], budget: float, largest: float
) -> Float[Array, " trial"]:
    r"""Return rewards :math:`r_t = R\,\sigma(x_t + \nu)` that sum to the budget.

    Parameters
    ----------
    unconstrained : array, shape (T,)
        x, without unit.
    budget : float
        Between 0 and T R, both excluded, in units of reward.
    largest : float
        R > 0, in units of reward.

    Returns
    -------
    array, shape (T,)
        Each between 0 and R.

    Examples
    --------
    >>> spend(jnp.array([0.0, 0.0, 5.0, -9.0]), 2.0, 1.0).sum().round(9).item()
    2.0
    """
    wanted = budget / largest

    def halve(ends: tuple[Array, Array], _: None) -> tuple[tuple[Array, Array], None]:
        middle = (ends[0] + ends[1]) / 2.0
        much = jax.nn.sigmoid(unconstrained + middle).sum() > wanted
        return (jnp.where(much, ends[0], middle), jnp.where(much, middle, ends[1])), None

    reach = 40.0 + jnp.log(unconstrained.size)
    ends = -unconstrained.max() - reach, -unconstrained.min() + reach
    (low, high), _ = jax.lax.scan(halve, jax.lax.stop_gradient(ends), None, NUM_HALVINGS)
    shift = (low + high) / 2.0
    for _ in range(2):  # steps of Newton from the root leave it, and bring its derivatives in
        share = jax.nn.sigmoid(unconstrained + shift)
        slope = jnp.maximum((share * (1.0 - share)).sum(), 1e-30)
        shift = shift - (share.sum() - wanted) / slope
    return largest * jax.nn.sigmoid(unconstrained + shift)


def _schedule(num_trials: int, budgets: tuple[float, float], largest: float) -> IncentiveSpace:
    trials = tuple(range(1, num_trials + 1))

    def transform(unconstrained: dict[str, Array]) -> dict[str, Array]:
        each = [
            spend(unconstrained["reward"][:, option], budget, largest)
            for option, budget in enumerate(budgets)
        ]
        return {"reward": jnp.stack(each, axis=1)}

    return IncentiveSpace(
        initial={"reward": jnp.zeros((num_trials, 2))},
        transform=transform,
        labels={
            "reward": Labels(
                ("trial", "option"),
                {"trial": (("trial",), trials), "option": (("option",), OPTIONS)},
                unit="reward",
                description="what the option gives in this trial if it is taken",
            )
        },
        start_scale=1.0,
        scale=1.0,
    )


def _check_settings(
    num_trials: int, budgets: tuple[float, float], largest: float, parameters: dict[str, float]
) -> None:
    require_ranges(
        {"num_trials": num_trials, "largest_reward": largest, **parameters},
        "settings of two_option_learning",
        num_trials=">= 2",
        largest_reward="(0, inf)",
        learning_rate="(0, 1)",
        temperature="(0, inf)",
        habit="(-inf, inf)",
        initial_value="(-inf, inf)",
    )
    most = num_trials * largest
    numbers = np.asarray(budgets).dtype.kind in "iuf"
    numbers &= np.shape(budgets) == (2,)
    if not numbers or not all(0.0 < budget < most for budget in budgets):
        raise InvalidInputError(
            "budgets of two_option_learning cannot be spent",
            received=budgets,
            accepted=f"two numbers above 0 and below {most:g}, which is num_trials times "
            "largest_reward",
        )
