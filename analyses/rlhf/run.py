"""Rewards and annotators' rationality from 8,931 real comparisons, and policies trained on them.

    python analyses/rlhf/run.py

Needs the public comparisons (CBRL_DATA_DIR, the user's cache or the network). Fills in README.md
and leaves results.json and figures beside this file.
"""

import json
import resource
import sys
import time
from pathlib import Path

import arviz as az
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import xarray as xr

import cbrl_bayes as cb
from cbrl_bayes.behaviour.comparisons import load_comparisons
from cbrl_bayes.inference import FitDraws, NUTSSettings
from cbrl_bayes.inference.preferences import (
    PreferenceModel,
    count_comparisons,
    fit_preferences,
    ties_as_half_wins,
)
from cbrl_bayes.plots.style import COLOURS, band
from cbrl_bayes.problems.rlhf import comparison_log_probability, rlhf

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from tables import fill, markdown  # noqa: E402

HELD_OUT_SHARE = 0.2
TIE = 2
PROBABILITY = 0.9
NUM_CLASSES = 5
"""Annotators are grouped by temperature for the leader's problem."""
DESIGN_TEMPERATURE = 0.5
SHARES = (1.0, 0.5, 0.0)
LAMBDAS = np.geomspace(0.03, 10.0, 26)
SHOWN_LAMBDAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SMALL = NUTSSettings(num_chains=2, num_warmup=200, num_samples=250)
LARGE = NUTSSettings(num_chains=2, num_warmup=300, num_samples=400)
PLAIN = "own temperature, own ties"
MAIN = "own temperature, own ties, rewards by prompt"
MODELS = {
    "one temperature, one tie strength": ({"one_temperature": True, "one_tie_strength": True},
                                          False),
    "own temperature, one tie strength": ({"one_tie_strength": True}, False),
    PLAIN: ({}, False),
    MAIN: ({"one_reward": False}, False),
    "one temperature, ties as half wins": ({"one_temperature": True}, True),
    "own temperature, ties as half wins": ({}, True),
}  # fmt: skip
"""Name -> (settings of the model, whether ties are split into half wins)."""


def rows_of(data: xr.Dataset) -> np.ndarray:
    return np.stack([data[name].values for name in ("prompt", "left", "right", "annotator")], 1)


def build(data: xr.Dataset, rows: np.ndarray, outcome: np.ndarray, name: str) -> PreferenceModel:
    settings, halves = MODELS[name]
    distinct, counts = count_comparisons(rows, outcome)
    return PreferenceModel(
        distinct, ties_as_half_wins(counts) if halves else counts,
        data.sizes["prompt_id"], data.sizes["answer"], data.sizes["annotator_id"], **settings,
    )  # fmt: skip


def diagnose(draws: FitDraws) -> dict:
    """R-hat and effective sample size over all quantities that vary."""
    varying = {
        name: value for name, value in draws.posterior.items()
        if name != "human_reward" and np.ptp(value) > 0
    }  # fmt: skip
    checked = az.convert_to_dataset(varying)
    return {
        "seconds": round(draws.seconds, 1),
        "worst_r_hat": round(max(float(v.max()) for v in az.rhat(checked).data_vars.values()), 3),
        "least_ess": round(min(float(v.min()) for v in az.ess(checked).data_vars.values())),
        "divergences": int(draws.sample_stats["diverging"].sum()),
        "draws": int(draws.sample_stats["diverging"].size),
    }


def flat(draws: FitDraws) -> dict[str, np.ndarray]:
    return {name: value.reshape(-1, *value.shape[2:]) for name, value in draws.posterior.items()}


def predict(model: PreferenceModel, posterior: dict, rows: np.ndarray) -> np.ndarray:
    """Probability of left, right and tie in each row, for every draw."""
    used = {
        name: jnp.asarray(posterior[name])
        for name in ("human_reward", "annotator_log_temperature", "left_pull", "annotator_log_tie")
        if name in posterior
    }
    table = jax.jit(lambda p: jax.lax.map(lambda one: model.log_probability(one, rows), p))(used)
    return np.exp(np.asarray(table))


def clustered(values: np.ndarray, cluster: np.ndarray) -> tuple[float, float]:
    """Mean and its standard error when judgements of one pair of answers go together."""
    mean = float(values.mean())
    sums = np.bincount(np.unique(cluster, return_inverse=True)[1], values - mean)
    count = len(sums)
    return mean, float(np.sqrt((sums**2).sum() * count / (count - 1)) / len(values))


