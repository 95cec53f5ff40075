"""Gather the finished jobs: one DataTree, the tables, the convergence figure."""

from collections.abc import Callable
from pathlib import Path

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
import xarray as xr

PUBLISHED = {
    (row["lambda"], int(row["beta"])): (row["hpgd"], row["amd"], row["zeroth_order"])
    for _, row in pd.read_csv(Path(__file__).parent.parent / "four_rooms_published.csv").iterrows()
}
"""(lambda, beta) -> mean objective of HPGD, AMD and zeroth-order in Thoma et al. (2024)."""

PUBLISHED_NAMES = ("hpgd", "amd", "zeroth_order")
LAST_ITERATIONS = 1000
SAMPLE_BUDGET = 1e7
SECONDS_BUDGET = 3.0
COLOURS = {
    "exact": "#000000",
    "hpgd": "#0072B2",
    "hpgd, as published": "#56B4E9",
    "boltzmann_covariance": "#D55E00",
    "rt_q": "#CC79A7",
    "amd": "#009E73",
    "sobirl": "#7F7F7F",
    "penalty": "#E69F00",
    "zeroth_order": "#B2A100",
}

Cell = tuple[float, int]
FIELDS = ("objective", "objective_in_simulator", "follower_steps", "seconds")


def report(folder: Path, files: dict[tuple[str, Cell], Path]) -> None:
    """Write comparison.nc, table.csv, budgets.csv and convergence.png from what is finished.

    Parameters
    ----------
    folder : Path
        Where to write.
    files : dict
        (estimator, cell) -> file of the job.
    """
    found = {job: xr.load_dataset(path) for job, path in files.items() if path.exists()}
    missing = [f"{name} in {cell}" for (name, cell) in files if (name, cell) not in found]
    if missing:
        print(f"{len(missing)} jobs are not finished: " + "; ".join(missing))
    tree = as_tree(found)
    partial = folder / "comparison.partial"
    tree.to_netcdf(partial, engine="h5netcdf", encoding=compressed(tree))
    partial.replace(folder / "comparison.nc")
    table = summarise(found)
    table.round(4).to_csv(folder / "table.csv", index=False)
    budgets(found).round(4).to_csv(folder / "budgets.csv", index=False)
    draw(found, folder / "convergence.png")
    shown = table.pivot_table(index=["lambda", "beta"], columns="estimator", values="mean")
    print(shown.round(3).to_string())


def unpack(path: Path, file_of: Callable[[str, Cell], Path]) -> None:
    """Write the jobs that an earlier comparison.nc holds back into files of their own."""
    if not path.exists():
        return
    with xr.open_datatree(path, engine="h5netcdf") as tree:
        for node in tree.children.values():
            cell = (float(node.attrs["temperature"]), int(node.attrs["penalty_weight"]))
            data = node.to_dataset().load()
            for name in data["estimator"].values:
                target = file_of(str(name), cell)
                if target.exists():
                    continue
                one = data.sel(estimator=name)
                rate = float(one["learning_rate"])
                one = one[list(FIELDS)].drop_vars(
                    ["estimator", "published_estimator"], errors="ignore"
                )
                one.attrs = {
                    "estimator_name": str(name),
                    "learning_rate": rate,
                    "temperature": cell[0],
                    "penalty_weight": cell[1],
                }
                one.to_netcdf(target, engine="h5netcdf")


def recorded_rates(runs: Path) -> dict[str, float]:
    """Return the learning rates with which finished jobs were run, by estimator."""
    rates = {}
    for path in sorted(runs.glob("*.nc")):
        with xr.open_dataset(path, engine="h5netcdf") as data:
            if "estimator_name" in data.attrs:
                rates[data.attrs["estimator_name"]] = float(data.attrs["learning_rate"])
    return rates


def as_tree(found: dict[tuple[str, Cell], xr.Dataset]) -> xr.DataTree:
    """One group per cell; dims estimator, seed, iteration."""
    groups: dict[str, xr.Dataset] = {}
    for cell in PUBLISHED:
        here = {name: data for (name, place), data in found.items() if place == cell}
        if not here:
            continue
        rates = [data.attrs["learning_rate"] for data in here.values()]
        joined = xr.concat(
            [data.astype("float32") for data in here.values()],
            dim=xr.DataArray(list(here), dims="estimator", name="estimator"),
            combine_attrs="drop",
        )
        joined["learning_rate"] = ("estimator", rates)
        joined["published"] = ("published_estimator", list(PUBLISHED[cell]))
        joined = joined.assign_coords(published_estimator=list(PUBLISHED_NAMES))
        joined.attrs = {"temperature": cell[0], "penalty_weight": cell[1]}
        groups[f"/lambda_{cell[0]}_beta_{cell[1]}"] = joined
    tree = xr.DataTree.from_dict(groups)
    tree.attrs = {
        "title": "Estimators of the hypergradient on Four-Rooms, published budget",
        "objective": "exact value, slip .44 in follower and evaluation (as published)",
        "objective_in_simulator": "the follower plans with slip .44 and moves with slip .33",
        "follower_steps": "cumulative environment steps",
        "seconds": "cumulative CPU seconds, compilation and evaluation left out",
    }
    return tree


