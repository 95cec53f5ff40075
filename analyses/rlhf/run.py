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
from cbrl_bayes.results.health import assess

HERE = Path(__file__).parent
sys.path.insert(0, str(HERE.parent))
from preference_scores import (  # noqa: E402
    SCORES,
    TIE,
    clustered,
    left_score,
    losses,
    pair_rate,
    simulated_scores,
)
from tables import fill, interval, markdown, shown  # noqa: E402

HELD_OUT_SHARE = 0.2
PROBABILITY = 0.9
NUM_CLASSES = 5
"""Annotators are grouped by temperature for the leader's problem."""
DESIGN_TEMPERATURE = 0.5
NUM_DESIGN_DRAWS, NUM_COMMON_DRAWS = 50, 8
"""Posterior draws of the leader's problem; those that the common design is optimised over."""
NUM_RATE_DRAWS = 300
"""For the intervals of win rates."""
SHARES = (1.0, 0.5, 0.0)
LAMBDAS = np.geomspace(0.03, 10.0, 26)
SHOWN_LAMBDAS = (0.05, 0.1, 0.2, 0.5, 1.0, 2.0)
SMALL = NUTSSettings(num_chains=2, num_warmup=200, num_samples=250)
LARGE = NUTSSettings(num_chains=2, num_warmup=300, num_samples=900)
LARGEST = NUTSSettings(num_chains=2, num_warmup=400, num_samples=1000)
PLAIN = "own temperature, own ties"
MAIN = "own temperature, own ties, rewards by prompt"
MODELS = {
    "one temperature, one tie strength": (
        {"one_temperature": True, "one_tie_strength": True},
        False,
    ),
    "own temperature, one tie strength": ({"one_tie_strength": True}, False),
    PLAIN: ({}, False),
    MAIN: ({"one_reward": False}, False),
    "one temperature, ties as half wins": ({"one_temperature": True}, True),
    "own temperature, ties as half wins": ({}, True),
}
"""Name -> (settings of the model, whether ties are split into half wins)."""
SETTINGS = {name: {PLAIN: LARGE, MAIN: LARGEST}.get(name, SMALL) for name in MODELS}


def rows_of(data: xr.Dataset) -> np.ndarray:
    return np.stack([data[name].values for name in ("prompt", "left", "right", "annotator")], 1)


def build(data: xr.Dataset, rows: np.ndarray, outcome: np.ndarray, name: str) -> PreferenceModel:
    settings, halves = MODELS[name]
    distinct, counts = count_comparisons(rows, outcome)
    return PreferenceModel(
        distinct,
        ties_as_half_wins(counts) if halves else counts,
        data.sizes["prompt_id"],
        data.sizes["answer"],
        data.sizes["annotator_id"],
        **settings,
    )