def losses(probability: np.ndarray, outcome: np.ndarray, has_ties: bool) -> dict[str, np.ndarray]:
    """Minus log probability of each judgement, and of each decided one given that it is."""
    rows = np.arange(len(outcome))
    decided = outcome != TIE
    two = probability[:, :2] / probability[:, :2].sum(1, keepdims=True)
    found = {"decided": -np.log(two[decided, outcome[decided]])}
    return found | ({"all": -np.log(probability[rows, outcome])} if has_ties else {})


def compare_models(data: xr.Dataset, held: np.ndarray) -> tuple[dict, dict]:
    """Fit every model to the judgements that are not held out; score it on the others."""
    rows, outcome, pair = rows_of(data), data["outcome"].values, data["pair"].values
    scores, found, kept = {}, {}, {}
    for seed, name in enumerate(MODELS):
        model = build(data, rows[~held], outcome[~held], name)
        draws = fit_preferences(
            model, key=jax.random.key(seed), settings=LARGE if name in (PLAIN, MAIN) else SMALL
        )
        posterior = flat(draws)
        predicted = predict(model, posterior, rows[held])
        scores[name] = losses(predicted.mean(0), outcome[held], model.has_ties)
        spreads = ("reward_spread", "temperature_spread", "tie_spread", "prompt_spread",
                   "left_pull")  # fmt: skip
        found[name] = diagnose(draws) | {
            key: interval(posterior[key]) for key in spreads if key in posterior
        }
        if name in (PLAIN, MAIN):
            kept[name] = posterior | {"predicted": predicted}
        print(name, found[name], flush=True)
    clusters = {"all": pair[held], "decided": pair[held][outcome[held] != TIE]}
    for name, score in scores.items():
        for kind, values in score.items():
            found[name][f"loss_{kind}"] = clustered(values, clusters[kind])
            found[name][f"excess_{kind}"] = clustered(values - scores[MAIN][kind], clusters[kind])
    return found, kept


def interval(draws: np.ndarray) -> list[float]:
    """Mean and equal-tailed interval."""
    tail = (1 - PROBABILITY) / 2
    return [float(draws.mean()), *map(float, np.quantile(draws, [tail, 1 - tail]))]


def ranking(posterior: dict, names: np.ndarray) -> list[dict]:
    """Mean reward over the prompts and rank (1 is best) of every answer, best first."""
    reward = posterior["human_reward"].mean(1)
    rank = (-reward).argsort(1).argsort(1) + 1
    order = np.argsort(-reward.mean(0))
    return [
        {"answer": str(names[a]), "reward": interval(reward[:, a]), "rank": interval(rank[:, a]),
         "best": float((rank[:, a] == 1).mean())}
        for a in order
    ]  # fmt: skip


def advantage(posterior: dict, available: np.ndarray, num: int = 40) -> np.ndarray:
    """Chance that a beats an answer of the uniform reference: (draws, prompts, A).

    A tie counts half; mean over annotators.
    """
    kept = np.linspace(0, len(posterior["left_pull"]) - 1, num).astype(int)
    reference = jnp.asarray(available / available.sum(1, keepdims=True))
    prompts = jnp.arange(len(available))

    def one(entry: tuple) -> jax.Array:
        (rewards, log_temperature, log_tie), prompt = entry
        reward = rewards[prompt]
        gap = (reward[:, None] - reward[None, :])[..., None] / jnp.exp(log_temperature)
        chance = jnp.exp(comparison_log_probability(gap, log_tie))
        return (chance[..., 0] + chance[..., TIE] / 2).mean(-1) @ reference[prompt]

    def every_prompt(draw: tuple) -> jax.Array:
        return jax.lax.map(lambda prompt: one((draw, prompt)), prompts)

    names = ("human_reward", "annotator_log_temperature", "annotator_log_tie")
    used = tuple(jnp.asarray(posterior[name][kept]) for name in names)
    return np.asarray(jax.jit(lambda p: jax.lax.map(every_prompt, p))(used))


