"""Bus engines: Rust's estimates by this package's likelihood, and the subsidy under uncertainty.

    python analyses/bus_replacement/run.py

Needs the raw Zurcher files (CBRL_DATA_DIR, the user's cache or the network). Leaves
results.json and figures beside this file.
"""

import json
import time
from pathlib import Path

import arviz as az
import jax
import numpy as np
import numpyro.distributions as dist

import cbrl_bayes as cb
from cbrl_bayes.inference import maximum_likelihood
from cbrl_bayes.plots import save_figures
from cbrl_bayes.problems import bus_replacement
from cbrl_bayes.workflow import behaviour_model

HERE = Path(__file__).parent
GROUPS = {"1,2,3": (1, 2, 3), "4": (4,), "1-4": (1, 2, 3, 4)}
PRIORS = {"RC": dist.LogNormal(np.log(10.0), 1.0), "theta11": dist.LogNormal(np.log(2.5), 1.0)}
"""In units of the noise scale; 95 % of each within a factor of 7 of its median."""


def estimate() -> dict:
    """Maximum likelihood for the three samples of Rust (1987), Table IX."""
    found = {}
    for name, groups in GROUPS.items():
        model = behaviour_model(bus_replacement(), cb.load_zurcher(groups))
        answer = maximum_likelihood(model)
        found[name] = {
            key: [
                round(float(answer.estimates[key]), 4),
                round(float(answer.standard_errors[key]), 4),
            ]
            for key in ("RC", "theta11")
        } | {
            "increments": np.round(answer.estimates["increment_probability"], 4).tolist(),
            "log_likelihood": round(answer.log_likelihood, 3),
            "converged": answer.converged,
        }
        print(name, found[name], flush=True)
    return found


def study() -> dict:
    """Posterior for group 4 and the subsidy under it."""
    problem = bus_replacement()
    settings = cb.NUTSSettings(num_warmup=1000, num_samples=1000)
    begun = time.perf_counter()
    fit = cb.infer(
        problem, cb.load_zurcher((4,)), key=jax.random.key(0), priors=PRIORS, settings=settings
    )
    seconds = time.perf_counter() - begun
    checked = fit["posterior"].to_dataset()[["RC", "theta11", "increment_probability"]]
    ess = min(float(v.min()) for v in az.ess(checked).data_vars.values())
    diagnostics = {
        "seconds": round(seconds, 1),
        "sampler_seconds": round(fit.attrs["fit_seconds"], 1),
        "worst_r_hat": round(max(float(v.max()) for v in az.rhat(checked).data_vars.values()), 4),
        "least_ess": round(ess),
        "effective_samples_per_second": round(ess / fit.attrs["fit_seconds"], 1),
        "divergences": int(fit["sample_stats"]["diverging"].sum()),
    }
    print(diagnostics, flush=True)
    tree = cb.design(problem, fit, key=jax.random.key(1), num_draws=200)
    summary = cb.summary(tree, prob=0.9)
    print(summary)
    save_figures(tree, HERE)
    return {
        "sampling": diagnostics,
        "health": summary.health.verdict,
        "rows": summary.frame.reset_index().replace({np.nan: None}).to_dict(orient="records"),
    }


def main() -> None:
    """Run both parts."""
    results = {"maximum_likelihood": estimate()} | study()
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
