"""Decision processes, contexts, followers and functions that cannot be."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import jax.numpy as jnp
import numpy as np

import cbrl_bayes as cb
from tests.faults.registry import Bench, Fault, held, refused

KIND = "models"
STAY = np.tile(np.eye(2)[:, None], (1, 2, 1))
NAN, INF = float("nan"), float("inf")


def mdp(**changed: Any) -> cb.MDP:
    given = {
        "reward": jnp.zeros((2, 2)),
        "transition": cb.DenseTransition(jnp.asarray(STAY)),
        "initial": jnp.array([1.0, 0.0]),
        "discount": 0.9,
        "temperature": 0.5,
        "terminal": jnp.array([False, True]),
    }
    return cb.MDP(**given | changed)


def _law(**entries: float) -> cb.DenseTransition:
    law = STAY.copy()
    for place, value in entries.items():
        law[tuple(map(int, place[1:]))] = value
    return cb.DenseTransition(jnp.asarray(law))


def _listed(successor: Any, probability: Any) -> cb.SuccessorTransition:
    return cb.SuccessorTransition(jnp.asarray(successor), jnp.asarray(probability))


MDPS: dict[str, tuple[dict[str, Any], list[str]]] = {
    "a probability of 1.12": ({"transition": _law(p000=1.12)}, ["transition", "1.12"]),
    "a probability below zero": ({"transition": _law(p000=1.1, p001=-0.1)}, ["transition", "-0.1"]),
    "a row that sums to .9": ({"transition": _law(p000=0.9)}, ["transition", "0.9"]),
    "a probability NaN": ({"transition": _law(p000=NAN)}, ["transition", "nan"]),
    "a law of another shape": (
        {"transition": cb.DenseTransition(jnp.ones((2, 2, 3)) / 3)},
        ["transition", "(2, 2, 3)"],
    ),
    "a law that is an array": ({"transition": jnp.asarray(STAY)}, ["transition"]),
    "a successor beyond the last state": (
        {"transition": _listed([[[0], [2]], [[1], [1]]], np.ones((2, 2, 1)))},
        ["successor", "2"],
    ),
    "a successor below zero": (
        {"transition": _listed([[[0], [-1]], [[1], [1]]], np.ones((2, 2, 1)))},
        ["successor", "-1"],
    ),
    "successors that are no whole numbers": (
        {"transition": _listed(np.zeros((2, 2, 1)), np.ones((2, 2, 1)))},
        ["successor", "integers"],
    ),
    "a temperature of zero": ({"temperature": 0.0}, ["temperature", "> 0"]),
    "a temperature below zero": ({"temperature": -1.0}, ["temperature", "-1"]),
    "a temperature without end": ({"temperature": INF}, ["temperature", "inf"]),
    "a temperature NaN": ({"temperature": NAN}, ["temperature", "nan"]),
    "a temperature for each state": ({"temperature": jnp.ones(2)}, ["temperature", "(2,)"]),
    "a discount above one": ({"discount": 1.5}, ["discount", "1.5"]),
    "a discount below zero": ({"discount": -0.1}, ["discount", "-0.1"]),
    "a discount in percent": ({"discount": 95}, ["discount", "95"]),
    "a reward of minus infinity": (
        {"reward": jnp.zeros((2, 2)).at[0, 1].set(-INF)},
        ["reward[0, 1]", "-inf", "finite"],
    ),
    "a reward NaN": ({"reward": jnp.full((2, 2), NAN)}, ["reward", "nan"]),
    "a reward for each state": ({"reward": jnp.zeros(2)}, ["reward", "(2,)"]),
    "no states": ({"reward": jnp.zeros((0, 2))}, ["reward", "(0, 2)"]),
    "no actions": ({"reward": jnp.zeros((2, 0))}, ["reward", "(2, 0)"]),
    "a reward in text": ({"reward": "zero"}, ["reward"]),
    "a reward in a list of texts": ({"reward": [["a", "b"], ["c", "d"]]}, ["reward"]),
    "a start that sums to two": ({"initial": jnp.ones(2)}, ["initial", "2"]),
    "a start that is a number of a state": ({"initial": 0}, ["initial", "()"]),
    "an end for one state of two": ({"terminal": jnp.array([True])}, ["terminal", "(1,)"]),
    "an end of numbers": ({"terminal": jnp.array([0.0, 0.5])}, ["terminal"]),
}

PROBLEMS: dict[str, tuple[Callable[[cb.Problem], dict[str, Any]], list[str]]] = {
    "an mdp_fn that returns nothing": (
        lambda p: {"mdp_fn": lambda i, c, q: None},
        ["mdp_fn", "MDP"],
    ),
    "an mdp_fn that asks `if` of a number": (
        lambda p: {
            "mdp_fn": lambda i, c, q: p.mdp_fn(
                {"bonus": i["bonus"] if i["bonus"] > 0 else 0.0}, c, q
            )
        },
        ["mdp_fn", "jnp.where"],
    ),
    "an mdp_fn with NumPy in it": (
        lambda p: {"mdp_fn": lambda i, c, q: p.mdp_fn({"bonus": np.exp(i["bonus"])}, c, q)},
        ["mdp_fn", "jnp"],
    ),
    "an mdp_fn that takes two arguments": (lambda p: {"mdp_fn": lambda i, c: None}, ["mdp_fn"]),
    "an mdp_fn that asks for a parameter nobody has": (
        lambda p: {"mdp_fn": lambda i, c, q: p.mdp_fn(i, c, {"temperature": q["lambda"]})},
        ["mdp_fn", "lambda"],
    ),
    "no mdp_fn": (lambda p: {"mdp_fn": None}, ["mdp_fn"]),
    "a leader's reward for each state only": (
        lambda p: {"leader_reward_fn": lambda i, c, q: jnp.zeros(2)},
        ["leader_reward_fn", "(2,)"],
    ),
    "a leader's reward that is NaN": (
        lambda p: {"leader_reward_fn": lambda i, c, q: jnp.full((2, 2), NAN)},
        ["leader_reward_fn"],
    ),
    "a leader without reward": (lambda p: {"leader_reward_fn": None}, ["leader_reward_fn"]),
    "a leader with two objectives": (
        lambda p: {"objective_fn": lambda i, pi, c, q: 0.0},
        ["objective_fn"],
    ),
    "a leader's discount of 1.5": (lambda p: {"leader_discount": 1.5}, ["leader_discount", "1.5"]),
    "a leader's discount NaN": (lambda p: {"leader_discount": NAN}, ["leader_discount"]),
    "a leader's discount in text": (lambda p: {"leader_discount": "0.9"}, ["leader_discount"]),
    "a price for each state only": (
        lambda p: {"incentive_price_fn": lambda i, c, q: i["bonus"] * jnp.ones(2)},
        ["incentive_price_fn", "(2,)"],
    ),
    "a default temperature below zero": (
        lambda p: {"parameters": {"temperature": -0.25}},
        ["temperature", "-0.25"],
    ),
    "a default in text": (lambda p: {"parameters": {"temperature": "warm"}}, ["temperature"]),
    "a default NaN": (lambda p: {"parameters": {"temperature": 0.25, "taste": NAN}}, ["taste"]),
    "a temperature for each of three followers of two": (
        lambda p: {
            "parameters": {"temperature": (0.1, 0.2, 0.3)},
            "followers": cb.Followers(("a", "b"), (0.5, 0.5)),
        },
        ["temperature", "2"],
    ),
    "states without labels for all": (
        lambda p: {"state_labels": cb.Labels(("state",), {"state": (("state",), ("one",))})},
        ["state_labels"],
    ),
    "a problem without a name": (lambda p: {"name": ""}, ["name"]),
    "contexts in a list": (lambda p: {"contexts": ["cost 0.5"]}, ["contexts"]),
}


def _crowded() -> Any:
    no = [False] * 5
    square = cb.problems.RoadNetwork(
        4, [0, 1, 2, 3, 0], [1, 2, 3, 0, 2], np.ones(5), no, no, [3], [0], ("school",)
    )
    trips = cb.problems.Trips(np.array([0]), [np.array([0, 1, 2, 3])])
    roads = cb.problems.Congestion(100.0, np.ones(3))
    return cb.problems.route_choice(square, trips, congestion=roads)


PARTS: dict[str, tuple[Callable[[], Any], list[str]]] = {
    "context probabilities that sum to .9": (
        lambda: cb.DiscreteContexts(("a", "b"), jnp.zeros(2), (0.5, 0.4)),
        ["probabilities", "0.4"],
    ),
    "context probabilities NaN": (
        lambda: cb.DiscreteContexts(("a", "b"), jnp.zeros(2), (NAN, 1.0)),
        ["probabilities", "nan"],
    ),
    "three values for two contexts": (
        lambda: cb.DiscreteContexts(("a", "b"), jnp.zeros(3), (0.5, 0.5)),
        ["contexts", "3"],
    ),
    "no context": (lambda: cb.DiscreteContexts((), jnp.zeros(0), ()), ["contexts"]),
    "a road of capacity zero": (
        lambda: cb.problems.Congestion(100.0, np.array([40.0, 0.0])),
        ["capacity", "0.0"],
    ),
    "three capacities of four roads": (_crowded, ["capacity", "(3,)", "(4,)"]),
    "a population without a guess of its statistic": (
        lambda: cb.Population(lambda i, v, c, q: v[0], jnp.zeros(0)),
        ["population", "(0,)"],
    ),
    "no sampled context": (lambda: cb.SampledContexts(lambda p, k: 0.0, 0), ["num_samples"]),
    "a follower's weight below zero": (lambda: cb.Followers(("a",), (-1.0,)), ["weight", "-1"]),
    "all weights zero": (lambda: cb.Followers(("a", "b"), (0.0, 0.0)), ["weight"]),
    "a weight NaN": (lambda: cb.Followers(("a", "b"), (1.0, NAN)), ["weight", "nan"]),
    "no followers": (lambda: cb.Followers((), ()), ["followers"]),
    "bounds the wrong way round": (
        lambda: cb.problems.Bounds("bonus", 2.0, 1.0),
        ["bounds", "2.0"],
    ),
    "a budget of nothing": (lambda: cb.problems.Budget("bonus", 0.0), ["budget", "0.0"]),
    "a bound on no incentive": (
        lambda: cb.problems.constrained(
            cb.problems.two_state(), cb.problems.Bounds("bounty", 0.0, 1.0)
        ),
        ["bounty", "bonus"],
    ),
    "a schedule of one number": (
        lambda: cb.problems.constrained(cb.problems.two_state(), cb.problems.Monotone("bonus")),
        ["schedule", "bonus"],
    ),
    "a scale of zero": (
        lambda: replace(cb.problems.two_state().incentive, scale=0.0),
        ["scale", "0"],
    ),
    "a start of the search NaN": (
        lambda: cb.IncentiveSpace(
            {"z": jnp.asarray(NAN)}, lambda x: {"bonus": x["z"]}, {"bonus": cb.Labels()}
        ),
        ["initial", "nan"],
    ),
    "a transform and labels of different names": (
        lambda: cb.IncentiveSpace(
            {"z": jnp.zeros(())}, lambda x: {"bonus": x["z"]}, {"bounty": cb.Labels()}
        ),
        ["bonus", "bounty"],
    ),
    "a ready-made problem with a cost of NaN": (
        lambda: cb.problems.two_state(costs=(0.5, NAN)),
        ["reward", "nan"],
    ),
    "a ready-made problem with no costs": (
        lambda: cb.problems.two_state(costs=(), context_probability=()),
        ["contexts"],
    ),
    "a ready-made problem with a slip of 2": (
        lambda: cb.problems.four_rooms(slip=2.0),
        ["slip", "2"],
    ),
}


def _walk(loss: float) -> Any:
    """Return P(forward | start) on a line of 6 states, a pit beside it; see `best_response`."""

    def run(bench: Bench) -> float:
        line, pit = 6, 6
        law = np.zeros((line + 1, 3, line + 1))
        for s in range(line):
            law[s, 0, max(s - 1, 0)] = law[s, 1, min(s + 1, line - 1)] = law[s, 2, s] = 1.0
        law[3, 2] = np.eye(line + 1)[pit]
        law[pit, :, pit] = 1.0
        reward = np.zeros((line + 1, 3))
        reward[line - 1], reward[pit] = 1.0, -loss
        answer = cb.best_response(
            cb.MDP(
                jnp.asarray(reward),
                cb.DenseTransition(jnp.asarray(law)),
                jnp.eye(line + 1)[0],
                0.95,
                0.3,
            )
        )
        assert answer.status == 0
        return float(answer.policy[0, 1])

    return run


def _value_iteration() -> float:
    """Return P(forward | start) where the pit cannot be entered at all, by value iteration."""
    value = np.zeros(6)
    for _ in range(2000):  # .95 ** 2000 is 1e-45
        back, ahead = value[np.maximum(np.arange(6) - 1, 0)], value[np.minimum(np.arange(6) + 1, 5)]
        stay = value.copy()
        stay[3] = -np.inf  # there, the third action leads into the pit
        q = np.stack([back, ahead, stay], -1) * 0.95
        q[5] += 1.0
        value = 0.3 * np.logaddexp.reduce(q / 0.3, axis=-1)
    q_start = 0.95 * np.array([value[0], value[1], value[0]])
    return float(np.exp(q_start[1] / 0.3 - np.logaddexp.reduce(q_start / 0.3)))


def _whole_start(bench: Bench) -> str:
    """Whole numbers have no slope."""
    space = cb.IncentiveSpace(
        {"z": jnp.zeros((), int)}, lambda x: {"bonus": x["z"]}, {"bonus": cb.Labels()}
    )
    return str(space.initial["z"].dtype)


ASKED: dict[str, tuple[Callable[[cb.Problem], Any], list[str]]] = {
    **{
        f"followers {factor} times as hot": (
            lambda p, k=factor: p.heated(k),
            ["factor", str(factor)],
        )
        for factor in (0, -1.0, NAN, INF, "2")
    },
    "the outcome of an incentive NaN": (
        lambda p: cb.leader_outcome(p, {"bonus": NAN}, p.default_parameters),
        ["bonus", "not finite", "nan"],
    ),
    "the outcome of an incentive without end": (
        lambda p: cb.leader_outcome(p, {"bonus": INF}, p.default_parameters),
        ["bonus", "not finite", "inf"],
    ),
    "a process that only the second follower cannot have": (
        lambda p: replace(
            p.with_followers(("a", "b"), (0.5, 0.5)),
            mdp_fn=lambda i, c, q: p.mdp_fn(
                i, c, q | {"temperature": q["temperature"] - q["follower"]}
            ),
        ),
        ["temperature", "-0.75"],
    ),
    "an `if` on who responds": (
        lambda p: replace(
            p, mdp_fn=lambda i, c, q: p.mdp_fn(i, c if q["follower"] == 0 else 0.0, q)
        ),
        ["mdp_fn", "jnp.where"],
    ),
    "a parameter called follower": (
        lambda p: replace(p, parameters={"temperature": 0.25, "follower": 1.0}),
        ["follower", "something else"],
    ),
}


def _worked(group: str) -> Any:
    """Read data of a group for a problem whose second follower pays more for working."""

    def run(bench: Bench) -> str:
        plain = bench.problem.with_followers(("a", "b"), (0.5, 0.5))
        asked = replace(plain, mdp_fn=lambda i, c, q: plain.mdp_fn(i, c + 0.5 * q["follower"], q))
        cb.check_trajectories(bench.data.assign(group=("episode", [group] * 2)), asked)
        return "read"

    return run


FAULTS: list[Fault] = [
    *(refused(KIND, n, lambda b, g=g: mdp(**g), *w) for n, (g, w) in MDPS.items()),
    *(
        refused(KIND, n, lambda b, g=g: replace(b.problem, **g(b.problem)), *w)
        for n, (g, w) in PROBLEMS.items()
    ),
    *(refused(KIND, n, lambda b, m=m: m(), *w) for n, (m, w) in PARTS.items()),
    *(
        # The pit's own share of the policy, exp(-loss / 0.3), is 0 in 64 bits.
        held(
            KIND,
            f"a state forbidden by a loss of {loss:g}",
            _walk(loss),
            _value_iteration(),
            tolerance=1e-9,
        )
        for loss in (1e3, 1e7, 1e9, 1e12)
    ),
    *(refused(KIND, n, lambda b, m=m: m(b.problem), *w) for n, (m, w) in ASKED.items()),
    refused(
        KIND, "data of a group that is no follower", _worked("men"), "men", "a, b", "ask which"
    ),
    held(KIND, "data of one follower of two", _worked("b"), "read"),
    held(KIND, "a start of the search in whole numbers", _whole_start, "float64"),
]