def policies(reward: np.ndarray, temperature: float, available: np.ndarray) -> np.ndarray:
    """Return the policy of every prompt (prompts, A): the best response in closed form.

    tests/unit/test_rlhf.py compares the package's solver with this formula.
    """
    scaled = np.where(available, reward / temperature, -np.inf)
    weight = np.exp(scaled - scaled.max(1, keepdims=True))
    return weight / weight.sum(1, keepdims=True)


def win_rates(policy: np.ndarray, chance: np.ndarray) -> np.ndarray:
    """Win rate against the reference under each draw, mean over prompts."""
    return np.einsum("ia,dia->d", policy, chance) / len(policy)


def availability(data: xr.Dataset) -> np.ndarray:
    seen = np.zeros((data.sizes["prompt_id"], data.sizes["answer"]), bool)
    for side in ("left", "right"):
        seen[data["prompt"].values, data[side].values] = True
    return seen


def by_temperature(data: xr.Dataset, posterior: dict) -> list[dict]:
    """Win rate of the policy as its KL temperature falls, under the posterior."""
    available = availability(data)
    chance = advantage(posterior, available)
    estimate = posterior["human_reward"].mean(0)
    mean = np.broadcast_to(estimate.mean(0), estimate.shape)
    rates: dict[str, list] = {"prompt": [], "mean": []}
    table = []
    for temperature in (*LAMBDAS, *SHOWN_LAMBDAS):
        policy = policies(estimate, float(temperature), available)
        rates["prompt"].append(win_rates(policy, chance))
        same = policies(mean, float(temperature), available)
        rates["mean"].append(win_rates(same, chance))
        entropy = -(policy * np.log(np.maximum(policy, 1e-300))).sum(1)
        table.append({
            "temperature": float(temperature),
            "divergence": float((np.log(available.sum(1)) - entropy).mean()),
            "prompt": interval(rates["prompt"][-1]),
            "mean": interval(rates["mean"][-1]),
        })  # fmt: skip
    draw_rates({name: np.array(rate[: len(LAMBDAS)]).T for name, rate in rates.items()})
    return table[len(LAMBDAS) :]


def pair_check(data: xr.Dataset, posterior: dict, held: np.ndarray) -> list[dict]:
    """Win rates on held-out pairs, predicted and observed: two answers, uniform reference.

    With probability 1/2 each the reference gives the policy's answer (score 1/2) or the other
    one, and then the annotator's own judgement is the score.
    """
    prompt, left, right, _ = rows_of(data)[held].T
    outcome, pair = data["outcome"].values[held], data["pair"].values[held]
    estimate = posterior["human_reward"].mean(0)
    gap = estimate[prompt, left] - estimate[prompt, right]
    observed = np.array([1.0, 0.0, 0.5])[outcome]
    predicted = posterior["predicted"][..., 0] + posterior["predicted"][..., TIE] / 2
    table = []
    for temperature in SHOWN_LAMBDAS:
        play = 1 / (1 + np.exp(-gap / temperature))
        score = 0.25 + (play * observed + (1 - play) * (1 - observed)) / 2
        expected = 0.25 + (play * predicted + (1 - play) * (1 - predicted)).mean(1) / 2
        table.append({
            "temperature": temperature, "observed": clustered(score, pair),
            "predicted": interval(expected),
        })  # fmt: skip
    return table


def classes_of(posterior: dict) -> tuple[dict[str, np.ndarray], list[int]]:
    """Annotators in classes by mean temperature; each class at its mean logarithms."""
    order = np.argsort(posterior["annotator_log_temperature"].mean(0))
    parts = np.array_split(order, NUM_CLASSES)
    names = ("annotator_log_temperature", "annotator_log_tie")
    grouped = {n: np.stack([posterior[n][:, p].mean(1) for p in parts], 1) for n in names}
    return grouped | {"human_reward": posterior["reward"][:, None]}, [len(p) for p in parts]


