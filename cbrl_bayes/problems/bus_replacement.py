"""Bus engine replacement: a subsidy toward each replacement, on Rust's (1987) model of demand."""

from collections.abc import Mapping
from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.grid_model import GridModel
from cbrl_bayes.problems.grids import Grid
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem
from cbrl_bayes.problems.shocks import Shock

MILES_PER_BIN = 5000
KEEP, REPLACE = 0, 1

Named = Mapping[str, Any]


UNITS = {
    "RC": "noise scale (= rationality in units of RC)",
    "theta11": "noise scale per 1,000 bins",
    "increment_probability": "probability",
    "temperature": "RC",
}


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
    require_ranges(
        locals(),
        "bus settings",
        RC="> 0",
        theta11="> 0",
        target_mileage=f"(0, {num_bins * MILES_PER_BIN})",
        late_cost="> 0",
        largest_subsidy="(0, 1]",
    )
    money = 1.0 if replacement_cost_dollars is None else float(replacement_cost_dollars)
    unit = "RC" if replacement_cost_dollars is None else "dollars"
    share = 1.0 - leader_discount
    driven = np.arange(len(increment_probability)) * MILES_PER_BIN

    def reward(state: Named, action: Named, incentive: Incentive, parameters: Parameters) -> Array:
        wear = 1e-3 * parameters["theta11"] / parameters["RC"] * state["mileage"] / MILES_PER_BIN
        paid = jnp.where(state["mileage"] < target_mileage, incentive["subsidy"] / money, 0.0)
        return jnp.where(action["engine"] == REPLACE, paid - 1.0, -wear)

    def drive(state: Named, action: Named, shock: Named) -> Named:
        origin = jnp.where(action["engine"] == REPLACE, 0.0, state["mileage"])
        return {"mileage": origin + shock["driven"]}

    def harm(state: Named, action: Named) -> Array:
        late = (state["mileage"] >= target_mileage) & (action["engine"] == KEEP)
        return -share * late_cost * money * late

    def price(state: Named, action: Named, incentive: Incentive) -> Array:
        early = (state["mileage"] < target_mileage) & (action["engine"] == REPLACE)
        return early * share * incentive["subsidy"]

    model = GridModel(
        states={"mileage": Grid(np.arange(num_bins) * MILES_PER_BIN, unit="miles", clip=True)},
        actions={"engine": Grid(("keep", "replace"))},
        shocks={"driven": Shock(driven, lambda parameters: parameters["increment_probability"])},
        reward=reward,
        next_state=drive,
        initial={"mileage": 0},
        discount=discount,
        temperature=lambda parameters: 1.0 / parameters["RC"],
    )
    return Problem(
        name="bus_replacement",
        incentive=_subsidy(largest_subsidy, money, unit),
        contexts=DiscreteContexts(("fleet",), jnp.zeros(1), (1.0,)),
        mdp_fn=model.mdp,
        parameters={"RC": RC, "theta11": theta11, "increment_probability": increment_probability},
        leader_reward_fn=model.table(harm),
        incentive_price_fn=model.table(price),
        leader_discount=leader_discount,
        per_follower=("RC", "theta11"),
        state_labels=model.state_labels,
        action_names=model.action_names,
        objective_unit=f"{unit} per bus-month",
        parameter_units=UNITS,
        derived_fn=lambda parameters: {"temperature": 1.0 / jnp.asarray(parameters["RC"])},
        laws=("increment_probability",),
        uncertain=("RC", "theta11", "increment_probability"),
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
