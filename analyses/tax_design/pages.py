"""Tables of the README, from results.json."""

from pathlib import Path

from tables import fill, markdown, shown

TAXES = ("VAT 1", "VAT 2", "VAT 3", "income tax")
OF_GRADIENT = ("income tax", "VAT 1", "VAT 2", "VAT 3")
"""Names in the order of a flattened gradient: keys of the incentive in alphabetical order."""


def economy_tables(results: dict) -> dict[str, str]:
    """Convergence in the grid, and agreement of three estimators."""
    grid = [["grid points", "welfare", *(f"d/d {tax}" for tax in OF_GRADIENT)]]
    grid += [
        [str(row["assets"]), f"{row['welfare']:.3f}", *(f"{g:.3f}" for g in row["gradient"])]
        for row in results["grid"]
    ]
    agreement = [["estimator", *(f"d/d {tax} (standard error)" for tax in OF_GRADIENT), "ms"]]
    for row in results["agreement"]:
        each = zip(row["gradient"], row["standard_error"], strict=True)
        agreement.append(
            [
                f"`{row['estimator']}`",
                *(f"{g:.2f} ({e:.2f})" for g, e in each),
                f"{1e3 * row['seconds']:.0f}",
            ]
        )
    return {"GRID": markdown(grid), "AGREEMENT": markdown(agreement)}


def network_tables(results: dict) -> dict[str, str]:
    """Compare the network with the grid, and their time."""
    rows = [
        [
            "temperature",
            "group",
            "learning steps",
            "policy distance",
            "own value (grid)",
            "welfare (grid)",
            "CPU seconds",
        ]
    ]
    for row in results["network"]:
        rows.append(
            [
                f"{row['temperature']:g}",
                row["group"],
                f"{row['steps']:,}",
                f"{row['policy_distance']:.3f}",
                f"{row['own_value']:.2f} ({row['own_value_grid']:.2f})",
                f"{row['welfare']:.2f} ({row['welfare_grid']:.2f})",
                f"{row['seconds']:.1f}",
            ]
        )
    longest = max(row["steps"] for row in results["network"])
    deep = sum(row["seconds"] for row in results["network"] if row["steps"] == longest)
    (exact,) = (row["seconds"] for row in results["agreement"] if row["estimator"] == "exact")
    (fine,) = (row["seconds"] for row in results["grid"] if row["assets"] == 101)
    ratio = (
        f"One outer iteration needs a response of both groups: {deep:.0f} s of CPU by {longest:,} "
        f"learning steps each, {1e3 * fine:.0f} ms by the grid of 101 points with its exact "
        f"hypergradient (**{deep / fine:,.0f} times** less), {1e3 * exact:.0f} ms with 51 points "
        f"({deep / exact:,.0f} times)."
    )
    return {"NETWORK": markdown(rows), "RATIO": ratio}


def learning_table(results: dict) -> dict[str, str]:
    """Say where each estimator ended after 1,000 iterations."""
    rows = [["temperature", "estimator", "welfare (standard error)", *TAXES, "CPU ms / iteration"]]
    for row in sorted(results["learning"], key=lambda r: r["temperature"]):
        rates = zip(row["rates"], row["rate_spread"], strict=True)
        rows.append(
            [
                f"{row['temperature']:g}",
                f"`{row['estimator']}`",
                f"{row['welfare']:.3f} ({row['welfare_error']:.3f})",
                *(f"{r:.2f} ({s:.2f})" for r, s in rates),
                f"{row['ms']:.0f}",
            ]
        )
    return {"LEARNING": markdown(rows)}