def leader(data: xr.Dataset, posterior: dict, held: np.ndarray) -> list[dict]:
    """Design the reward model by likelihood, of logged comparisons and of the policy's own."""
    draws, sizes = classes_of(posterior)
    everything = np.ones((1, data.sizes["answer"]), bool)
    chance = advantage(posterior, everything)
    start = posterior["reward"].mean(0)
    settings = cb.DesignSettings(
        search=cb.Search(ascent=cb.Ascent(num_steps=250, learning_rate=0.1), num_starts=2),
        per_draw=cb.Search(ascent=cb.Ascent(num_steps=60, learning_rate=0.05)),
        num_common_draws=8,
    )
    found, kept = [], {}
    for share in SHARES:
        problem = rlhf(
            human_reward=start, kl_temperature=DESIGN_TEMPERATURE, logged_share=share,
            annotator_temperature=tuple(np.exp(draws["annotator_log_temperature"].mean(0))),
            annotator_tie_strength=tuple(np.exp(draws["annotator_log_tie"].mean(0))),
            annotator_probability=tuple(np.array(sizes) / sum(sizes)),
            initial_reward=tuple(start), answer_names=tuple(map(str, data["answer"].values)),
        )  # fmt: skip
        study = cb.design(problem, draws, key=jax.random.key(7), num_draws=50, settings=settings)
        decision = study["decision"].sel(design="common")
        reward, log_tie = decision["incentive_reward"].values, float(decision["incentive_log_tie"])
        policy = policies(reward, DESIGN_TEMPERATURE, everything)[0]
        kept[share] = (reward, policy)
        spread = float(np.exp(-(policy * np.log(policy)).sum()))
        found.append({
            "logged_share": share,
            "objective": interval(decision["objective"].values.ravel()),
            "regret": interval(decision["regret"].values.ravel()),
            **parts(problem, reward, log_tie, policy, share),
            "agreement": float(np.corrcoef(reward, start)[0, 1]),
            "effective_answers": spread,
            "win_rate": interval(win_rates(policy[None], chance)),
            "held_out": held_out(data, held, reward, log_tie),
            "health": cb.summary(study).health.verdict,
        })  # fmt: skip
        print(found[-1], flush=True)
    draw_policies(start, kept)
    return found


def parts(
    problem: cb.Problem, reward: np.ndarray, log_tie: float, policy: np.ndarray, share: float
) -> dict[str, float]:
    """Split minus the objective into what nobody can predict and what the model misses.

    Both at the default parameters; annotators are weighted as in the problem.
    """
    known = problem.default_parameters
    shown = (1 - share) * policy + share / len(policy)
    weights = np.asarray(known["context_probability"])
    reward_gap = jnp.asarray(reward[:, None] - reward[None, :])
    model = np.asarray(comparison_log_probability(reward_gap, log_tie))
    doubt = miss = 0.0
    for n, weight in enumerate(weights):
        truth = known["human_reward"][0] / jnp.exp(known["annotator_log_temperature"][n])
        gap = truth[:, None] - truth[None, :]
        human = np.asarray(comparison_log_probability(gap, known["annotator_log_tie"][n]))
        doubt += weight * shown @ -(np.exp(human) * human).sum(-1) @ shown
        miss += weight * shown @ (np.exp(human) * (human - model)).sum(-1) @ shown
    return {"doubt": float(doubt), "miss": float(miss)}


def held_out(
    data: xr.Dataset, held: np.ndarray, reward: np.ndarray, log_tie: float
) -> tuple[float, float]:
    """Log-loss on the real held-out judgements, annotators not told apart."""
    left, right = data["left"].values[held], data["right"].values[held]
    table = np.asarray(comparison_log_probability(jnp.asarray(reward[left] - reward[right]),
                                                  log_tie))  # fmt: skip
    outcome = data["outcome"].values[held]
    return clustered(-table[np.arange(len(outcome)), outcome], data["pair"].values[held])


def draw_rates(rates: dict[str, np.ndarray]) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 4), layout="constrained")
    band(axes, LAMBDAS, rates["prompt"], PROBABILITY, COLOURS["own"], "rewards by prompt")
    band(axes, LAMBDAS, rates["mean"], PROBABILITY, COLOURS["common"], "mean reward over prompts")
    axes.axhline(0.5, color=COLOURS["data"], linewidth=0.8, linestyle=":", label="reference")
    axes.set(xscale="log", xlabel="KL temperature (log-odds)", ylabel="win rate (ties count half)")
    axes.legend(title="policy trained on")
    figure.savefig(HERE / "win_rate.png", dpi=150)
    plt.close(figure)


