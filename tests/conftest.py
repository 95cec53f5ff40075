"""Shared set-up: compiled programs are cached, one device per chain, no windows."""

import os
from dataclasses import replace
from pathlib import Path

os.environ.setdefault("JAX_NUM_CPU_DEVICES", "4")
os.environ.setdefault(
    "JAX_COMPILATION_CACHE_DIR", str(Path(__file__).parent.parent / ".cache" / "jax")
)
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS", "0")
os.environ.setdefault("JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES", "-1")
os.environ.setdefault("MPLBACKEND", "agg")
# Tests compile far longer than they compute: spare XLA's most expensive passes. And each process
# of the suite has one core: more threads would only wait for each other.
os.environ.setdefault(
    "XLA_FLAGS",
    "--xla_backend_optimization_level=1 --xla_llvm_disable_expensive_passes=true "
    "--xla_cpu_multi_thread_eigen=false --xla_cpu_parallel_codegen_split_count=1",
)
os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
os.environ.setdefault("OMP_NUM_THREADS", "1")

import jax
import jax.numpy as jnp
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.behaviour import simulate_trajectories
from cbrl_bayes.mdp import MDP, DenseTransition, SuccessorTransition, finite_horizon, replace_fields
from cbrl_bayes.problems import DiscreteContexts, IncentiveSpace, Labels, Problem

SMALL_ROOMS = """\
xxxxxxx
x  x  x
x     x
xx x xx
x  x  x
x     x
xxxxxxx"""
PLACES = {"map_text": SMALL_ROOMS, "start": (2, 1), "goals": ((1, 5), (5, 5)), "target": (4, 1)}
"""A map of 20 cells, and what it has for `four_rooms`."""
MOST_MAPPINGS = 40_000
"""Memory mappings of a process, of which Linux allows 65,530; a fit leaves some 2,000 behind."""


USE_THE_STUDY = (
    "tests/unit/inference/test_inference.py",
    "tests/unit/problems/test_names.py",
    "tests/unit/reports/test_report.py",
    "tests/unit/results/test_chains.py",
    "tests/unit/results/test_draws.py",
    "tests/unit/results/test_results.py",
)
"""Files that use the fixtures `fitted` or `study`: one process makes them and runs all of these."""


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config, log):
    """Give a process whole files, for their fixtures' sake; those of one study go together."""
    if config.getvalue("dist") != "loadfile":
        return None
    from xdist.scheduler import LoadFileScheduling

    class Scheduling(LoadFileScheduling):
        def _split_scope(self, nodeid):
            file = super()._split_scope(nodeid)
            return "study" if file in USE_THE_STUDY else file

    return Scheduling(config, log)


@pytest.fixture(autouse=True, scope="module")
def _few_programs():
    """Let go of compiled programs before the process runs out of memory mappings."""
    yield
    mappings = Path("/proc/self/maps")
    if mappings.exists() and mappings.read_bytes().count(b"\n") > MOST_MAPPINGS:
        jax.clear_caches()


def make_workshop(temperature=0.3, discount=0.8, price_moves_law=False):
    """A workshop in order or not: keeping order is work, and a bonus pays for it.

    Where work leads is what an outsider does not know. If ``price_moves_law``, a bonus also makes
    work do more.
    """

    def mdp_fn(incentive, cost, parameters):
        more = 0.1 * jnp.tanh(incentive["bonus"]) if price_moves_law else 0.0
        in_order = jnp.array([[0.6, 0.9], [0.1, 0.7]]) + more * jnp.array([[0.0, 1.0], [0.0, 1.0]])
        work = jnp.array([[0.0, 1.0], [0.0, 1.0]])
        effort = jnp.array([[0.5], [1.0]]) * cost
        return MDP(
            reward=work * (incentive["bonus"] - effort),
            transition=DenseTransition(jnp.stack([in_order, 1.0 - in_order], axis=-1)),
            initial=jnp.array([0.5, 0.5]),
            discount=discount,
            temperature=parameters["temperature"],
        )

    return Problem(
        name="workshop",
        incentive=IncentiveSpace(
            initial={"bonus": jnp.zeros(())},
            transform=lambda unconstrained: {"bonus": unconstrained["bonus"]},
            labels={"bonus": Labels(unit="money")},
            scale=1.0,
        ),
        contexts=DiscreteContexts(("usual",), jnp.array([1.0]), (1.0,)),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature},
        leader_reward_fn=lambda incentive, cost, p: jnp.array([[3.0, 3.0], [0.0, 0.0]]),
        incentive_price_fn=lambda incentive, cost, p: (
            incentive["bonus"] * jnp.array([[0.0, 1.0], [0.0, 1.0]])
        ),
        leader_discount=0.8,
        action_names=("rest", "work"),
        objective_unit="money",
    )


@pytest.fixture(autouse=True)
def _close_figures():
    yield
    import matplotlib.pyplot as plt

    plt.close("all")


def make_random_mdp(
    seed: int = 0,
    states: int = 12,
    actions: int = 3,
    successors: int = 4,
    discount: float = 0.9,
    temperature: float = 0.3,
    terminal: bool = True,
) -> MDP:
    """A random MDP in the successor layout; its last state ends the episode."""
    rng = np.random.default_rng(seed)
    return MDP(
        reward=jnp.asarray(rng.normal(size=(states, actions))),
        transition=SuccessorTransition(
            jnp.asarray(rng.integers(0, states, (states, actions, successors))),
            jnp.asarray(rng.dirichlet(np.ones(successors), (states, actions))),
        ),
        initial=jnp.full(states, 1.0 / states),
        discount=discount,
        temperature=temperature,
        terminal=jnp.arange(states) == states - 1 if terminal else None,
    )


