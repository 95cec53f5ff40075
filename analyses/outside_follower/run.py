"""A follower trained by another library (PPO of skrl), steered through its episodes alone.

    python analyses/outside_follower/run.py [--seed 0]

Needs the packages of requirements-rl.txt. Leaves results.json and ascent.png beside this file.
"""

import argparse
import copy
import json
import threading
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import flax.linen as nn
import gymnasium
import jax
import jax.numpy as jnp
import matplotlib.pyplot as plt
import numpy as np
import optax
import skrl
import xarray as xr
from gymnasium.vector import AutoresetMode, SyncVectorEnv
from skrl.agents.jax.ppo import PPO, PPO_CFG
from skrl.envs.wrappers.jax import wrap_env
from skrl.memories.jax import RandomMemory
from skrl.models.jax import CategoricalMixin, DeterministicMixin, Model
from skrl.trainers.jax import SequentialTrainer
from skrl.utils import set_seed

import cbrl_bayes as cb
from cbrl_bayes.errors import FollowerError
from cbrl_bayes.followers import OutsideFollower, environment_of, gymnasium_follower
from cbrl_bayes.hypergradients import AscentProgram, AscentResult, BoltzmannCovariance, Exact
from cbrl_bayes.problems import scaled_sigmoid

HERE = Path(__file__).parent
LEVELS = 6
RUN, SERVICE = 0, 1
ENTROPY_COEFFICIENT = 0.15
NUM_ENVS, ROLLOUT = 256, 8
FIRST_UPDATES, MORE_UPDATES, JUDGED_UPDATES = 400, 30, 150
TIME_LIMIT = 120.0
NUM_STEPS, NUM_ROLLOUTS, MAX_STEPS = 20, 1000, 80
NUM_RECORDED, NUM_JUDGES = 300, 4
LABELS = {"none": "no subsidy", "reached": "ascent", "exact": "exact optimum of the model"}
COLOURS = {"none": "#999999", "reached": "#D55E00", "exact": "#0072B2"}
Act = Callable[[int, np.random.Generator], tuple[int, float]]


def leased_machine(*, temperature: float = 0.2) -> cb.Problem:
    """Subsidise the service of a leased machine that wears while it runs.

    The operator runs the machine (income falling with wear) or has it serviced (a cost that
    depends on the context, less the subsidy at that wear; then wear is 0). Running wears it by
    one level with probability .6. Each step ends the lease with probability .1. The owner
    bears damage that grows with wear and pays the subsidies.

    Parameters
    ----------
    temperature : float
        lambda of the leader's model of the operator, in money.

    Returns
    -------
    Problem
    """
    wear = jnp.arange(LEVELS)
    law = law_of_wear()
    returned = jnp.arange(LEVELS + 1) == LEVELS

    def mdp_fn(incentive: dict, cost: jnp.ndarray, parameters: dict) -> cb.MDP:
        return cb.MDP(
            reward=table(1.0 - 0.03 * wear**2, incentive["subsidy"] - cost),
            transition=law,
            initial=jnp.where(returned, 0.0, 1.0 / LEVELS),
            discount=0.95,
            temperature=parameters["temperature"],
            terminal=returned,
        )

    return cb.Problem(
        name="leased_machine",
        incentive=subsidies(),
        contexts=cb.DiscreteContexts(("cheap", "dear"), jnp.array([0.8, 1.6]), (0.5, 0.5)),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature},
        leader_reward_fn=lambda incentive, cost, parameters: table(-0.1 * wear**2, 0.0),
        incentive_price_fn=lambda incentive, cost, parameters: table(0.0, incentive["subsidy"]),
        leader_discount=0.95,
        action_names=("run", "service"),
        objective_unit="money",
        parameter_units={"temperature": "money", "rationality": "1 / money"},
    )


def law_of_wear() -> cb.DenseTransition:
    """Return where running and service lead; the last state is the end of the lease."""
    law = np.zeros((LEVELS + 1, 2, LEVELS + 1))
    for level in range(LEVELS):
        law[level, RUN, level] += 0.36
        law[level, RUN, min(level + 1, LEVELS - 1)] += 0.54
        law[level, SERVICE, 0] = 0.9
    law[:LEVELS, :, LEVELS] = 0.1
    law[LEVELS, :, LEVELS] = 1.0
    return cb.DenseTransition(jnp.asarray(law))


