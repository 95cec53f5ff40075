"""Bus engine replacement: a subsidy toward each replacement, on Rust's (1987) model of demand."""

import jax.numpy as jnp
import numpy as np

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.mdp import MDP, SuccessorTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

MILES_PER_BIN = 5000
KEEP, REPLACE = 0, 1


def bus_replacement(
    *,
    RC: float = 10.0,
    theta11: float = 2.5,
    increment_probability: tuple[float, ...] = (0.39, 0.6, 0.01),
    target_mileage: float = 200_000,
    late_cost: float = 0.05,
    largest_subsidy: float = 0.9,
    replacement_cost_dollars: float | None = None,
    num_bins: int = 90,
    discount: float = 0.9999,
    leader_discount: float = 0.9999,
) -> Problem:
    r"""Subsidise engine replacements so that they happen before a target mileage.

    **The follower** decides each month to keep a bus's engine or replace it. State: mileage
    since the last replacement, in bins of 5,000 miles. In Rust's units utility is
    :math:`-.001\,\theta_{11}\,\mathrm{bin}` for keeping and :math:`-RC` for replacing, with
    extreme-value noise of scale 1. **Estimated from behaviour**: RC and theta11 (and the law
    of monthly mileage increments). Only utility relative to the noise is identified; dividing
    by RC gives the same behaviour with money counted in replacement costs: replacing costs 1,
    and the **temperature is lambda = 1/RC** (rationality = RC). The record is in these units.

    **The leader** pays a share of the replacement cost at every replacement made before
    ``target_mileage`` and loses ``late_cost`` for each month a bus runs beyond it. Its
    objective is minus the expected cost per bus-month, ``(1 - gamma_U)`` times the discounted
    sum, in units of RC, or in dollars where ``replacement_cost_dollars`` says what one
    replacement costs. (That figure is the user's; behaviour does not reveal it.)

    Parameters
    ----------
    RC, theta11 : float
        > 0, in units of the noise scale. Defaults: round numbers of the size that Rust (1987)
        found; the priors of `infer` are centred on them.
    increment_probability : tuple of float
        Law of the monthly increment of 0, 1, 2, ... bins.
    target_mileage : float
        m, in miles since replacement.
    late_cost : float
        Leader's loss per bus and month beyond m, units of RC, > 0.
    largest_subsidy : float
        Upper bound of the subsidy, units of RC, in (0, 1].
    replacement_cost_dollars : float, optional
        Dollars one replacement costs; then subsidy and objective are reported in dollars.
    num_bins : int
        Number of mileage bins.
    discount, leader_discount : float
        Per month, in [0, 1).

    Returns
    -------
    Problem
        Parameters ``RC``, ``theta11`` and ``increment_probability``; one context.

    Examples
    --------
    >>> problem = bus_replacement()
    >>> subsidy = problem.incentive.transform(problem.incentive.initial)["subsidy"]
    >>> round(float(subsidy), 3)
    0.45
    """
    target_bin = target_mileage / MILES_PER_BIN
    _check_settings(RC, theta11, target_bin, num_bins, late_cost, largest_subsidy)
    bins = jnp.arange(num_bins)
    late = (bins >= target_bin).astype(float)
    money = 1.0 if replacement_cost_dollars is None else float(replacement_cost_dollars)
    unit = "RC" if replacement_cost_dollars is None else "dollars"
    successor = _successors(num_bins, len(increment_probability))

    def mdp_fn(incentive: Incentive, context: jnp.ndarray, parameters: Parameters) -> MDP:
        wear = 1e-3 * parameters["theta11"] / parameters["RC"] * bins
        paid = incentive["subsidy"] / money * (1.0 - late)
        law = jnp.broadcast_to(parameters["increment_probability"], successor.shape)
        return MDP(
            reward=jnp.stack([-wear, -1.0 + paid], axis=-1),
            transition=SuccessorTransition(successor, law),
            initial=jnp.zeros(num_bins).at[0].set(1.0),
            discount=discount,
            temperature=1.0 / parameters["RC"],
        )

    def harm(incentive: Incentive, context: jnp.ndarray, parameters: Parameters) -> jnp.ndarray:
        cost = (1.0 - leader_discount) * late_cost * money * late
        return -jnp.stack([cost, jnp.zeros(num_bins)], axis=-1)

    def price(incentive: Incentive, context: jnp.ndarray, parameters: Parameters) -> jnp.ndarray:
        paid = (1.0 - leader_discount) * incentive["subsidy"] * (1.0 - late)
        return jnp.stack([jnp.zeros(num_bins), paid], axis=-1)

    mileage = tuple((np.arange(num_bins) * MILES_PER_BIN).tolist())
    return Problem(
        name="bus_replacement",
        incentive=_subsidy(largest_subsidy, money, unit),
        contexts=DiscreteContexts(("fleet",), jnp.zeros(1), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"RC": RC, "theta11": theta11, "increment_probability": increment_probability},
        leader_reward_fn=harm,
        incentive_price_fn=price,
        leader_discount=leader_discount,
        per_follower=("RC", "theta11"),
        state_labels=Labels(("state",), {"mileage": (("state",), mileage)}, unit="miles"),
        action_names=("keep", "replace"),
        objective_unit=f"{unit} per bus-month",
        parameter_units={
            "RC": "noise scale (= rationality in units of RC)",
            "theta11": "noise scale per 1,000 bins",
            "increment_probability": "probability",
            "temperature": "RC",
        },
        derived_fn=lambda parameters: {"temperature": 1.0 / jnp.asarray(parameters["RC"])},
        laws=("increment_probability",),
        uncertain=("RC", "theta11", "increment_probability"),
    )


def _check_settings(
    RC: float, theta11: float, target_bin: float, num_bins: int, late_cost: float, largest: float
) -> None:
    given = {
        "RC": RC,
        "theta11": theta11,
        "target_mileage": target_bin * MILES_PER_BIN,
        "late_cost": late_cost,
        "largest_subsidy": largest,
    }
    require_ranges(
        given,
        "bus settings",
        RC="> 0",
        theta11="> 0",
        target_mileage=f"(0, {num_bins * MILES_PER_BIN})",
        late_cost="> 0",
        largest_subsidy="(0, 1]",
    )


def _subsidy(largest: float, money: float, unit: str) -> IncentiveSpace:
    """Describe a subsidy between 0 and ``largest`` replacement costs."""
    return IncentiveSpace(
        initial={"subsidy_logit": jnp.zeros(())},
        transform=lambda x: {"subsidy": money * scaled_sigmoid(x["subsidy_logit"], 0.0, largest)},
        labels={"subsidy": Labels(unit=unit, description="paid per early replacement")},
        start_scale=1.0,
        scale=1.0,
    )


def _successors(num_bins: int, num_increments: int) -> jnp.ndarray:
    """Bins that follow: from the present bin if kept, from bin 0 if replaced; capped."""
    origin = np.stack([np.arange(num_bins), np.zeros(num_bins, int)], axis=-1)
    ahead = origin[..., None] + np.arange(num_increments)
    return jnp.asarray(np.minimum(ahead, num_bins - 1), jnp.int32)
