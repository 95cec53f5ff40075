"""Real households: models of their budget shares, and labour supply calibrated."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from scipy.stats import gaussian_kde, norm

from cbrl_bayes.behaviour import load_household_shares
from cbrl_bayes.inference import (
    DirichletShares,
    FitDraws,
    LogisticNormalShares,
    NUTSSettings,
    Participation,
    ShareModel,
    fit_shares,
    predict_shares,
)
from cbrl_bayes.problems import HouseholdEconomy, Problem, household_accounts, tax_design

MODELS: dict[str, tuple[ShareModel, bool]] = {
    "Dirichlet": (DirichletShares(), False),
    "Dirichlet, covariates": (DirichletShares(), True),
    # Classes differ most in clothing.
    "mixture of 2 Dirichlet": (DirichletShares(num_classes=2, ordered_good=2), False),
    "logistic-normal, covariates": (LogisticNormalShares(), True),
}
"""Name -> the model, and whether it is given covariates."""

SETTINGS = NUTSSettings(num_chains=2, num_warmup=500, num_samples=500)
ECONOMY = HouseholdEconomy(
    num_goods=6, num_assets=41, wage=3.0, spending_step=0.5, spending_levels=(0, 1, 2, 4, 8)
)
"""Money such that a household that works 4 hours earns 12 and can split it over six goods."""

BASE_VAT, BASE_INCOME_TAX = 0.15, 0.30
"""British rates around 1981, when the survey was taken: standard VAT and basic income tax."""

USUAL_HOURS, MARGINAL_EFFORT = 4.0, 0.33
"""kappa is set so that the marginal disutility at 4 hours is .33, whatever the exponent."""

ELASTICITY = {"published (.33)": (0.33, 0.1), "low (.15)": (0.15, 0.05), "high (.5)": (0.5, 0.1)}
"""Name -> mean and standard deviation of hours' elasticity to the net wage. .33: the mean of micro
estimates of the Hicksian intensive elasticity in Chetty, Guren, Manoli and Weber (2011); Keane
(2011) has .31 as the mean of his survey of men. The spread and the two others are ours."""

COLOURS = dict(zip(MODELS, ("#999999", "#0072B2", "#009E73", "#D55E00"), strict=True))


def standardised(data: xr.Dataset) -> np.ndarray:
    """Return kids, log total expenditure and age, each with mean 0 and standard deviation 1."""
    columns = [data["kids"], np.log(data["total_expenditure"]), data["age"]]
    return np.stack([(c - c.mean()) / c.std() for c in columns], axis=1)


def groups_of(data: xr.Dataset) -> tuple[np.ndarray, list[str]]:
    """Return each household's group: one or two children, spending below or above the median."""
    rich = (data["total_expenditure"] > data["total_expenditure"].median()).values
    two = (data["kids"] == 2).values
    names = ["1 child, spends less", "1 child, more", "2 children, less", "2 children, more"]
    group = 2 * two.astype(int) + rich
    empty = [name for number, name in enumerate(names) if not (group == number).any()]
    if empty:
        raise SystemExit(f"no household in {', '.join(empty)}")
    return group, names


@dataclass(frozen=True)
class ShareFits:
    """What was fitted, and the data."""

    data: xr.Dataset
    draws: dict[str, FitDraws]
    participation: FitDraws
    trees: dict[str, xr.DataTree]

    def design(self, name: str) -> np.ndarray:
        """Return the covariates that a model was given."""
        full = standardised(self.data)
        return full if MODELS[name][1] else full[:, :0]


def fit_all(key: jax.Array) -> ShareFits:
    """Fit every model, and which goods are bought."""
    data = load_household_shares()
    share, full = data["share"].values, standardised(data)
    draws = {}
    for number, (name, (model, given)) in enumerate(MODELS.items()):
        design = full if given else full[:, :0]
        draws[name] = fit_shares(
            model,
            share,
            design,
            key=jax.random.fold_in(key, number),
            settings=SETTINGS,
            num_starts=8 if "mixture" in name else 1,
        )
        print(name, f"{draws[name].seconds:.0f} s", flush=True)
    bought = fit_shares(
        Participation(), share, full, key=jax.random.fold_in(key, 99), settings=SETTINGS
    )
    trees = {
        name: az.from_dict(
            {
                "posterior": fit.posterior,
                "sample_stats": fit.sample_stats,
                "log_likelihood": fit.log_likelihood,
            }
        )
        for name, fit in (draws | {"participation": bought}).items()
    }
    return ShareFits(data, draws, bought, trees)