def subsidies() -> cb.IncentiveSpace:
    """Return one subsidy per service at each wear, 0 to 2 money."""
    places = {"wear": (("wear",), range(LEVELS))}
    return cb.IncentiveSpace(
        initial={"subsidy": jnp.full(LEVELS, -1.0)},
        transform=lambda x: {"subsidy": scaled_sigmoid(x["subsidy"], 0.0, 2.0)},
        labels={"subsidy": cb.Labels(("wear",), places, "money", "paid for a service")},
    )


def table(run: jnp.ndarray | float, service: jnp.ndarray | float) -> jnp.ndarray:
    """Return amounts by state and action, 0 after the end of the lease."""
    return jnp.zeros((LEVELS + 1, 2)).at[:-1, RUN].set(run).at[:-1, SERVICE].set(service)


class Policy(CategoricalMixin, Model):
    """One logit per state and action."""

    def __init__(self, **settings: object) -> None:
        Model.__init__(self, **settings)
        CategoricalMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs: dict, role: str) -> tuple:
        """Return the logits."""
        return nn.Dense(self.num_actions, use_bias=False)(one_hot(self, inputs)), {}

    def act(self, inputs: dict, *, role: str = "", params: object = None) -> tuple:
        """Act; PPO of skrl 2.1.1 takes the entropy from `stddev`, which here is not a number."""
        actions, outputs = super().act(inputs, role=role, params=params)
        return actions, outputs | {"stddev": outputs["net_output"]}


class Value(DeterministicMixin, Model):
    """One value per state."""

    def __init__(self, **settings: object) -> None:
        Model.__init__(self, **settings)
        DeterministicMixin.__init__(self)

    @nn.compact
    def __call__(self, inputs: dict, role: str) -> tuple:
        """Return the value."""
        return nn.Dense(1)(one_hot(self, inputs)), {}


def one_hot(model: Model, inputs: dict) -> jnp.ndarray:
    """Expand state numbers, shape (batch, 1)."""
    numbers = inputs["observations"][:, 0].astype(jnp.int32)
    return jax.nn.one_hot(numbers, model.num_observations, dtype=jnp.float32)


class Operator:
    """PPO of skrl; it knows nothing of the leader, of best responses or of temperatures.

    One agent serves all contexts, so that its programs are compiled once; what it learned is
    kept by context, and the next training in the same context goes on from there. What the
    first training in a context left are its habits.

    Parameters
    ----------
    problem : Problem
        For the environments, whose rewards carry the incentive.
    seed : int
    """

    def __init__(self, problem: cb.Problem, seed: int) -> None:
        self.problem = problem
        set_seed(seed)
        env = side_by_side(self.environment({"subsidy": np.zeros(LEVELS)}, 1.0))
        spaces = {"observation_space": env.observation_space, "action_space": env.action_space}
        models = {"policy": Policy(**spaces), "value": Value(**spaces)}
        for role, model in models.items():
            model.init_state_dict(role=role)
        memory = RandomMemory(memory_size=ROLLOUT, num_envs=NUM_ENVS)
        self.agent = PPO(models=models, memory=memory, cfg=ppo_settings(), **spaces)
        quiet = {"headless": True, "disable_progressbar": True, "close_environment_at_exit": False}
        self.trainer = SequentialTrainer(cfg=quiet, env=env, agents=self.agent)
        self.first = self._weights()
        self.learned: dict[float, tuple] = {}
        self.habits: dict[float, tuple] = {}
        self.num_updates = 0

    def environment(self, incentive: Mapping[str, np.ndarray], context: Any) -> gymnasium.Env:
        """Return the machine under one subsidy and cost of service."""
        parameters = self.problem.default_parameters
        env = environment_of(self.problem.mdp_fn(incentive, context, parameters))
        env.context = float(context)
        return env

    def train(self, env: gymnasium.Env, seed: int) -> Act:
        """Go on learning in ``env``; return a function that acts."""
        if env.context in self.learned:
            return self._learn(env, seed, self.learned[env.context], MORE_UPDATES)
        act = self._learn(env, seed, self.first, FIRST_UPDATES)
        self.habits[env.context] = self.learned[env.context]
        return act

    def train_from_habits(self, env: gymnasium.Env, seed: int) -> Act:
        """Learn from the habits, whatever was learned since."""
        return self._learn(env, seed, self.habits[env.context], JUDGED_UPDATES)

    def _learn(self, env: gymnasium.Env, seed: int, start: tuple, num_updates: int) -> Act:
        set_seed(seed)
        self._take(start)
        self.trainer.env = side_by_side(env)
        self.trainer.cfg.timesteps = num_updates * ROLLOUT
        self.trainer.train()
        self.agent.tracking_data.clear()
        self.learned[env.context] = self._weights()
        self.num_updates += num_updates
        chance = self._policy()

        def act(observation: int, rng: np.random.Generator) -> tuple[int, float]:
            action = int(rng.random() < chance[observation, SERVICE])
            return action, np.log(chance[observation, action])

        return act

    def _policy(self) -> np.ndarray:
        policy = self.agent.policy
        states = {"observations": jnp.arange(LEVELS + 1)[:, None]}
        logits, _ = policy.apply(policy.state_dict.params, states, "policy")
        return np.asarray(jax.nn.softmax(jnp.asarray(logits, float)))

    def _weights(self) -> tuple:
        agent = self.agent
        return (
            agent.policy.state_dict,
            agent.value.state_dict,
            agent.policy_optimizer,
            agent.value_optimizer,
        )

    def _take(self, weights: tuple) -> None:
        agent = self.agent
        (
            agent.policy.state_dict,
            agent.value.state_dict,
            agent.policy_optimizer,
            agent.value_optimizer,
        ) = weights


