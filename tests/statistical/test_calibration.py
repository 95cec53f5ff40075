"""Calibration of every inference model and of the decisions on every ready-made problem.

Each test writes its counts to docs/calibration/; analyses/fill_calibration.py makes the tables and
figures of docs/calibration.md from them.
"""

import dataclasses
import json
from pathlib import Path

import jax
import numpy as np
import numpyro
import numpyro.distributions as dist
import pytest

import cbrl_bayes as cb
from cbrl_bayes.calibration import binomial_band, decision_coverage, rank_uniformity
from cbrl_bayes.inference import BehaviourSimulation
from cbrl_bayes.problems import READY_MADE
from tests.statistical.calibration_cases import FEW, FEWER, MODELS, OTHERS, PROBLEMS, SAMPLING

FALSE_ALARM = 0.001
"""Per model, for all its quantities together, if inference is right."""

DECISION_FALSE_ALARM = 0.001
"""Per problem, for all counts together, if truth and draws are exchangeable."""

FOLDER = Path(__file__).parents[2] / "docs" / "calibration"


@pytest.mark.slow
@pytest.mark.parametrize("name", MODELS)
def test_ranks_of_the_truth_are_uniform(name):
    simulation, num, sampling = MODELS[name]
    settings = dataclasses.replace(sampling, num_data_sets=num)
    found = cb.calibrate_inference(simulation(), key=jax.random.key(20260), settings=settings)
    table = rank_uniformity(found, false_alarm=FALSE_ALARM).frame
    write(
        f"model_{name}",
        {
            "data_sets": num,
            "kept": sampling.num_draws,
            "false_alarm": FALSE_ALARM,
            "divergent": int((found["num_divergent"] > 0).sum()),
            "failed": int(found["failed"].sum()),
            "unsolved": int((found["num_unsolved"] > 0).sum()),
            "table": json.loads(table.reset_index().to_json(orient="records", double_precision=6)),
            "ranks": {
                str(q): found["rank"].sel(quantity=q).values.tolist()
                for q in found["quantity"].values
            },
        },
    )
    print(table)
    assert not found["failed"].any()
    assert (table["data_sets"] == num).all()
    assert table["uniform"].all()


class LikelihoodTwice(BehaviourSimulation):
    """A wrong model: every observation enters the likelihood twice."""

    def counts(self, data):
        counts = super().counts(data)
        for name in ("action_count", "context_count", "entry_count", "observed_contexts"):
            object.__setattr__(counts, name, 2 * getattr(counts, name))
        return counts


class OtherPrior(BehaviourSimulation):
    """A wrong model: temperatures are half as high as the prior of inference says."""

    def prior(self):
        median = 0.5 * self.problem.parameters["temperature"]
        numpyro.sample("temperature", dist.LogNormal(np.log(median), 1.0))
        self.priors["context_probability"].sample("context_probability", 1)


@pytest.mark.slow
@pytest.mark.parametrize("wrong", [LikelihoodTwice, OtherPrior])
def test_a_wrong_model_is_found_out(wrong):
    """300 data sets, level .001.

    Power: a posterior that is off by delta of its standard deviations (both normal) shifts ranks
    by phi(0) sqrt(2) delta / 2 on average, so the first of the four terms has mean
    1 + 12 * 300 * (.28 delta)^2: 72 for delta = .5 against a bound of 21 at .00025; missed with
    probability below .0001. For doubled data see `tests/unit/calibration/test_calibration.py`.
    """
    simulation = wrong(cb.problems.two_state(), num_episodes=20, num_steps=1)
    settings = dataclasses.replace(SAMPLING, num_data_sets=300)
    found = cb.calibrate_inference(simulation, key=jax.random.key(3), settings=settings)
    assert not rank_uniformity(found, false_alarm=FALSE_ALARM).frame["uniform"].all()


def test_every_ready_made_problem_has_a_case():
    assert set(PROBLEMS) == set(READY_MADE)
    assert FEW.num_data_sets >= 500  # with fewer, little can be seen


@pytest.mark.slow
@pytest.mark.timeout(4 * 3600)  # 500 whole studies, 1 to 9 processor seconds each
@pytest.mark.parametrize("name", [*PROBLEMS, *OTHERS])
def test_intervals_of_decisions_hold_the_truth(name):
    """Own optimum, own incentives, and what held-out draws predict: in their binomial bands.

    Nothing may fail: failed fits or searches leave fewer intervals to count, and not by chance.

    Counts with ties broken at random are binomial if truth and draws are exchangeable. They are
    not quite: searches start from designs made of the draws (`cbrl_bayes.calibration.studies`), so
    the stated false alarm holds only as far as that does not matter. The band of each count has its
    share of the false alarms, and with 500 data sets a true coverage of .82 would be seen four
    times in five (`detectable_coverage`; of fewer in docs/calibration.md). So has each mean rank,
    which would see a shift of .22 standard deviations as often (`mean_rank_p_value`). What a study
    prints of its common design rests on draws that the design was fitted to: recorded, not
    asserted.
    """
    settings = FEW if name in PROBLEMS else FEWER
    num = settings.num_data_sets
    simulation = (PROBLEMS | OTHERS)[name]()
    found = cb.calibrate_decisions(simulation, key=jax.random.key(20261), settings=settings)
    table = decision_coverage(found, band_prob=0.99).frame
    write(
        f"problem_{name}",
        {
            "data_sets": num,
            "unit": found.attrs["objective_unit"],
            "fits_divergent": int((found["num_divergent"] > 0).sum()),
            "fits_failed": int(found["failed"].sum()),
            "fits_unsolved": int((found["num_unsolved"] > 0).sum()),
            "searches": 40 * num,
            "searches_broken": int(found["broken"].sum()),
            "searches_unsettled": int(found["unsettled"].sum()),
            "truths_better": int(
                (
                    found["better_optimum"]
                    > found["true_optimum"] + 1e-6 * abs(found["true_optimum"])
                ).sum()
            ),
            "mean_gap": float((found["better_optimum"] - found["true_optimum"]).mean()),
            "spread": float(found["optimum"].std("draw").mean()),
            "table": json.loads(table.reset_index().to_json(orient="records", double_precision=8)),
        },
    )
    print(table.to_string())
    assert not found["failed"].any()
    assert int(found["broken"].sum()) == 0
    assert (table["data_sets"] == num).all()
    nominal = table[
        ~table.index.isin(
            [
                "optimal objective, searched harder",
                "objective of the common design",
                "regret of the common design",
            ]
        )
    ]
    level = DECISION_FALSE_ALARM / (2 * len(nominal))  # a count and a mean rank of each
    for quantity, row in nominal.iterrows():
        assert row["rank_p_value"] >= level, f"{quantity}: mean rank {row['mean_rank']:.3f}"
        low, high = binomial_band(int(row["data_sets"]), 0.9, 1.0 - level)
        assert low <= row["untied"] <= high, f"{quantity}: {row['untied']} of {row['data_sets']}"


def write(name, content):
    FOLDER.mkdir(exist_ok=True)
    place = FOLDER / f"{name.replace(' ', '_').replace(',', '')}.json"
    place.write_text(json.dumps({"name": name.split("_", 1)[1]} | content) + "\n")