def compressed(tree: xr.DataTree) -> dict:
    """Return the encoding that shrinks every array."""
    return {
        group: {
            str(name): {"zlib": True, "complevel": 6}
            for name in node.data_vars
            if node[name].ndim > 1
        }
        for group, node in zip(tree.groups, tree.subtree, strict=True)
    }


def reached(data: xr.Dataset, name: str = "objective") -> np.ndarray:
    """Return each seed's value, averaged over the last iterations as in the paper."""
    last = data["iteration"] > data["iteration"].values[-1] - LAST_ITERATIONS
    return data[name].isel(iteration=last.values).mean("iteration").values


def summarise(found: dict[tuple[str, Cell], xr.Dataset]) -> pd.DataFrame:
    """Mean, standard error, best and worst seed, beside what was published."""
    rows = []
    for (name, cell), data in found.items():
        values, simulated = reached(data), reached(data, "objective_in_simulator")
        published = dict(zip(PUBLISHED_NAMES, PUBLISHED[cell], strict=True))
        rows.append(
            {
                "lambda": cell[0],
                "beta": cell[1],
                "estimator": name,
                "mean": values.mean(),
                "standard_error": values.std(ddof=1) / np.sqrt(len(values))
                if len(values) > 1
                else 0.0,
                "best": values.max(),
                "worst": values.min(),
                "published": published.get(name.split(",")[0], np.nan),
                "mean_in_simulator": simulated.mean(),
                "learning_rate": data.attrs["learning_rate"],
                "follower_steps_per_iteration": float(
                    data["follower_steps"].values[:, -1].mean() / data["iteration"].values[-1]
                ),
                "seconds": float(data["seconds"].values[:, -1].mean()),
                "seeds": len(values),
            }
        )
    return pd.DataFrame(rows).sort_values(["lambda", "beta", "estimator"])


def budgets(found: dict[tuple[str, Cell], xr.Dataset]) -> pd.DataFrame:
    """Objective when a budget of follower steps, or of CPU seconds, is used up."""
    rows = []
    for (name, cell), data in found.items():
        row = {"lambda": cell[0], "beta": cell[1], "estimator": name}
        for column, budget in (("follower_steps", SAMPLE_BUDGET), ("seconds", SECONDS_BUDGET)):
            spent = data[column].values
            if spent[:, -1].max() == 0:
                row[f"at {budget:g} {column}"] = np.nan
                continue
            place = np.minimum((spent < budget).sum(1), spent.shape[1] - 1)
            values = data["objective"].values[np.arange(len(spent)), place]
            row[f"at {budget:g} {column}"] = values.mean()
        rows.append(row)
    return pd.DataFrame(rows).sort_values(["lambda", "beta", "estimator"])


def draw(found: dict[tuple[str, Cell], xr.Dataset], path: Path) -> None:
    """One panel per cell: mean over seeds, and the range of the seeds as a band."""
    figure, axes = plt.subplots(3, 3, figsize=(12, 9), sharex=True, layout="constrained")
    handles = {}
    for panel, cell in zip(axes.ravel(), PUBLISHED, strict=True):
        for (name, place), data in found.items():
            if place != cell:
                continue
            values = data["objective"].values
            iteration = data["iteration"].values
            colour = COLOURS[name]
            (handles[name],) = panel.plot(iteration, values.mean(0), color=colour, lw=1.2)
            panel.fill_between(
                iteration, values.min(0), values.max(0), color=colour, alpha=0.12, linewidth=0
            )
        best = max(PUBLISHED[cell])
        handles["best published"] = panel.axhline(best, color="black", ls=":", lw=1)
        panel.set_title(f"temperature {cell[0]:g}, price {cell[1]}", fontsize=10)
        low = min(0.0, best) - 0.3
        panel.set_ylim(bottom=low)
    for panel in axes[-1]:
        panel.set_xlabel("iteration")
    for panel in axes[:, 0]:
        panel.set_ylabel("leader's objective")
    figure.legend(
        handles.values(), handles.keys(), loc="outside lower center", ncols=5, fontsize="small"
    )
    figure.savefig(path, dpi=110)
    plt.close(figure)