def household_tables(results: dict) -> dict[str, str]:
    """Compare models of shares, labour supply, taxes and incidence."""
    models = [
        [
            "model",
            "elpd (s.e.)",
            "difference (s.e.)",
            "effective parameters",
            "k > .7",
            "worst R-hat",
            "least ESS",
            "divergences",
            "seconds",
        ]
    ]
    for row in results["models"]:
        models.append(
            [
                row["model"],
                f"{row['elpd']:.1f} ({row['se']:.1f})",
                f"{row['elpd_diff']:.1f} ({row['dse']:.1f})",
                f"{row['p']:.1f}",
                str(row["k_above_0.7"]),
                f"{row['worst_r_hat']:.3f}",
                f"{row['least_ess']:.0f}",
                str(row["divergences"]),
                f"{row['seconds']:.0f}",
            ]
        )
    bought = results["bought"]
    models.append(
        [
            "which goods are bought",
            "",
            "",
            "",
            "",
            f"{bought['worst_r_hat']:.3f}",
            f"{bought['least_ess']:.0f}",
            str(bought["divergences"]),
            f"{bought['seconds']:.0f}",
        ]
    )
    return {"MODELS": markdown(models)}


def tax_tables(results: dict) -> dict[str, str]:
    """Format the designed taxes, who pays them, and what they rest on."""
    labour = [["target", "elasticity", "temperature", "1 / (exponent - 1)", "effective draws"]]
    labour += [
        [
            name,
            f"{v['elasticity']:.2f}",
            f"{v['temperature']:.3f}",
            f"{v['frisch']:.2f}",
            f"{v['effective_draws']:.0f}",
        ]
        for name, v in results["labour"].items()
    ]
    names = list(results["taxes"][0]["rates"])
    taxes = [
        [
            "preferences; elasticity",
            *names,
            "welfare",
            "regret of the common rates",
            "not converged",
        ]
    ]
    for row in results["taxes"]:
        taxes.append(
            [
                row["case"],
                *(shown(row["rates"][n]) for n in names),
                shown(row["welfare"]),
                shown(row["regret"], 3),
                str(row["not_converged"]),
            ]
        )
    common = results["taxes"][
        [r["case"] for r in results["taxes"]].index("logistic-normal, covariates; published (.33)")
    ]["common"]
    sentence = ", ".join(f"{name} {rate:.2f}" for name, rate in common.items())
    paid = [
        [
            "group",
            "rates",
            "hours",
            "VAT / earnings",
            "income tax / earnings",
            "both / earnings",
            "change of own value",
        ]
    ]
    for row in results["incidence"]:
        paid.append(
            [
                row["group"],
                row["rates"],
                shown(row["hours"]),
                *(shown(row[f], 3) for f in ("vat_share", "income_tax_share", "tax_share")),
                shown(row["value_change"]),
            ]
        )
    tastes = results["tastes"]
    rows = [["group", "", *tastes["goods"]]]
    for number, group in enumerate(tastes["groups"]):
        for label, field in (
            ("observed", "observed"),
            ("predicted share", "share"),
            ("weight behind it", "weight"),
        ):
            rows.append([group, label, *(f"{v:.3f}" for v in tastes[field][number])])
    gap = f"Largest gap between a drawn share and the model's: {results['largest_share_gap']:.3f}."
    if results["unsettled"]:
        gap += f" Left out, as its chains did not settle: {', '.join(results['unsettled'])}."
    return {
        "TASTES": markdown(rows),
        "GAP": gap,
        "LABOUR": markdown(labour),
        "TAXES": markdown(taxes),
        "COMMON": sentence + ".",
        "INCIDENCE": markdown(paid),
    }


def cost_table(results: dict) -> dict[str, str]:
    """Time and memory of each part."""
    rows = [["part", "CPU seconds", "peak memory so far (MB)"]]
    rows += [
        [part, f"{c['cpu_seconds']:.0f}", f"{c['peak_MB']:.0f}"]
        for part, c in results["cost"].items()
    ]
    return {"COST": markdown(rows)}


TABLES = {
    "grid": economy_tables,
    "network": network_tables,
    "learning": learning_table,
    "models": household_tables,
    "taxes": tax_tables,
    "cost": cost_table,
}


def fill_readme(results: dict, path: Path) -> None:
    """Fill the tables of the parts that have been run."""
    for name, make in TABLES.items():
        if name in results:
            fill(path, make(results))