def comparison_rows(fits: ShareFits) -> list[dict]:
    """PSIS-LOO of the compositions, with health of sampling and of the approximation."""
    loos = {name: az.loo(fits.trees[name], pointwise=True) for name in MODELS}
    best = max(loos, key=lambda name: loos[name].elpd)
    rows = []
    for name in sorted(loos, key=lambda name: -loos[name].elpd):
        loo = loos[name]
        gap = np.asarray(loo.elpd_i).ravel() - np.asarray(loos[best].elpd_i).ravel()
        rows.append(
            {
                "model": name,
                "elpd": float(loo.elpd),
                "se": float(loo.se),
                "p": float(loo.p),
                "elpd_diff": float(gap.sum()),
                "dse": float(gap.std(ddof=1) * len(gap) ** 0.5),
                "k_above_0.7": int((np.asarray(loo.pareto_k) > 0.7).sum()),
                **sampling_health(fits.draws[name]),
            }
        )
    return rows


def sampling_health(fit: FitDraws) -> dict[str, float]:
    """Return worst R-hat and least ESS over all entries that vary, divergences, seconds."""
    columns = [v.reshape(*v.shape[:2], -1) for v in fit.posterior.values()]
    table = np.concatenate(columns, axis=2)
    tree = az.from_dict({"posterior": {"all": table[..., table.std((0, 1)) > 1e-12]}})
    return {
        "worst_r_hat": float(az.rhat(tree)["all"].max()),
        "least_ess": float(az.ess(tree)["all"].min()),
        "divergences": int(fit.sample_stats["diverging"].sum()),
        "seconds": fit.seconds,
    }


def _thinned(fit: FitDraws, num: int) -> list[dict[str, jax.Array]]:
    """Return evenly spaced draws, as the models take them."""
    flat = {n: v.reshape(-1, *v.shape[2:]) for n, v in fit.posterior.items()}
    total = len(next(iter(flat.values())))
    kept = np.linspace(0, total - 1, num).astype(int)
    return [{n: jnp.asarray(v[i]) for n, v in flat.items()} for i in kept]


def predictions(fits: ShareFits, name: str, num: int, repeats: int, key: jax.Array) -> np.ndarray:
    """Simulate every household's shares, shape (draws, repeats, households, goods)."""
    model, design = MODELS[name][0], jnp.asarray(fits.design(name))
    full = jnp.asarray(standardised(fits.data))

    @jax.jit
    def once(draw: dict, bought: dict, key: jax.Array) -> jax.Array:
        # Which goods are bought follows all covariates, whatever the model of shares was given.
        return predict_shares(model, draw, design, bought, full, key)

    both = zip(_thinned(fits.draws[name], num), _thinned(fits.participation, num), strict=True)
    found = []
    for number, (draw, bought) in enumerate(both):
        keys = jax.random.split(jax.random.fold_in(key, number), repeats)
        found.append([np.asarray(once(draw, bought, k)) for k in keys])
    return np.array(found)


def share_draws(fits: ShareFits, name: str, num: int, key: jax.Array) -> tuple[np.ndarray, ...]:
    """Return mean shares (draw, group, good), probabilities (draw, group), and names.

    A group's share is the mean over its households, zeros included. For a mixture the groups are
    its classes.
    """
    model, counts_key = MODELS[name][0], jax.random.fold_in(key, 7)
    if isinstance(model, DirichletShares) and model.num_classes > 1:
        drawn = _thinned(fits.draws[name], num)
        weight = np.stack([np.asarray(model.class_means(draw)) for draw in drawn])
        chance = np.stack([np.asarray(draw["class_probability"]) for draw in drawn])
        return weight, chance, [f"class {k + 1}" for k in range(model.num_classes)]
    group, names = groups_of(fits.data)
    shares = predictions(fits, name, num, 20, key).mean(1)
    weight = np.stack([shares[:, group == g].mean(1) for g in range(len(names))], axis=1)
    counts = jnp.asarray(np.bincount(group, minlength=len(names)) + 1.0)
    chance = np.asarray(jax.random.dirichlet(counts_key, counts, (num,)))
    return weight / weight.sum(-1, keepdims=True), chance, names


