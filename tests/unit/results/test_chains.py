"""The verdict on chains: constants, stuck chains, tails, energy, depth, what is printed."""

import json
import warnings

import numpy as np
import pytest
import xarray as xr
from scipy.stats import norm

from cbrl_bayes.results import assess
from cbrl_bayes.results.chains import diagnostics, judge_chains, needed_draws
from cbrl_bayes.results.health import Health
from cbrl_bayes.status import AscentStatus


def _tree(posterior, num=500, **stats):
    rng = np.random.default_rng(0)
    names = ("chain", "draw")
    variables = {
        name: ((*names, *(f"{name}_{axis}" for axis in range(value.ndim - 2))), value)
        for name, value in posterior.items()
    }
    found = {"diverging": np.zeros((4, num), bool), "energy": rng.normal(size=(4, num))}
    found["tree_depth"] = np.full((4, num), 3)
    found |= stats
    coords = {"chain": range(4), "draw": range(num)}
    return xr.DataTree.from_dict(
        {
            "posterior": xr.Dataset(variables, coords),
            "sample_stats": xr.Dataset({n: (names, v) for n, v in found.items()}, coords),
        }
    )


def _said(tree, prob=0.9):
    health = Health()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        judge_chains(tree, health.note, prob)
        diagnostics(tree["posterior"].to_dataset())
    return health


def _noise(seed=1, num=500):
    return np.random.default_rng(seed).normal(size=(4, num))


def test_a_constant_is_no_failure_and_gives_no_warning():
    law = np.full((4, 500, 3), 0.25)
    law[..., 1] += 0.01 * _noise(2)
    tree = _tree({"known": np.full((4, 500), 0.3), "law": law, "x": _noise()})
    assert _said(tree).verdict == "PASS"
    assert _said(_tree({"known": np.full((4, 500), 0.3)})).verdict == "PASS"
    rhat, ess = diagnostics(tree["posterior"].to_dataset())
    assert np.isnan(rhat["known"])
    assert np.isnan(ess["law"].values).tolist() == [True, False, True]


def test_a_chain_that_does_not_move_is_a_failure():
    stuck = _noise()
    stuck[2] = 1.7
    assert "1 chain did not move in x" in str(_said(_tree({"x": stuck, "y": _noise(3)})))
    assert _said(_tree({"x": stuck})).verdict == "FAIL"
    # All at one place: a known value, unless the prior says that it is not known.
    tree = _tree({"x": np.full((4, 500), 0.3)})
    tree["prior"] = xr.DataTree(xr.Dataset({"x": (("chain", "draw"), _noise(4, 50)[:1])}))
    assert "4 chains did not move in x" in str(_said(tree))
    # Entry by entry: one of a law may be known, and the others not.
    law = np.stack([_noise(), np.full((4, 500), 0.3)], axis=-1)
    tree = _tree({"law": law})
    before = (("chain", "draw", "law_0"), law[:1, :50])
    tree["prior"] = xr.DataTree(xr.Dataset({"law": before}))
    assert _said(tree).verdict == "PASS"


def test_signs_of_the_sampler():
    deep = _tree({"x": _noise()}, tree_depth=np.full((4, 500), 10))
    assert "100 % of the transitions ended at the largest tree depth" in str(_said(deep))
    walk = _tree({"x": _noise()}, energy=np.cumsum(_noise(5), axis=1))
    assert "E-BFMI is 0.0" in str(_said(walk))
    assert _said(walk).verdict == "REVIEW"
    assert _said(_tree({"x": _noise()})).verdict == "PASS"


def _sticky(num=500, stay=0.97):
    """Independent draws in the middle; in the tails a chain stays long."""
    rng = np.random.default_rng(6)
    draws = np.empty((4, num))
    for chain in range(4):
        at = 0.0
        for step in range(num):
            if abs(at) < 1.3 or rng.random() > stay:
                at = rng.normal()
            draws[chain, step] = at
    return draws


def test_tails_are_looked_at_too():
    text = str(_said(_tree({"x": _sticky()})))
    assert "effective sample size of x in the tails" in text


def test_draws_are_asked_for_in_proportion_to_what_is_printed():
    # Four chains of 100 nearly independent draws.
    tree = _tree({"x": _noise(7, 100)}, num=100, energy=_noise(8, 100))
    assert _said(tree, prob=0.5).verdict == "PASS"
    assert "wanted for 99 % intervals: 2131" in str(_said(tree, prob=0.99))
    assert needed_draws(0.9) == 400
    # What no table shows needs no digits: slow offsets of a hierarchy.
    # Each chain stays at each of 50 quantiles for ten steps: an R-hat of 1, and few draws.
    rng = np.random.default_rng(9)
    quantiles = norm.ppf((np.arange(50) + 0.5) / 50)
    slow = np.stack([np.repeat(rng.permutation(quantiles), 10) for _ in range(4)])
    shown = {"x": _noise(10), "x_offset": slow[..., None]}
    assert _said(_tree(shown)).verdict == "PASS"
    assert "effective sample size of y" in str(_said(_tree({"x": _noise(10), "y": slow})))


def test_the_verdict_says_what_unfinished_designs_still_gained(study):
    def told(source, gain):
        tree = study.copy(deep=True)
        design = tree["design"].to_dataset()
        same = design["status"] * 0
        tree["design"] = xr.DataTree(
            design.assign(
                status=same + AscentStatus.STEP_LIMIT,
                source=same + source,
                gain_at_stop=same + gain,
            )
        )
        return str(assess(tree))

    share = 100 * 0.03 / float(study["design"]["leader_objective"].std())
    assert (
        "100 % of the draws' designs stopped at the step limit, while points near them were "
        f"still better: by 0.03 in the mean, {share:.2g} % of the spread over draws"
        in told(2, 0.03)
    )
    assert "stopped at the step limit: allow more steps" in told(2, np.nan)  # nobody probed
    # Designs that were taken from elsewhere do not stand for an unfinished search.
    assert "stopped at the step limit" not in told(0, 0.03)


@pytest.mark.parametrize("side", ["above", "neither"])
def test_one_sided_knowledge_is_told_with_its_unit(study, side):
    tree = study.copy(deep=True)
    bound = None if side == "neither" else 0.123
    found = [{"parameter": "temperature", "side": side, "bound": bound}]
    tree.attrs["one_sided"] = json.dumps(found)
    told = {
        "above": "the data say only that temperature is above about 0.12 goal reward; the rest",
        "neither": "the data bound temperature on neither side",
    }[side]
    assert told in str(assess(tree))
