"""Taxes for real households: designs under posterior draws, who pays, and what models change."""

from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from households import (
    BASE_INCOME_TAX,
    BASE_VAT,
    COLOURS,
    ELASTICITY,
    ShareFits,
    base_rates,
    calibrated,
    draw_labour,
    elasticities,
    groups_of,
    labour_prior,
    make_problem,
    sampling_health,
    share_draws,
    tastes_behind,
)
from tables import interval

import cbrl_bayes as cb
from cbrl_bayes.problems import HouseholdAccounts, Problem, household_accounts

NUM_DRAWS, NUM_OTHER_DRAWS, NUM_COMMON_DRAWS, NUM_PRIOR = 50, 12, 6, 200
STEPS, FIRST_STEPS = 30, 60
MAIN_MODEL, MAIN_ELASTICITY = "logistic-normal, covariates", "published (.33)"
PROB = 0.9


def run_taxes(fits: ShareFits, folder: Path) -> dict[str, Any]:
    """Calibrate labour supply, design taxes under each model, and account for who pays."""
    goods = [str(good) for good in fits.data["good"].values]
    share, _, names = share_draws(fits, MAIN_MODEL, 8, jax.random.key(2))
    problem = make_problem(names, share, goods)
    prior = labour_prior(NUM_PRIOR, jax.random.key(3))
    elasticity = elasticities(problem, prior)
    labour = draw_labour(elasticity, prior, folder / "labour.png")
    studies: dict[str, xr.DataTree] = {}
    unsettled = [n for n in fits.draws if sampling_health(fits.draws[n])["worst_r_hat"] > 1.05]
    gaps = {}
    cases = [(model, MAIN_ELASTICITY) for model in COLOURS if model != "Dirichlet"]
    cases += [(MAIN_MODEL, other) for other in ELASTICITY if other != MAIN_ELASTICITY]
    for model, target in cases:
        is_main = (model, target) == (MAIN_MODEL, MAIN_ELASTICITY)
        number = NUM_DRAWS if is_main else NUM_OTHER_DRAWS
        if model in unsettled:
            continue
        share, chance, names = share_draws(fits, model, number, jax.random.key(2))
        drawn = calibrated(prior, elasticity, ELASTICITY[target], number)
        problem = make_problem(names, share, goods)
        weight, gap = tastes_behind(problem, share, drawn)
        draws = drawn | {"preference": weight, "context_probability": chance}
        studies[f"{model}; {target}"] = study = _study(problem, draws)
        gaps[f"{model}; {target}"] = gap
        print(f"{model}; {target}", flush=True)
        print(cb.summary(study, prob=PROB), flush=True)
        if is_main:
            # The households' policies are 99.7 % of the file, and nothing here reads them.
            cb.save(study.drop_nodes("response"), folder / "study.nc")
            tastes = {
                "goods": goods,
                "groups": names,
                "share": share.mean(0).tolist(),
                "weight": weight.mean(0).tolist(),
                "observed": observed_shares(fits).tolist(),
            }
            incidence = incidence_rows(problem, study, draws, names)
    return {
        "labour": labour,
        "incidence": incidence,
        "tastes": tastes,
        "unsettled": unsettled,
        "largest_share_gap": max(gaps.values()),
        "taxes": [tax_row(name, study) for name, study in studies.items()],
    }


def draw_figures(results: dict[str, Any], folder: Path) -> None:
    """Draw the designed rates, and who pays them, from what `run_taxes` found."""
    draw_incidence(results["incidence"], folder / "incidence.png")
    draw_rates(results["taxes"], folder / "rates.png")


def observed_shares(fits: ShareFits) -> np.ndarray:
    """Return the mean observed shares of each group, zeros included."""
    group, names = groups_of(fits.data)
    share = fits.data["share"].values
    return np.stack([share[group == number].mean(0) for number in range(len(names))])


def _study(problem: Problem, draws: dict[str, np.ndarray]) -> xr.DataTree:
    """Solve under every draw and once for all."""
    first = cb.Search(ascent=cb.Ascent(num_steps=FIRST_STEPS, learning_rate=0.1))
    each = cb.Search(ascent=cb.Ascent(num_steps=STEPS, learning_rate=0.15))
    settings = cb.DesignSettings(search=first, per_draw=each, num_search_draws=NUM_COMMON_DRAWS)
    return cb.design(
        problem,
        draws,
        key=jax.random.key(4),
        num_draws=len(draws["temperature"]),
        settings=settings,
    )


def tax_row(name: str, study: xr.DataTree) -> dict[str, Any]:
    """Best rates per draw with intervals, the common rates, welfare and regret."""
    design, decision = study["design"].to_dataset(), study["decision"].to_dataset()
    rates = _rates(design)
    common = decision.sel(design="common")
    return {
        "case": name,
        "rates": {k: interval(v) for k, v in rates.items()},
        "common": {k: float(v.ravel()[0]) for k, v in _rates(common).items()},
        "welfare": interval(design["leader_objective"].values.ravel()),
        "common_welfare": interval(common["objective"].values.ravel()),
        "regret": interval(common["regret"].values.ravel()),
        "not_converged": int((design["status"].values != 0).sum()),
    }


