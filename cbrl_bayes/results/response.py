"""How followers act under no incentive and under the common design, draw by draw."""

from collections.abc import Mapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
import xarray as xr
from jaxtyping import Array

from cbrl_bayes.problems import Problem, respond_everywhere
from cbrl_bayes.results.assembly import add_response

MOST_RESPONSE_ENTRIES = 5_000_000
"""Policies under baseline and common design are stored up to this size (40 MB each)."""


def with_response(
    tree: xr.DataTree,
    problem: Problem,
    draws: Mapping[str, np.ndarray],
    designs: Mapping[str, np.ndarray],
) -> xr.DataTree:
    """Return the tree with the group ``response``, or without any where it would be large."""
    num = len(next(iter(draws.values())))
    entries = (
        num
        * problem.contexts.num_contexts
        * problem.followers.num_followers
        * problem.num_states
        * problem.num_actions
    )
    if entries > MOST_RESPONSE_ENTRIES:
        return tree
    # Contexts that are sampled take one common sample here.
    key = jax.random.key(0)

    def policy(parameters: Mapping[str, Any], incentive: Mapping[str, Any]) -> Array:
        log_policy, _ = respond_everywhere(
            problem, incentive, {**problem.default_parameters, **parameters}, key=key
        )
        return jnp.exp(log_policy)

    solve = jax.jit(lambda incentive: jax.lax.map(lambda p: policy(p, incentive), dict(draws)))
    common = {name: value[0] for name, value in designs.items()}
    baseline = {name: np.zeros_like(value) for name, value in common.items()}
    policies = {"baseline": solve(baseline), "common": solve(common)}
    return add_response(tree, problem, jax.tree.map(np.asarray, policies))