def make_moving_problem() -> Problem:
    """A small problem whose incentive moves reward, transitions and the initial law."""
    rng = np.random.default_rng(7)
    S, A, K = 5, 3, 3
    successor = jnp.asarray(rng.integers(0, S, (S, A, K)))
    base, slope = (jnp.asarray(rng.normal(size=(S, A, K))) for _ in range(2))
    reward, bonus, gain = (jnp.asarray(rng.normal(size=(S, A))) for _ in range(3))
    start = jnp.asarray(rng.normal(size=S))

    def mdp_fn(incentive, context, parameters):
        x = incentive["x"]
        return MDP(
            reward=reward + x[0] * bonus + context,
            transition=SuccessorTransition(
                successor, jax.nn.softmax(base + slope * x[1] * (1.0 + context))
            ),
            initial=jax.nn.softmax(start * x[2]),
            discount=0.8,
            temperature=parameters["temperature"],
            terminal=jnp.arange(S) == S - 1,
        )

    return Problem(
        name="moving",
        incentive=IncentiveSpace(
            {"x": jnp.array([0.3, -0.2, 0.5])}, lambda u: u, {"x": Labels(("part",))}
        ),
        contexts=DiscreteContexts(("calm", "rough"), jnp.array([0.0, 0.4]), (0.3, 0.7)),
        mdp_fn=mdp_fn,
        parameters={"temperature": 0.5},
        leader_reward_fn=lambda incentive, context, p: gain * incentive["x"][0] + context * bonus,
        leader_discount=0.7,
    )


def make_ending_problem() -> Problem:
    """As the moving one, without a discount: every path ends; some actions are closed."""
    moving = make_moving_problem()
    available = np.ones((5, 3), bool)
    available[0, 1] = available[2, 0] = available[2, 2] = False

    def mdp_fn(incentive, context, parameters):
        mdp = moving.mdp_fn(incentive, context, parameters)
        # Every move ends the walk with some chance, at dear places more often.
        law = mdp.transition
        out = 0.3 + 0.2 * context
        successor = jnp.concatenate([law.successor, jnp.full((5, 3, 1), 4)], axis=-1)
        chance = jnp.concatenate([(1 - out) * law.probability, jnp.full((5, 3, 1), out)], axis=-1)
        return replace_fields(
            mdp,
            transition=SuccessorTransition(successor, chance),
            discount=1.0,
            available=available,
        )

    return replace(moving, name="ending", mdp_fn=mdp_fn, leader_discount=1.0)


def make_staged_problem() -> Problem:
    """Four periods without a discount; laws and rewards differ by period; an action is closed."""
    rng = np.random.default_rng(3)
    T, S, A = 4, 3, 3
    base, slope = (jnp.asarray(rng.normal(size=(T, S, A, S))) for _ in range(2))
    reward, bonus, gain = (jnp.asarray(rng.normal(size=(T, S, A))) for _ in range(3))
    start, after = jnp.asarray(rng.normal(size=S)), jnp.arange(float(S))
    available = np.ones((S, A), bool)
    available[1, 2] = False

    def mdp_fn(incentive, context, parameters):
        x = incentive["x"]
        return finite_horizon(
            reward=reward + x[0] * bonus + context,
            transition=DenseTransition(jax.nn.softmax(base + slope * x[1])),
            initial=jax.nn.softmax(start * x[2]),
            discount=1.0,
            temperature=parameters["temperature"],
            num_periods=T,
            terminal_values=after * x[0],
            available=available,
        )

    return replace(
        make_moving_problem(),
        name="staged",
        mdp_fn=mdp_fn,
        leader_reward_fn=lambda incentive, context, p: (gain * incentive["x"][0]).reshape(-1, A),
        leader_discount=1.0,
    )


@pytest.fixture(scope="session")
def walkers():
    """Simulated Four-Rooms behaviour with known truth."""
    problem = cb.problems.four_rooms(temperature=0.004)
    data = simulate_trajectories(
        problem,
        key=jax.random.key(11),
        num_episodes=16,
        num_steps=40,
        parameters={"context_probability": (0.4, 0.6)},
    )
    return problem, data


@pytest.fixture(scope="session")
def fitted(walkers):
    """A short NUTS fit of it."""
    problem, data = walkers
    settings = cb.NUTSSettings(num_chains=4, num_warmup=60, num_samples=60)
    return cb.infer(problem, data, key=jax.random.key(1), settings=settings)


@pytest.fixture(scope="session")
def study(walkers, fitted):
    """A small design study under it."""
    problem, _ = walkers
    settings = cb.DesignSettings(
        search=cb.Search(ascent=cb.Ascent(num_steps=40, learning_rate=0.3), num_starts=2),
        per_draw=cb.Search(ascent=cb.Ascent(num_steps=40, learning_rate=0.3)),
        num_search_draws=4,
    )
    return cb.design(problem, fitted, key=jax.random.key(2), num_draws=12, settings=settings)