def _rates(found: xr.Dataset) -> dict[str, np.ndarray]:
    """Return each tax's rates over the draws."""
    vat = {
        f"VAT {good}": found["incentive_vat"].sel(good=good).values.ravel()
        for good in found["good"].values
    }
    return vat | {"income tax": found["incentive_income_tax"].values.ravel()}


def incidence_rows(
    problem: Problem, study: xr.DataTree, draws: dict[str, np.ndarray], names: list[str]
) -> list[dict[str, Any]]:
    """Account for what each group pays and gains, against the rates of the time."""
    num_goods = draws["preference"].shape[-1]
    common = study["decision"].to_dataset().sel(design="common")
    new = {
        "vat": jnp.asarray(common["incentive_vat"].values),
        "income_tax": jnp.asarray(common["incentive_income_tax"].values),
    }
    run = jax.jit(lambda rates, one: household_accounts(problem, rates, one))
    before: list[HouseholdAccounts] = []
    after: list[HouseholdAccounts] = []
    for number in range(len(draws["temperature"])):
        one = {n: jnp.asarray(v[number]) for n, v in draws.items()}
        before.append(run(base_rates(num_goods), one))
        after.append(run(new, one))
    rows = []
    for group, name in enumerate(names):
        for label, found in (("then", before), ("designed", after)):
            paid = np.array([float(f.vat_paid[group].sum()) for f in found])
            income = np.array([float(f.income_tax_paid[group]) for f in found])
            earned = np.array([float(f.earnings[group]) for f in found])
            hours = np.array([float(f.hours[group]) for f in found])
            rows.append(
                {
                    "group": name,
                    "rates": label,
                    "hours": interval(hours),
                    "vat_share": interval(paid / earned),
                    "income_tax_share": interval(income / earned),
                    "tax_share": interval((paid + income) / earned),
                    "value_change": interval(
                        np.array(
                            [
                                float(a.value[group] - b.value[group])
                                for a, b in zip(found, before, strict=True)
                            ]
                        )
                    ),
                }
            )
    return rows


def draw_incidence(rows: list[dict[str, Any]], path: Path) -> None:
    """Taxes paid as a share of earnings by group, before and after."""
    figure, axes = plt.subplots(1, 2, figsize=(10, 3.8), layout="constrained")
    groups = list(dict.fromkeys(row["group"] for row in rows))
    for shift, (label, colour) in zip(
        (-0.12, 0.12), (("then", "#999999"), ("designed", "#0072B2")), strict=True
    ):
        mine = [row for row in rows if row["rates"] == label]
        for panel, field in zip(axes, ("tax_share", "hours"), strict=True):
            mean, low, high = np.array([row[field] for row in mine]).T
            panel.errorbar(
                np.arange(len(groups)) + shift,
                mean,
                [mean - low, high - mean],
                fmt="o",
                color=colour,
                capsize=3,
                label=label,
            )
    then = f"then: VAT {BASE_VAT:.2f}, income tax {BASE_INCOME_TAX:.2f}"
    axes[0].set(ylabel="VAT and income tax paid, share of earnings", title=then)
    axes[1].set(ylabel="hours worked", title="90 % intervals")
    for panel in axes:
        panel.set_xticks(range(len(groups)), groups, rotation=15)
        panel.legend()
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_rates(rows: list[dict[str, Any]], path: Path) -> None:
    """Best rates per draw under each model of households."""
    figure, axes = plt.subplots(1, 2, figsize=(12, 4.2), layout="constrained")
    names = list(rows[0]["rates"])
    colours = ("#0072B2", "#009E73", "#D55E00", "#000000", "#CC79A7")
    by_model = [row for row in rows if row["case"].endswith(MAIN_ELASTICITY)]
    by_labour = [row for row in rows if row["case"].startswith(MAIN_MODEL)]
    for part, (panel, chosen) in enumerate(zip(axes, (by_model, by_labour), strict=True)):
        for number, row in enumerate(chosen):
            mean, low, high = np.array([row["rates"][name] for name in names]).T
            panel.errorbar(
                np.arange(len(names)) + 0.18 * (number - (len(chosen) - 1) / 2),
                mean,
                [mean - low, high - mean],
                fmt="o",
                capsize=2,
                color=colours[number + 2 * part],
                label=row["case"].split("; ")[part],
            )
        panel.set_xticks(range(len(names)), [name.removeprefix("VAT ") for name in names])
        panel.set_ylabel("rate (share of price or wage)")
        panel.legend(fontsize="small")
    axes[0].set_title("by model of preferences")
    axes[1].set_title("by elasticity of labour supply")
    figure.savefig(path, dpi=110)
    plt.close(figure)