def draw_ranks(rows: list[dict]) -> None:
    figure, axes = plt.subplots(figsize=(6.4, 10), layout="constrained")
    for place, row in enumerate(rows):
        mean, low, high = row["rank"]
        axes.plot([low, high], [place, place], color=COLOURS["own"], linewidth=2)
        axes.plot(mean, place, "o", color=COLOURS["common"], markersize=4)
    axes.plot([], [], color=COLOURS["own"], linewidth=2, label="90 % interval")
    axes.plot([], [], "o", color=COLOURS["common"], markersize=4, label="mean")
    axes.set_yticks(range(len(rows)), [row["answer"] for row in rows], fontsize=7)
    axes.set(xlabel="rank (1 is best)", ylim=(len(rows) - 0.4, -0.6))
    axes.legend(loc="lower left")
    figure.savefig(HERE / "ranks.png", dpi=150)
    plt.close(figure)


def draw_annotators(posterior: dict, judgements: np.ndarray) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    rationality = np.exp(-posterior["annotator_log_temperature"])
    order = np.argsort(np.median(rationality, 0))
    low, middle, high = np.quantile(rationality, [0.05, 0.5, 0.95], axis=0)
    place = np.arange(len(order))
    left.fill_between(place, low[order], high[order], color=COLOURS["own"], alpha=0.25,
                      linewidth=0, label="90 % interval")  # fmt: skip
    left.plot(place, middle[order], color=COLOURS["own"], label="median")
    left.axhline(1.0, color=COLOURS["data"], linewidth=0.8, linestyle=":")
    left.set(yscale="log", xlabel="annotators, least rational first",
             ylabel="rationality (geometric mean 1)")  # fmt: skip
    left.legend()
    ties = np.exp(posterior["annotator_log_tie"])
    shade = right.scatter(np.median(ties / (2 + ties), 0), middle, c=judgements, s=18,
                          cmap="cividis")  # fmt: skip
    right.set(yscale="log", xlabel="chance of a tie between equal answers",
              ylabel="rationality, median")  # fmt: skip
    figure.colorbar(shade, ax=right, label="judgements by the annotator (training)")
    figure.savefig(HERE / "annotators.png", dpi=150)
    plt.close(figure)


def draw_policies(human: np.ndarray, kept: dict[float, tuple[np.ndarray, np.ndarray]]) -> None:
    figure, (left, right) = plt.subplots(1, 2, figsize=(9, 3.8), layout="constrained")
    looks = {1.0: ("own", "o"), 0.5: ("plug_in", "^"), 0.0: ("common", "s")}
    for share, (reward, policy) in kept.items():
        colour, marker = looks[share]
        label = f"logged share {share:g}"
        left.plot(human, reward, marker, color=COLOURS[colour], markersize=4, label=label)
        right.plot(human, policy, marker, color=COLOURS[colour], markersize=4, label=label)
    left.axline((0, 0), slope=1, color=COLOURS["data"], linewidth=0.8, linestyle=":")
    left.set(xlabel="human reward, posterior mean (log-odds)", ylabel="reward model x (log-odds)")
    right.set(xlabel="human reward, posterior mean (log-odds)", ylabel="policy's probability")
    right.legend(loc="upper left")
    figure.savefig(HERE / "steering.png", dpi=150)
    plt.close(figure)


def show(value: list[float] | tuple, digits: int = 3) -> str:
    """Mean and interval, or value and standard error, in words."""
    if len(value) == 2:
        return f"{value[0]:.{digits}f} ({value[1]:.{digits}f})"
    return f"{value[0]:.{digits}f} ({value[1]:.{digits}f} to {value[2]:.{digits}f})"