def labour_prior(num: int, key: jax.Array) -> dict[str, np.ndarray]:
    """Draw temperature and exponent of effort before the literature is heeded."""
    first, second = jax.random.split(key)
    temperature = 0.035 * np.exp(0.4 * np.asarray(jax.random.normal(first, (num,))))
    frisch = 0.5 * np.exp(0.6 * np.asarray(jax.random.normal(second, (num,))))
    exponent = 1.0 + 1.0 / frisch
    weight = MARGINAL_EFFORT / (exponent * USUAL_HOURS ** (exponent - 1.0))
    return {"temperature": temperature, "effort_exponent": exponent, "effort_weight": weight}


def make_problem(names: list[str], weight: np.ndarray, goods: list[str]) -> Problem:
    """Return the tax problem at mean preferences."""
    mean = weight.mean(0)
    return tax_design(
        preferences={n: tuple(w / w.sum()) for n, w in zip(names, mean, strict=True)},
        economy=ECONOMY,
        goods=tuple(goods),
        initial_rate=0.3,
        highest_rate=2.0,
    )


def base_rates(num_goods: int) -> dict[str, jax.Array]:
    """Return the rates of the time of the survey."""
    return {"vat": jnp.full(num_goods, BASE_VAT), "income_tax": jnp.asarray(BASE_INCOME_TAX)}


def tastes_behind(
    problem: Problem, share: np.ndarray, labour: dict[str, np.ndarray], steps: int = 12
) -> tuple[np.ndarray, float]:
    """Find the Cobb-Douglas weights under which the model's households spend in these shares.

    A rational household with free choice of amounts would spend the weights themselves; one that
    chooses among few levels, and not always the best, does not. At the base rates, draw by draw,
    by ``weight <- weight * share / share of the model``. Also the largest gap that is left.
    """
    rates = base_rates(share.shape[-1])

    @jax.jit
    def spent(weight: jax.Array, one: dict) -> jax.Array:
        parameters = problem.default_parameters | one | {"preference": weight}
        spending = household_accounts(problem, rates, parameters).spending
        return spending / spending.sum(-1, keepdims=True)

    weights, gaps = [], []
    for number, target in enumerate(share):
        one = {n: jnp.asarray(v[number]) for n, v in labour.items()}
        weight = jnp.asarray(target)
        for _ in range(steps):
            weight = weight * target / spent(weight, one)
            weight = weight / weight.sum(-1, keepdims=True)
        weights.append(np.asarray(weight))
        gaps.append(float(abs(spent(weight, one) - target).max()))
    return np.array(weights), max(gaps)


def elasticities(problem: Problem, draws: dict[str, np.ndarray]) -> np.ndarray:
    """Return d log hours / d log (1 - income tax) at the base rates, all groups together."""
    rates = base_rates(problem.incentive.transform(problem.incentive.initial)["vat"].size)
    chance = problem.default_parameters["context_probability"]

    def log_hours(tax: jax.Array, one: dict) -> jax.Array:
        parameters = problem.default_parameters | one
        accounts = household_accounts(problem, rates | {"income_tax": tax}, parameters)
        return jnp.log(chance @ accounts.hours)

    slope = jax.jit(lambda one: jax.grad(log_hours)(jnp.asarray(BASE_INCOME_TAX), one))
    number = len(draws["temperature"])
    each = [slope({n: jnp.asarray(v[i]) for n, v in draws.items()}) for i in range(number)]
    return -(1.0 - BASE_INCOME_TAX) * np.array(each)