def ppo_settings() -> PPO_CFG:
    """Return the settings of PPO; nothing is written to disk."""
    settings = PPO_CFG(
        rollouts=ROLLOUT,
        learning_epochs=3,
        mini_batches=1,
        learning_rate=1e-2,
        entropy_loss_scale=ENTROPY_COEFFICIENT,
        discount_factor=0.95,
        value_clip=0.0,
        value_loss_scale=1.0,
    )
    settings.experiment.write_interval = settings.experiment.checkpoint_interval = 0
    return settings


def side_by_side(env: gymnasium.Env) -> Any:
    """Return copies of ``env`` as skrl wants them; they take skrl's seed at their first reset."""
    copies = [lambda: copy.deepcopy(env)] * NUM_ENVS
    return wrap_env(SyncVectorEnv(copies, autoreset_mode=AutoresetMode.SAME_STEP))


def watch(
    problem: cb.Problem, follower: OutsideFollower, incentive: dict, key: jax.Array
) -> xr.Dataset:
    """Let the follower train in each context and record what it then does."""
    states, actions, contexts = [], [], []
    for index, name in enumerate(problem.contexts.names):
        train_key, walk_key = jax.random.split(jax.random.fold_in(key, index))
        sample, _, _ = follower.train(
            problem,
            incentive,
            problem.contexts.values[index],
            problem.default_parameters,
            (),
            key=train_key,
        )
        walked = sample(key=walk_key, num_steps=MAX_STEPS, num_rollouts=NUM_RECORDED)
        leased = np.asarray(walked.active & (walked.state < LEVELS))
        for row, kept in enumerate(leased):
            if kept.any():
                states.append(np.asarray(walked.state[row])[kept])
                actions.append(np.asarray(walked.action[row])[kept])
                contexts.append(name)
    return cb.make_trajectories(
        states,
        actions,
        context=contexts,
        regime=["observed"] * len(states),
        incentives={"observed": incentive},
    )


def fit_temperature(problem: cb.Problem, data: xr.Dataset, key: jax.Array) -> dict[str, float]:
    """Infer the temperature with which the leader's model describes this behaviour best."""
    fit = cb.infer(problem, data, key=key)
    summary = cb.summary(fit, prob=0.9)
    row = summary.frame.loc[("parameter", "temperature")]
    return {name: float(row[name]) for name in ("mean", "lower", "upper")} | {
        "steps": int((data["state"] >= 0).sum()),
        "health": summary.health.verdict,
    }