def diagnose(draws: FitDraws, one_reward: bool) -> dict:
    """R-hat and effective sample size over all that varies, and the package's verdict."""
    varying = {
        name: value
        for name, value in draws.posterior.items()
        if np.ptp(value) > 0 and not (one_reward and name == "human_reward")
    }
    checked = az.convert_to_dataset(varying)
    sampled = az.convert_to_dataset(draws.sample_stats)
    tree = xr.DataTree.from_dict({"posterior": checked, "sample_stats": sampled})
    tree.attrs["sampler"] = "NUTS"
    health = assess(tree)
    return {
        "worst_r_hat": round(max(float(v.max()) for v in az.rhat(checked).data_vars.values()), 3),
        "least_ess": round(min(float(v.min()) for v in az.ess(checked).data_vars.values())),
        "divergences": int(draws.sample_stats["diverging"].sum()),
        "draws": int(draws.sample_stats["diverging"].size),
        "verdict": health.verdict,
        "reasons": health.failures + health.reviews,
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


def compare_models(data: xr.Dataset, held: np.ndarray) -> tuple[dict, dict]:
    """Fit every model to the judgements that are not held out; score it on the others."""
    rows, outcome = rows_of(data), data["outcome"].values
    scores, found, kept = {}, {}, {}
    for seed, name in enumerate(MODELS):
        model = build(data, rows[~held], outcome[~held], name)
        draws = fit_preferences(model, key=jax.random.key(seed), settings=SETTINGS[name])
        posterior = flat(draws)
        predicted = predict(model, posterior, rows[held])
        scores[name] = losses(predicted.mean(0), outcome[held], model.has_ties)
        spreads = (
            "reward_spread",
            "temperature_spread",
            "tie_spread",
            "prompt_spread",
            "left_pull",
        )
        found[name] = diagnose(draws, model.one_reward) | {
            key: interval(posterior[key]) for key in spreads if key in posterior
        }
        if name in (PLAIN, MAIN):
            kept[name] = posterior | {"predicted": predicted}
        print(name, found[name], flush=True)
    decided = held & (outcome != TIE)
    clusters = {
        kind: (data["pair"].values[kept_rows], data["annotator"].values[kept_rows])
        for kind, kept_rows in (("all", held), ("decided", decided))
    }
    for name, score in scores.items():
        for kind, values in score.items():
            excess = values - scores[MAIN][kind]
            found[name][f"loss_{kind}"] = clustered(values, *clusters[kind])
            found[name][f"excess_{kind}"] = clustered(excess, *clusters[kind])
    sharp, alike = (scores[name]["all"] for name in list(MODELS)[1::-1])
    found["gain of own temperatures"] = clustered(alike - sharp, *clusters["all"])
    return found, kept


def ranking(posterior: dict, names: np.ndarray) -> list[dict]:
    """Mean reward over the prompts and rank (1 is best) of every answer, best first."""
    reward = posterior["human_reward"].mean(1)
    rank = (-reward).argsort(1).argsort(1) + 1
    order = np.argsort(-reward.mean(0))
    return [
        {
            "answer": str(names[a]),
            "reward": interval(reward[:, a]),
            "rank": interval(rank[:, a]),
            "best": float((rank[:, a] == 1).mean()),
        }
        for a in order
    ]


def advantage(posterior: dict, available: np.ndarray, num: int = NUM_RATE_DRAWS) -> np.ndarray:
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
        return left_score(gap, log_tie, jnp).mean(-1) @ reference[prompt]

    def every_prompt(draw: tuple) -> jax.Array:
        return jax.lax.map(lambda prompt: one((draw, prompt)), prompts)

    names = ("human_reward", "annotator_log_temperature", "annotator_log_tie")
    used = tuple(jnp.asarray(posterior[name][kept]) for name in names)
    return np.asarray(jax.jit(lambda p: jax.lax.map(every_prompt, p))(used))


def policies(reward: np.ndarray, temperature: float, available: np.ndarray) -> np.ndarray:
    """Return the policy of every prompt (prompts, A): the best response in closed form.

    tests/unit/problems/test_rlhf.py compares the package's solver with this formula.
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
        table.append(
            {
                "temperature": float(temperature),
                "divergence": float((np.log(available.sum(1)) - entropy).mean()),
                "prompt": interval(rates["prompt"][-1]),
                "mean": interval(rates["mean"][-1]),
            }
        )
    draw_rates({name: np.array(rate[: len(LAMBDAS)]).T for name, rate in rates.items()})
    return table[len(LAMBDAS) :]


def pair_check(data: xr.Dataset, posterior: dict, held: np.ndarray) -> list[dict]:
    """Win rates on held-out pairs (`pair_rate`), observed and drawn from the posterior.

    Each draw of the posterior gives one judgement for every one that was held out, so that the
    simulated rates vary as much as an observed one should.
    """
    prompt, left, right, _ = rows_of(data)[held].T
    estimate = posterior["human_reward"].mean(0)
    gap = estimate[prompt, left] - estimate[prompt, right]
    clusters = data["pair"].values[held], data["annotator"].values[held]
    observed = SCORES[data["outcome"].values[held]]
    simulated = simulated_scores(posterior["predicted"], np.random.default_rng(1))
    table = []
    for temperature in SHOWN_LAMBDAS:
        play = 1 / (1 + np.exp(-gap / temperature))
        rate, error = clustered(pair_rate(play, observed), *clusters)
        drawn = pair_rate(play, simulated).mean(1)
        table.append(
            {
                "temperature": temperature,
                "observed": (rate, error),
                "predicted": interval(drawn),
                "share_below": float((drawn < rate).mean()),
            }
        )
    return table


def classes_of(posterior: dict) -> tuple[dict[str, np.ndarray], list[int]]:
    """Annotators in classes by mean temperature; each class at its mean logarithms."""
    order = np.argsort(posterior["annotator_log_temperature"].mean(0))
    classes = np.array_split(order, NUM_CLASSES)
    names = ("annotator_log_temperature", "annotator_log_tie")
    grouped = {n: np.stack([posterior[n][:, p].mean(1) for p in classes], 1) for n in names}
    return grouped | {"human_reward": posterior["reward"][:, None]}, [len(p) for p in classes]


def leader(data: xr.Dataset, posterior: dict, held: np.ndarray) -> list[dict]:
    """Design the reward model by likelihood, of logged comparisons and of the policy's own."""
    draws, sizes = classes_of(posterior)
    everything = np.ones((1, data.sizes["answer"]), bool)
    chance = advantage(posterior, everything)
    start = posterior["reward"].mean(0)
    settings = cb.DesignSettings(
        search=cb.Search(ascent=cb.Ascent(num_steps=250, learning_rate=0.1), num_starts=2),
        per_draw=cb.Search(ascent=cb.Ascent(num_steps=60, learning_rate=0.05)),
        num_search_draws=NUM_COMMON_DRAWS,
    )
    found, kept = [], {}
    for share in SHARES:
        problem = rlhf(
            human_reward=start,
            kl_temperature=DESIGN_TEMPERATURE,
            logged_share=share,
            annotator_temperature=tuple(np.exp(draws["annotator_log_temperature"].mean(0))),
            annotator_tie_strength=tuple(np.exp(draws["annotator_log_tie"].mean(0))),
            annotator_probability=tuple(np.array(sizes) / sum(sizes)),
            initial_reward=tuple(start),
            answer_names=tuple(map(str, data["answer"].values)),
        )
        study = cb.design(
            problem, draws, key=jax.random.key(7), num_draws=NUM_DESIGN_DRAWS, settings=settings
        )
        decision = study["decision"].sel(design="common")
        reward, log_tie = decision["incentive_reward"].values, float(decision["incentive_log_tie"])
        policy = policies(reward, DESIGN_TEMPERATURE, everything)[0]
        kept[share] = (reward, policy)
        spread = float(np.exp(-(policy * np.log(policy)).sum()))
        found.append(
            {
                "logged_share": share,
                "objective": interval(decision["objective"].values.ravel()),
                "regret": interval(decision["regret"].values.ravel()),
                **doubt_and_miss(problem, reward, log_tie, policy, share),
                "agreement": float(np.corrcoef(reward, start)[0, 1]),
                "effective_answers": spread,
                "win_rate": interval(win_rates(policy[None], chance)),
                "held_out": held_out(data, held, reward, log_tie),
                "health_of_the_search": cb.summary(study).health.verdict,
            }
        )
        print(found[-1], flush=True)
    draw_policies(start, kept)
    return found


def doubt_and_miss(
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
    table = np.asarray(
        comparison_log_probability(jnp.asarray(reward[left] - reward[right]), log_tie)
    )
    outcome = data["outcome"].values[held]
    return clustered(
        -table[np.arange(len(outcome)), outcome],
        data["pair"].values[held],
        data["annotator"].values[held],
    )


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
    left.fill_between(
        place,
        low[order],
        high[order],
        color=COLOURS["own"],
        alpha=0.25,
        linewidth=0,
        label="90 % interval",
    )
    left.plot(place, middle[order], color=COLOURS["own"], label="median")
    left.axhline(1.0, color=COLOURS["data"], linewidth=0.8, linestyle=":")
    left.set(
        yscale="log",
        xlabel="annotators, least rational first",
        ylabel="rationality (geometric mean 1)",
    )
    left.legend()
    ties = np.exp(posterior["annotator_log_tie"])
    shade = right.scatter(
        np.median(ties / (2 + ties), 0), middle, c=judgements, s=18, cmap="cividis"
    )
    right.set(
        yscale="log", xlabel="chance of a tie between equal answers", ylabel="rationality, median"
    )
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
    return shown(value, digits)


def write_readme(results: dict) -> None:
    models, ranks = results["models"], results["ranking"]
    loss = [
        [
            "model",
            "all outcomes",
            "excess",
            "decided only",
            "excess",
            "R-hat",
            "least ESS",
            "divergences",
            "health of the fit",
        ]
    ]
    for name, row in models.items():
        cells = [
            show(row[key]) if key in row else "-"
            for key in ("loss_all", "excess_all", "loss_decided", "excess_decided")
        ]
        loss.append(
            [
                name,
                *cells,
                f"{row['worst_r_hat']:.3f}",
                str(row["least_ess"]),
                f"{row['divergences']} of {row['draws']}",
                row["verdict"],
            ]
        )
    order = [["answer", "reward", "rank", "chance of being the best"]]
    for row in [*ranks[:8], None, *ranks[-4:]]:
        order.append(
            ["..."] * 4
            if row is None
            else [row["answer"], show(row["reward"], 2), show(row["rank"], 1), f"{row['best']:.2f}"]
        )
    rates = [
        [
            "KL temperature",
            "divergence from the reference (nats)",
            "win rate",
            "win rate, mean reward",
            "held-out pairs, simulated",
            "held-out pairs, observed",
            "simulated below observed",
        ]
    ]
    for row, check in zip(results["win_rate"], results["pair_check"], strict=True):
        cells = [row["prompt"], row["mean"], check["predicted"], check["observed"]]
        head = [f"{row['temperature']:g}", f"{row['divergence']:.2f}"]
        share = f"{check['share_below']:.3f}"
        rates.append([*head, *(show(cell) for cell in cells), share])
    trap = [
        [
            "logged share",
            "objective",
            "doubt",
            "miss",
            "agreement",
            "effective answers",
            "win rate",
            "held-out log-loss",
            "health of the search",
        ]
    ]
    for row in results["leader"]:
        trap.append(
            [
                f"{row['logged_share']:g}",
                show(row["objective"]),
                f"{row['doubt']:.3f}",
                f"{row['miss']:.3f}",
                f"{row['agreement']:.2f}",
                f"{row['effective_answers']:.1f}",
                show(row["win_rate"]),
                show(row["held_out"]),
                row["health_of_the_search"],
            ]
        )
    people = results["annotators"]
    fill(
        HERE / "README.md",
        {
            "DATA": results["data"],
            "LOSS": markdown(loss),
            "FITS": fit_health(models),
            "GAIN": gain_text(results),
            "PEOPLE": (
                f"Spread of log temperature {show(people['spread'], 2)}; the annotator at the 90th "
                f"percentile is {show(people['ratio'], 1)} times as rational as the one at the "
                "10th. Chance of a tie between equal answers: "
                f"{show(people['tie_ends'][0], 2)} at the 10th percentile of annotators, "
                f"{show(people['tie_ends'][1], 2)} at the 90th. The left "
                f"place adds {show(people['left_pull'], 2)} to the log-odds."
            ),
            "RANKS": markdown(order),
            "WIDTH": rank_width(results),
            "RATES": markdown(rates),
            "PAIRS": pair_verdict(results["pair_check"]),
            "DRAWS": f"{NUM_COMMON_DRAWS} of the {NUM_DESIGN_DRAWS} posterior draws",
            "TRAP": markdown(trap),
            "COST": f"{results['cpu_seconds']:.0f} s of processor time, peak memory "
            f"{results['peak_memory_MB']:,} MB.",
        },
    )


def fit_health(models: dict) -> str:
    """Write why fits do not pass."""
    return "\n".join(
        f"- {name}: **{row['verdict']}**. {'; '.join(row['reasons'])}."
        for name, row in models.items()
        if row["reasons"]
    )


def gain_text(results: dict) -> str:
    """Write what own temperatures gain, with the verdicts on the two fits."""
    alike, sharp = (row["verdict"] for row in list(results["models"].values())[:2])
    gain = show(results["gain_of_own_temperatures"])
    return f"{gain} nats per held-out judgement (verdicts on the two fits: {sharp} and {alike})"


def pair_verdict(checks: list[dict]) -> str:
    """Say where observed rates lie beside the simulated ones."""
    below = sum(check["observed"][0] < check["predicted"][1] for check in checks)
    above = sum(check["observed"][0] > check["predicted"][2] for check in checks)
    gaps = [(c["observed"][0] - c["predicted"][0]) / c["observed"][1] for c in checks]
    return (
        f"Of the {len(checks)} observed rates {below} lie below the interval of the simulated "
        f"ones, {above} above it, {len(checks) - below - above} inside. In the clustered standard "
        f"errors of the observed rates, they differ from the simulated means by "
        f"{min(gaps):.1f} to {max(gaps):.1f}."
    )


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
    begun = time.process_time()
    data = load_comparisons()
    pairs = int(data["pair"].max()) + 1
    chosen = np.random.default_rng(0).permutation(pairs)[: round(HELD_OUT_SHARE * pairs)]
    held = np.isin(data["pair"].values, chosen)
    models, kept = compare_models(data, held)
    gain = models.pop("gain of own temperatures")
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
        "gain_of_own_temperatures": gain,
        "annotators": annotators(posterior),
        "ranking": ranks,
        "plain_ranking": ranking(kept[PLAIN], data["answer"].values),
        "win_rate": by_temperature(data, posterior),
        "pair_check": pair_check(data, posterior, held),
        "leader": leader(data, kept[PLAIN], held),
        "cpu_seconds": round(time.process_time() - begun, 1),
        "peak_memory_MB": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024,
    }
    (HERE / "results.json").write_text(json.dumps(results, indent=1) + "\n")
    write_readme(results)


if __name__ == "__main__":
    main()
