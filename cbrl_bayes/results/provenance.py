"""The birth certificate of a results tree: versions, settings, fingerprints."""

import hashlib
import json
import platform
from dataclasses import fields, is_dataclass
from datetime import UTC, datetime
from importlib.metadata import version
from typing import Any

import jax
import numpy as np
import xarray as xr

from cbrl_bayes.problems import Problem
from cbrl_bayes.results.schema import SCHEMA_NAME
from cbrl_bayes.version import __version__

PACKAGES = ("jax", "numpyro", "arviz", "xarray", "optax", "numpy")


def certificate(problem: Problem, stage: str, settings: dict[str, Any]) -> dict[str, str]:
    """Return attributes for the root of a tree; all text, since netCDF knows no dictionaries."""
    versions = {"cbrl-bayes": __version__}
    versions |= {name: version(name) for name in PACKAGES} | {"python": platform.python_version()}
    return {
        "schema": SCHEMA_NAME,
        "stage": stage,
        "problem": problem.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": json.dumps(versions),
        "settings": json.dumps(describe(settings), sort_keys=True),
        "fingerprint": fingerprint(problem),
        "objective_unit": problem.objective_unit,
    }


def fingerprint(problem: Problem, data: xr.Dataset | None = None) -> str:
    """Return a hash of what the problem's MDPs and the data contain.

    Two problems with the same reward, transition and leader's reward at their starting
    incentive and default parameters, the same map to incentives and the same aggregate have the
    same fingerprint.
    """
    digest = hashlib.sha256(problem.name.encode())
    for array in problem.signature():
        digest.update(_seven_digits(array))
    for point in (-3.0, 3.0):  # constraints on the incentive show away from its start
        moved = jax.tree.map(lambda leaf, by=point: leaf + by, problem.incentive.initial)
        for array in problem.incentive.transform(moved).values():
            digest.update(_seven_digits(array))
    digest.update(json.dumps(describe(problem.aggregate), sort_keys=True).encode())
    if data is not None:
        for name in sorted(map(str, data.variables)):
            digest.update(name.encode())
            values = data[name].values
            text = "\n".join(map(str, values.ravel())) if values.dtype.kind in "OUST" else None
            digest.update(text.encode() if text is not None else values.tobytes())
    return digest.hexdigest()[:16]


def _seven_digits(array: Any) -> bytes:
    """Return an array's bytes in single precision, so that machines' rounding does not matter."""
    values = np.asarray(array)
    if values.dtype.kind == "f":
        values = values.astype(np.float32) + np.float32(0.0)  # no negative zeros
    return np.ascontiguousarray(values).tobytes()


def describe(value: Any) -> Any:
    """Turn settings into what JSON can hold."""
    if is_dataclass(value) and not isinstance(value, type):
        shallow = {entry.name: describe(getattr(value, entry.name)) for entry in fields(value)}
        return {"type": type(value).__name__} | shallow
    if isinstance(value, dict):
        return {str(name): describe(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple):
        return [describe(entry) for entry in value]
    if isinstance(value, str | int | float | bool) or value is None:
        return value
    if isinstance(value, np.ndarray) and value.size <= 100:
        return value.tolist()
    return type(value).__name__
