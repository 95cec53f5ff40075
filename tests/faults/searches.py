"""Starts where nothing reacts, and regions where the problem is not defined."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize_scalar

import cbrl_bayes as cb
from cbrl_bayes.hypergradients import AscentProgram
from tests.faults.registry import KEY, Bench, Fault, held
from tests.faults.units import best

KIND = "search"
# An ascent ends when probes gain less than 1e-3 of what the objective reacts to (`Ascent`).
CLOSE = 2e-3


def _found(make: Callable[[], cb.Problem], see: Callable[[Any], Any], steps: int = 60) -> Any:
    def run(bench: Bench) -> Any:
        problem = make()
        program = AscentProgram(problem, cb.Exact(), cb.Ascent(num_steps=steps))
        return see(program.run(problem.default_parameters, key=KEY))

    return run


def _from(start: float) -> Callable[[], cb.Problem]:
    """A bonus between 0 and 2, by its logit."""

    def make() -> cb.Problem:
        space = cb.IncentiveSpace(
            {"logit": jnp.asarray(start)},
            lambda x: {"bonus": cb.problems.scaled_sigmoid(x["logit"], 0.0, 2.0)},
            {"bonus": cb.Labels()},
        )
        return replace(cb.problems.two_state(), incentive=space)

    return make


def _no_life() -> cb.Problem:
    """At the start one in 1e17 works: the cost is 10, lambda .25."""
    return cb.problems.two_state(benefit=20.0, costs=(10.0,), context_probability=(1.0,))


def _best_of_it() -> float:
    """Return the most that `_no_life` is worth, in closed form, by a search on one number."""
    found = minimize_scalar(
        lambda bonus: -(20.0 - bonus) / (1.0 + np.exp((10.0 - bonus) / 0.25)), bounds=(5.0, 20.0)
    )
    return -float(found.fun)


def _indifferent() -> cb.Problem:
    base = cb.problems.two_state()
    return replace(base, leader_reward_fn=lambda *_: jnp.ones((2, 2)), incentive_price_fn=None)


def _nowhere() -> cb.Problem:
    """The leader's reward is a number at the start only."""

    def reward(incentive: Any, cost: Any, parameters: Any) -> Any:
        bonus = incentive["bonus"]
        return jnp.where(bonus == 0.0, 1.0, jnp.nan) * jnp.ones((2, 2)) + bonus

    return replace(cb.problems.two_state(), leader_reward_fn=reward, incentive_price_fn=None)


def _chance() -> cb.Problem:
    """The bonus is the chance of success above .5: beyond 1 there is no problem."""
    base = cb.problems.two_state()

    def mdp_fn(incentive: Any, cost: Any, parameters: Any) -> cb.MDP:
        chance = 0.5 + incentive["bonus"]
        law = jnp.stack([1.0 - chance, chance]) * jnp.ones((2, 2, 2))
        return replace_law(base.mdp_fn(incentive, cost, parameters), law)

    return replace(
        base,
        mdp_fn=mdp_fn,
        leader_reward_fn=lambda *_: jnp.zeros((2, 2)).at[1].set(1.0),
        incentive_price_fn=None,
        leader_discount=0.5,
    )


def replace_law(mdp: cb.MDP, law: Any) -> cb.MDP:
    return cb.MDP(mdp.reward, cb.DenseTransition(law), mdp.initial, 0.0, mdp.temperature)


def _objective(found: Any) -> float:
    assert found.status == 0, found.status
    return found.objective


FAULTS: list[Fault] = [
    held(
        KIND,
        "a start at logit 35",
        _found(_from(35.0), _objective),
        best()[1],
        tolerance=CLOSE,
        slow=True,
    ),
    held(
        KIND,
        "a start at logit -50",
        _found(_from(-50.0), _objective),
        best()[1],
        tolerance=CLOSE,
        slow=True,
    ),
    held(
        KIND,
        "a start where one in 1e17 responds",
        _found(_no_life, _objective),
        _best_of_it(),
        tolerance=CLOSE,
    ),
    held(
        KIND,
        "an objective that reacts to nothing",
        _found(_indifferent, lambda found: found.status.name),
        "FLAT",
        slow=True,
    ),
    held(
        KIND,
        "a chance of success that could pass 1",
        # With certain success 1 / 2 + 1 / 4 + ...; the last probes come within 3 % of the bound.
        _found(_chance, lambda found: found.objective if found.objective <= 1.0 + 1e-9 else np.inf),
        1.0,
        tolerance=0.05,
        slow=True,
    ),
]
