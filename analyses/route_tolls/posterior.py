"""The posterior of the route choice model under all 1,832 trips, by NUTS.

    python analyses/route_tolls/posterior.py [--minutes 60]

Leaves posterior.json: draws, R-hat, effective sample sizes and the time taken. When the minutes
are over it keeps the draws it has.
"""

import argparse
import json
import sys
import time
from pathlib import Path

import arviz_stats as azs
import jax
import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from scipy.stats import norm

from cbrl_bayes.behaviour import count_behaviour, load_borlange
from cbrl_bayes.inference import NUTSSettings
from cbrl_bayes.inference.default_priors import default_priors
from cbrl_bayes.inference.likelihood import row_policies
from cbrl_bayes.inference.nuts import run_nuts
from cbrl_bayes.problems import route_choice
from cbrl_bayes.problems.route_choice import COEFFICIENTS

HERE = Path(__file__).parent
CENTRE = np.array([-2.4941, -0.9331, -0.4111, -4.4588])
"""The maximum of the likelihood: where the coordinates that NUTS moves in have their origin."""
SPREAD = 3.0
"""Standard deviations of the likelihood over which chains begin."""
SETTINGS = NUTSSettings(num_chains=2, num_warmup=150, num_samples=450)
STEPS = 15
"""Of each chain between two looks at the clock."""


class TimeIsUpError(Exception):
    """Raised to stop the sampler where it is."""


def main() -> None:
    """Sample, check, and write what came out."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--minutes", type=float, default=60.0)
    minutes = parser.parse_args().minutes
    problem = route_choice()
    counts = count_behaviour(problem, load_borlange(), estimated=COEFFICIENTS)
    priors = default_priors(problem)
    chosen = jnp.asarray(counts.action_count)

    def log_likelihood(vector: jax.Array) -> jax.Array:
        parameters = problem.default_parameters | dict(zip(COEFFICIENTS, vector, strict=True))
        rows, _ = row_policies(problem, counts, parameters)
        return (rows * chosen).sum()

    slope = jax.jit(jax.value_and_grad(log_likelihood))
    slope(jnp.asarray(CENTRE))
    begun = time.perf_counter()
    for number in range(4):
        jax.block_until_ready(slope(jnp.asarray(CENTRE) * (1.0 + 1e-6 * number)))
    per_slope = (time.perf_counter() - begun) / 4
    print(f"likelihood and gradient: {per_slope:.2f} s", flush=True)
    step = 1e-3 * np.abs(CENTRE)
    sides = [
        [np.asarray(slope(jnp.asarray(CENTRE + sign * one))[1]) for sign in (1.0, -1.0)]
        for one in np.diag(step)
    ]
    curvature = np.stack([(up - down) / (2 * h) for (up, down), h in zip(sides, step, strict=True)])
    root = np.linalg.cholesky(np.linalg.inv(-(curvature + curvature.T) / 2))

    def model() -> None:
        # The same posterior in coordinates in which it is round; the base law is taken out again.
        base = dist.Normal(0.0, SPREAD).expand([4]).to_event(1)
        place = numpyro.sample("place", base)
        vector = jnp.asarray(CENTRE) + jnp.asarray(root) @ place
        prior = sum(
            priors[name].prior.log_prob(value)
            for name, value in zip(COEFFICIENTS, vector, strict=True)
        )
        numpyro.factor("posterior", log_likelihood(vector) + prior - base.log_prob(place))

    begun = time.perf_counter()

    def report(stage: str, done: int, total: int) -> None:
        passed = time.perf_counter() - begun
        print(f"{stage} {done}/{total} {passed:.0f} s", flush=True)
        if passed > 60.0 * minutes:
            raise TimeIsUpError

    records: dict = {}
    try:
        run_nuts(
            model,
            key=jax.random.key(0),
            settings=SETTINGS,
            report=report,
            most_steps=STEPS,
            records=records,
        )
    except TimeIsUpError:
        print("time is up: the draws so far are kept")
    seconds = time.perf_counter() - begun
    blocks = [records[place] for place in sorted(records)]
    kept = slice(SETTINGS.num_warmup, SETTINGS.num_warmup + SETTINGS.num_samples)
    place, diverging, steps = (
        np.concatenate([block[name] for block in blocks], axis=1)[:, kept]
        for name in ("site.place", "field.diverging", "field.n_steps")
    )
    draws = CENTRE + place @ root.T
    laplace = norm.ppf([0.05, 0.95])[:, None] * np.sqrt(np.diag(root @ root.T)) + CENTRE
    found = {
        "per_slope_seconds": per_slope,
        "seconds": seconds,
        "chains": SETTINGS.num_chains,
        "warmup": SETTINGS.num_warmup,
        "draws_per_chain": draws.shape[1],
        "divergences": int(diverging.sum()),
        "gradients": int(steps.sum()),
        "parameters": {
            name: {
                "mean": float(draws[..., i].mean()),
                "sd": float(draws[..., i].std()),
                "interval": np.quantile(draws[..., i], [0.05, 0.95]).tolist(),
                "laplace": laplace[:, i].tolist(),
                "rhat": float(azs.rhat(draws[..., i])),
                "ess_bulk": float(azs.ess(draws[..., i])),
            }
            for i, name in enumerate(COEFFICIENTS)
        },
        "draws": dict(zip(COEFFICIENTS, np.moveaxis(draws, -1, 0).tolist(), strict=True)),
    }
    (HERE / "posterior.json").write_text(json.dumps(found))
    shown = {key: value for key, value in found.items() if key != "draws"}
    print(json.dumps(shown, indent=1))


if __name__ == "__main__":
    sys.exit(main())