def ascend(problem: cb.Problem, follower: OutsideFollower, key: jax.Array) -> AscentResult:
    """Climb by what the follower's episodes say."""
    estimator = BoltzmannCovariance(
        num_rollouts=NUM_ROLLOUTS, max_steps=MAX_STEPS, critic_memory=0.5, oracle=follower
    )
    rate = optax.cosine_decay_schedule(2.0, NUM_STEPS, alpha=0.05)
    settings = cb.Ascent(num_steps=NUM_STEPS, optimizer=optax.sgd(rate), clip_norm=None)
    return AscentProgram(problem, estimator, settings).run(problem.default_parameters, key=key)


def ascend_and_record(
    problem: cb.Problem, follower: OutsideFollower, key: jax.Array
) -> tuple[AscentResult, dict[str, Any]]:
    """Climb; also return what goes into the results."""
    begun = time.perf_counter()
    ascent = ascend(problem, follower, key)
    record = {
        "status": ascent.status.name,
        "seconds": time.perf_counter() - begun,
        "follower_steps": int(ascent.trace.follower_steps.sum()),
        "objective": ascent.trace.objective.tolist(),
    }
    print(f"ascent {record['status']}, {record['seconds']:.0f} s", flush=True)
    return ascent, record


def score(
    problem: cb.Problem, operator: Operator, unconstrained: dict, key: jax.Array
) -> dict[str, float]:
    """Judge one subsidy by followers who come from their habits, and by the leader's model.

    A score's own standard error is that of the episodes of one training; that over trainings
    covers both.
    """
    fresh = gymnasium_follower(
        operator.environment, operator.train_from_habits, time_limit=TIME_LIMIT
    )
    judge = cb.SimulatedEvaluation(
        num_replicates=10, num_rollouts=100, max_steps=MAX_STEPS, oracle=fresh
    )
    parameters = problem.default_parameters
    scores = [
        judge.score(problem, unconstrained, parameters, key=one)
        for one in jax.random.split(key, NUM_JUDGES)
    ]
    objective = np.array([float(one.objective) for one in scores])
    errors = np.array([float(one.standard_error) for one in scores])
    return {
        "objective": objective.mean(),
        "standard_error": np.sqrt((errors**2).sum()) / NUM_JUDGES,
        "standard_error_with_training": objective.std(ddof=1) / np.sqrt(NUM_JUDGES),
        "by_training": objective.tolist(),
        "by_the_model": float(cb.leader_outcome(problem, unconstrained, parameters).objective),
        "subsidy": np.asarray(problem.incentive.transform(unconstrained)["subsidy"]).tolist(),
    }


def show_time_limit(problem: cb.Problem, operator: Operator, seconds: float) -> dict[str, Any]:
    """Print what the user sees when a trainer hangs in the second step of an ascent."""
    calls = []

    def train(env: gymnasium.Env, seed: int) -> Act:
        calls.append(seed)
        if len(calls) > problem.contexts.num_contexts:
            threading.Event().wait()  # for ever
        return operator.train(env, seed)

    hanging = gymnasium_follower(operator.environment, train, time_limit=seconds, name="skrl PPO")
    begun = time.perf_counter()
    try:
        ascend(problem, hanging, jax.random.key(0))
    except FollowerError as error:
        print(f"error: {error}", flush=True)
        return {
            "message": str(error),
            "steps_kept": len(error.partial.trace.objective),
            "seconds": time.perf_counter() - begun,
        }
    raise AssertionError("the trainer returned")


def shares_of_service(problem: cb.Problem, data: xr.Dataset, subsidy: Any) -> dict[str, dict]:
    """Return shares of services by wear, observed and in the leader's model, per context."""
    shares = {}
    for index, name in enumerate(problem.contexts.names):
        chosen = data.isel(episode=np.flatnonzero(data["context"].values == name))
        state, action = chosen["state"].values, chosen["action"].values
        mdp = problem.mdp_fn(
            {"subsidy": subsidy}, problem.contexts.values[index], problem.default_parameters
        )
        shares[name] = {
            "observed": [float(action[state == level].mean()) for level in range(LEVELS)],
            "model": np.asarray(cb.best_response(mdp).policy[:LEVELS, SERVICE]).tolist(),
        }
    return shares