def write_readme(results: dict) -> None:
    models, ranks = results["models"], results["ranking"]
    loss = [["model", "all outcomes", "excess", "decided only", "excess", "R-hat", "least ESS",
             "divergences"]]  # fmt: skip
    for name, row in models.items():
        cells = [
            show(row[key]) if key in row else "-"
            for key in ("loss_all", "excess_all", "loss_decided", "excess_decided")
        ]
        loss.append([name, *cells, f"{row['worst_r_hat']:.3f}", str(row["least_ess"]),
                     f"{row['divergences']} of {row['draws']}"])  # fmt: skip
    order = [["answer", "reward", "rank", "chance of being the best"]]
    for row in [*ranks[:8], None, *ranks[-4:]]:
        order.append(
            ["..."] * 4 if row is None
            else [row["answer"], show(row["reward"], 2), show(row["rank"], 1), f"{row['best']:.2f}"]
        )  # fmt: skip
    rates = [["KL temperature", "divergence from the reference (nats)", "win rate",
              "win rate, mean reward", "held-out pairs, predicted",
              "held-out pairs, observed"]]  # fmt: skip
    for row, check in zip(results["win_rate"], results["pair_check"], strict=True):
        cells = [row["prompt"], row["mean"], check["predicted"], check["observed"]]
        head = [f"{row['temperature']:g}", f"{row['divergence']:.2f}"]
        rates.append(head + [show(cell) for cell in cells])
    trap = [["logged share", "objective", "doubt", "miss", "agreement", "effective answers",
             "win rate", "held-out log-loss", "health"]]  # fmt: skip
    for row in results["leader"]:
        trap.append([f"{row['logged_share']:g}", show(row["objective"]), f"{row['doubt']:.3f}",
                     f"{row['miss']:.3f}", f"{row['agreement']:.2f}",
                     f"{row['effective_answers']:.1f}", show(row["win_rate"]),
                     show(row["held_out"]), row["health"]])  # fmt: skip
    people = results["annotators"]
    fill(HERE / "README.md", {
        "DATA": results["data"],
        "LOSS": markdown(loss),
        "PEOPLE": (
            f"Spread of log temperature {show(people['spread'], 2)}; the annotator at the 90th "
            f"percentile is {show(people['ratio'], 1)} times as rational as the one at the 10th. "
            f"Chance of a tie between equal answers: {show(people['tie_ends'][0], 2)} at the 10th "
            f"percentile of annotators, {show(people['tie_ends'][1], 2)} at the 90th. The left "
            f"place adds {show(people['left_pull'], 2)} to the log-odds."
        ),
        "RANKS": markdown(order),
        "WIDTH": rank_width(results),
        "RATES": markdown(rates),
        "TRAP": markdown(trap),
        "COST": f"{results['seconds']:.0f} s, of which {results['sampling_seconds']:.0f} s of "
                f"sampling; peak memory {results['peak_memory_MB']} MB.",
    })  # fmt: skip


def rank_width(results: dict) -> str:
    """Say how much wider ranks are when answers may be good for some prompts only."""

    def width(rows: list[dict]) -> float:
        return float(np.median([row["rank"][2] - row["rank"][1] for row in rows]))

    return (
        f"Median width of these intervals: {width(results['ranking']):.0f} ranks; with one "
        f"reward per language model for all prompts it would be "
        f"{width(results['plain_ranking']):.0f}."
    )


def annotators(posterior: dict) -> dict:
    logs = posterior["annotator_log_temperature"]
    low, high = np.quantile(logs, [0.1, 0.9], axis=1)
    ties = np.exp(posterior["annotator_log_tie"])
    chance = np.quantile(ties / (2 + ties), [0.1, 0.9], axis=1)
    return {
        "spread": interval(posterior["temperature_spread"]),
        "ratio": interval(np.exp(high - low)),
        "tie_ends": [interval(end) for end in chance],
        "left_pull": interval(posterior["left_pull"]),
    }


def main() -> None:
    """Run all parts."""
    begun = time.perf_counter()
    data = load_comparisons()
    pairs = int(data["pair"].max()) + 1
    chosen = np.random.default_rng(0).permutation(pairs)[: round(HELD_OUT_SHARE * pairs)]
    held = np.isin(data["pair"].values, chosen)
    models, kept = compare_models(data, held)
    posterior, outcome = kept[MAIN], data["outcome"].values
    ranks = ranking(posterior, data["answer"].values)
    draw_ranks(ranks)
    counts = np.bincount(data["annotator"].values[~held], minlength=data.sizes["annotator_id"])
    draw_annotators(posterior, counts)
    results = {
        "data": f"{len(held):,} judgements of {pairs:,} pairs of answers; {int(held.sum()):,} "
                f"judgements ({len(chosen)} pairs) held out; "
                f"{(outcome == TIE).mean():.0%} of all judgements are ties.",
        "models": models,
        "annotators": annotators(posterior),
        "ranking": ranks,
        "plain_ranking": ranking(kept[PLAIN], data["answer"].values),
        "win_rate": by_temperature(data, posterior),
        "pair_check": pair_check(data, posterior, held),
        "leader": leader(data, kept[PLAIN], held),
        "seconds": round(time.perf_counter() - begun, 1),
        "sampling_seconds": round(sum(m["seconds"] for m in models.values()), 1),
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }  # fmt: skip
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    write_readme(results)


if __name__ == "__main__":
    main()