def calibration_weights(elasticity: np.ndarray, target: tuple[float, float]) -> np.ndarray:
    """Return weights under which the prior draws have the target's distribution of elasticity."""
    weight = norm.pdf(elasticity, *target) / gaussian_kde(elasticity)(elasticity)
    return weight / weight.sum()


def calibrated(
    draws: dict[str, np.ndarray], elasticity: np.ndarray, target: tuple[float, float], num: int
) -> dict[str, np.ndarray]:
    """Resample the prior systematically with these weights, in random order."""
    weight = calibration_weights(elasticity, target)
    if not np.isfinite(weight).all() or 1.0 / (weight**2).sum() < num / 2:
        raise SystemExit(f"the prior has too few draws with an elasticity like {target}")
    ladder = np.cumsum(weight)
    chosen = np.searchsorted(ladder, (np.arange(num) + 0.5) / num * ladder[-1])
    order = np.random.default_rng(0).permutation(chosen)
    return {n: v[order] for n, v in draws.items()}


def draw_predictive_checks(fits: ShareFits, key: jax.Array, path: Path) -> None:
    """Observed positive shares and their predictive densities, with the share of zeros."""
    goods = fits.data["good"].values
    observed = fits.data["share"].values
    figure, axes = plt.subplots(2, 3, figsize=(11, 6), layout="constrained")
    simulated = {n: predictions(fits, n, 20, 1, key).reshape(-1, len(goods)) for n in MODELS}
    for index, (good, panel) in enumerate(zip(goods, axes.ravel(), strict=True)):
        edges = np.linspace(0, np.quantile(observed[:, index], 0.998), 30)
        seen = observed[:, index]
        panel.hist(seen[seen > 0], edges, density=True, color="#DDDDDD", label="observed")
        for name, values in simulated.items():
            positive = values[:, index][values[:, index] > 0]
            height, _ = np.histogram(positive, edges, density=False)
            height = height / (len(positive) * np.diff(edges))
            panel.stairs(height, edges, color=COLOURS[name], lw=1.6, label=name)
        missing = (simulated["Dirichlet"][:, index] == 0).mean()
        panel.set(
            title=f"{good}: zeros {(seen == 0).mean():.3f}, predicted {missing:.3f}",
            xlabel="share of spending",
            ylabel="density (bought)",
        )
    axes[0, 2].legend(fontsize="small")
    figure.savefig(path, dpi=110)
    plt.close(figure)


def draw_labour(elasticity: np.ndarray, draws: dict[str, np.ndarray], path: Path) -> dict[str, Any]:
    """Elasticity before and after each calibration."""
    figure, axes = plt.subplots(1, 2, figsize=(9, 3.4), layout="constrained")
    edges = np.linspace(0, 1, 21)
    axes[0].hist(elasticity, edges, density=True, color="#DDDDDD", label="prior")
    found = {}
    for (name, target), colour in zip(
        ELASTICITY.items(), ("#000000", "#0072B2", "#D55E00"), strict=True
    ):
        weight = calibration_weights(elasticity, target)
        axes[0].hist(
            elasticity,
            edges,
            weights=weight,
            density=True,
            histtype="step",
            color=colour,
            lw=1.6,
            label=name,
        )
        frisch = 1.0 / (draws["effort_exponent"] - 1.0)
        axes[1].scatter(
            draws["temperature"],
            frisch,
            s=1500 * weight,
            facecolor="none",
            edgecolor=colour,
            label=name,
        )
        found[name] = {
            "elasticity": float(weight @ elasticity),
            "temperature": float(weight @ draws["temperature"]),
            "frisch": float(weight @ frisch),
            "effective_draws": float(1 / (weight**2).sum()),
        }
    axes[0].set(xlabel="elasticity of hours to the net wage", ylabel="density")
    axes[0].legend(fontsize="small")
    axes[1].set(
        xlabel="temperature (household reward)",
        ylabel="1 / (effort exponent - 1)",
        xscale="log",
        yscale="log",
        title="area = weight",
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
    return found
