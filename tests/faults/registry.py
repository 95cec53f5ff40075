"""What a tried fault is, what the tries share, and whether a try came out as it must."""

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

import cbrl_bayes as cb

HELD, REFUSED, FAILED = "held", "one clear error", "failed"
KEY = jax.random.key(0)


class Bench:
    """A folder of its own for a try, and what many tries use, made once."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    @cached_property
    def problem(self) -> cb.Problem:
        return _problem()

    @cached_property
    def tree(self) -> Any:
        """The smallest tree that can be saved: a posterior."""
        return cb.from_draws(self.problem, {"temperature": np.linspace(0.2, 0.3, 4)})

    @cached_property
    def data(self) -> Any:
        return cb.make_trajectories([[0], [0]], [[1], [0]], context=["cost 0.5", "cost 1.5"])

    def file(self, name: str, content: str | bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content.encode() if isinstance(content, str) else content)
        return path


@dataclass(frozen=True)
class Fault:
    """One tried fault.

    Parameters
    ----------
    kind, name : str
        Where it belongs, and what is done, in a few words.
    run : callable
        Takes a `Bench`; does what is wrong, and returns what came out.
    words : tuple of str
        Of the error that must come; it names the thing. None: there must be no error.
    right : object
        What must come out where there is no error.
    tolerance : float
        Largest difference relative to ``right``; 0: the same.
    note : str
        Words of the warning that must come with it; "": there must be no warning.
    failed : str
        What is wrong with the package here, if it does not do what it must.
    slow : bool
    """

    kind: str
    name: str
    run: Callable[[Bench], Any]
    words: tuple[str, ...] | None = None
    right: Any = None
    tolerance: float = 0.0
    note: str = ""
    failed: str = ""
    slow: bool = False

    @property
    def outcome(self) -> str:
        """What the page says of it."""
        if self.failed:
            return FAILED
        return HELD if self.words is None else REFUSED


def refused(kind: str, name: str, run: Callable[[Bench], Any], *words: str, **more: Any) -> Fault:
    """Return a fault that must end in one clear error with these words."""
    if not words:
        raise ValueError(f"{name}: an error without words says nothing")
    return Fault(kind, name, run, words, **more)


def held(kind: str, name: str, run: Callable[[Bench], Any], right: Any, **more: Any) -> Fault:
    """Return a fault that must not matter: the right value comes out."""
    return Fault(kind, name, run, None, right, **more)


def try_fault(fault: Fault, bench: Bench) -> None:
    """Do what is wrong and raise AssertionError unless it comes out as it must."""
    with warnings.catch_warnings(record=True) as told:
        warnings.simplefilter("always")
        if fault.words is None:
            _assert_right(fault, fault.run(bench))
        else:
            _assert_refused(fault, bench)
    texts = [str(one.message) for one in told]
    if fault.note:
        assert any(fault.note in text for text in texts), f"no note {fault.note!r}: {texts}"
    elif fault.words is None:
        assert not texts, f"warnings: {texts}"


def _assert_refused(fault: Fault, bench: Bench) -> None:
    try:
        came = fault.run(bench)
    except cb.CbrlBayesError as error:
        text = str(error)
    else:
        raise AssertionError(f"no error; {came!r:.300} came out")
    assert "\n" not in text, f"more than one line: {text}"
    missing = [word for word in fault.words or () if word not in text]
    assert not missing, f"the error does not say {missing}: {text}"


def _assert_right(fault: Fault, came: Any) -> None:
    if fault.tolerance:
        np.testing.assert_allclose(came, fault.right, rtol=fault.tolerance, atol=0.0)
    else:
        assert came == fault.right


@cache
def _problem() -> cb.Problem:
    return cb.problems.two_state()


@cache
def named_problem(
    incentive: Any = "bonus",
    dims: tuple = ("day",),
    parameter: Any = "scale",
    contexts: tuple = ("a",),
    followers: tuple = ("follower",),
    coords: Any = None,
    **more: Any,
) -> cb.Problem:
    """Return a small problem whose names are chosen: two bonuses, one decision."""
    num = len(contexts)
    labels = cb.Labels(dims, {k: (dims, v) for k, v in coords} if coords else {})
    return cb.Problem(
        name="small",
        incentive=cb.IncentiveSpace(
            {"z": jnp.zeros(2)}, lambda x: {incentive: x["z"]}, {incentive: labels}
        ),
        contexts=cb.DiscreteContexts(contexts, jnp.linspace(0.5, 1.5, num), (1.0 / num,) * num),
        followers=cb.Followers(followers, (1.0 / len(followers),) * len(followers)),
        mdp_fn=lambda i, c, q: cb.MDP(
            jnp.zeros((2, 2)).at[0, 1].set(i[incentive].sum() - c * q[parameter]),
            cb.DenseTransition(jnp.zeros((2, 2, 2)).at[..., 1].set(1.0)),
            jnp.array([1.0, 0.0]),
            0.0,
            q["temperature"],
            jnp.array([False, True]),
        ),
        parameters={"temperature": 0.25, parameter: 1.0},
        **{"uncertain": ("temperature", parameter)} | more,
        leader_reward_fn=lambda i, c, q: jnp.zeros((2, 2)).at[0, 1].set(2.0),
        incentive_price_fn=lambda i, c, q: jnp.zeros((2, 2)).at[0, 1].set(i[incentive].sum()),
        leader_discount=0.0,
    )