def draw(results: dict) -> None:
    """Draw the ascent, the subsidies, and behaviour beside the leader's model of it."""
    figure, axes = plt.subplots(1, 3, figsize=(13, 5), layout="constrained")
    path = results["ascent"]["objective"]
    axes[0].plot(1 + np.arange(len(path)), path, ".-", color="black", label="estimated on the way")
    for name, one in results["scores"].items():
        label, colour = LABELS[name], COLOURS[name]
        half = 2 * one["standard_error_with_training"]
        low, high = one["objective"] - half, one["objective"] + half
        axes[0].axhline(
            one["objective"], color=colour, label=f"{label}, mean of {NUM_JUDGES} trainings"
        )
        axes[0].axhspan(low, high, color=colour, alpha=0.2, lw=0)
        axes[1].plot(one["subsidy"], "o-", color=colour, label=label)
    axes[0].axhline(
        results["scores"]["exact"]["by_the_model"],
        color="black",
        ls=":",
        label="exact optimum, as the model promises",
    )
    for name, by_context in results["service"].items():
        for (context, one), mark, line in zip(by_context.items(), "os", ("-", "--"), strict=True):
            axes[2].plot(one["model"], line, color=COLOURS[name], lw=1)
            axes[2].plot(
                one["observed"],
                mark,
                color=COLOURS[name],
                label=f"{LABELS[name]}, service {context}",
            )
    axes[0].set(xlabel="step of the ascent", ylabel="leader's objective (money)")
    axes[1].set(xlabel="wear", ylabel="subsidy per service (money)")
    axes[2].set(xlabel="wear", ylabel="share of services (lines: the leader's model)")
    for one in axes:
        one.legend(fontsize="small", loc="upper center", bbox_to_anchor=(0.5, -0.14))
    figure.savefig(HERE / "ascent.png", dpi=130)
    plt.close(figure)


def study(seed: int) -> dict[str, Any]:
    """Watch, fit, climb, judge."""
    keys = jax.random.split(jax.random.key(seed), 8)
    operator = Operator(leased_machine(), seed)
    follower = gymnasium_follower(operator.environment, operator.train, time_limit=TIME_LIMIT)
    nothing = {"subsidy": jnp.zeros(LEVELS)}
    before = watch(operator.problem, follower, nothing, keys[0])
    fitted = fit_temperature(operator.problem, before, keys[1])
    problem = leased_machine(temperature=fitted["mean"])
    print(f"temperature {fitted['mean']:.3f} money, {time.process_time():.0f} s", flush=True)
    ascent, record = ascend_and_record(problem, follower, keys[2])
    reached = problem.incentive.transform(ascent.unconstrained)
    after = watch(problem, follower, reached, keys[3])
    exact = AscentProgram(problem, Exact(), cb.Ascent(num_steps=600)).run(
        problem.default_parameters, key=keys[4]
    )
    designs = {
        "none": {"subsidy": jnp.full(LEVELS, -jnp.inf)},
        "reached": ascent.unconstrained,
        "exact": exact.unconstrained,
    }
    return {
        "fitted_before": fitted,
        "fitted_after": fit_temperature(problem, after, keys[5]),
        # The same keys for all designs: common random numbers.
        "scores": {name: score(problem, operator, x, keys[6]) for name, x in designs.items()},
        "ascent": record,
        "service": {
            "none": shares_of_service(problem, before, nothing["subsidy"]),
            "reached": shares_of_service(problem, after, reached["subsidy"]),
        },
        "time_limit": show_time_limit(problem, operator, 15.0),
        "ppo_updates": operator.num_updates,
    }


def main() -> None:
    """Run the study and write what it found."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seed", type=int, default=0)
    arguments = parser.parse_args()
    skrl.logger.setLevel("WARNING")
    skrl.config.jax.device = "cpu"
    begun = time.perf_counter()
    results = study(arguments.seed)
    results |= {
        "seed": arguments.seed,
        "skrl": skrl.__version__,
        "seconds": time.perf_counter() - begun,
        "cpu_seconds": time.process_time(),
    }
    draw(results)
    rounded = json.loads(json.dumps(results), parse_float=lambda text: round(float(text), 4))
    (HERE / "results.json").write_text(json.dumps(rounded, indent=1) + "\n")


if __name__ == "__main__":
    main()
