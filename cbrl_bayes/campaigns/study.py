"""Campaigns: a leader decides, watches, learns and decides again; simulated ones."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.campaigns.answers import Answer
from cbrl_bayes.campaigns.engine import Engine
from cbrl_bayes.campaigns.recorded import read_earlier
from cbrl_bayes.campaigns.settings import CampaignSettings, check_problem
from cbrl_bayes.campaigns.simulation import Simulation, complete_truth
from cbrl_bayes.campaigns.tables import campaigns_dataset
from cbrl_bayes.campaigns.watching import World
from cbrl_bayes.errors import InvalidInputError, is_whole, require_key, require_kind
from cbrl_bayes.followers import ExactFollower, TrajectoryOracle
from cbrl_bayes.hypergradients import Search, global_search
from cbrl_bayes.problems import Problem
from cbrl_bayes.progress import Progress
from cbrl_bayes.results import fingerprint, running

FROM_PRIOR = "prior"


def simulate_campaigns(
    problem: Problem,
    *,
    key: Key[Array, ""],
    settings: CampaignSettings | None = None,
    num_campaigns: int = 1,
    truth: Mapping[str, Any] | str | None = None,
    world: Problem | None = None,
    follower: TrajectoryOracle | None = None,
    priors: Mapping[str, Any] | None = None,
    today: Mapping[str, Any] | str | None = None,
    earlier: xr.Dataset | None = None,
    clairvoyant: Search | None = None,
    num_workers: int = 2,
    checkpoint: str | Path | None = None,
    progress: Progress = None,
) -> xr.Dataset:
    """Let a leader run campaigns against simulated followers.

    Each round the leader draws from what it believes, its policy proposes designs, constraints
    draw them back, followers answer, and beliefs are updated: by particles, or, with
    ``settings.dynamics``, by counts of transitions and a Laplace approximation under laws drawn
    from them (docs, *Campaigns*).

    Parameters
    ----------
    problem : Problem
        What the leader takes for the truth, but for its parameters. With listed contexts.
    key : typed key
    settings : CampaignSettings, optional
    num_campaigns : int
        >= 1, independent of each other.
    truth : mapping or "prior", optional
        Parameters of the followers. "prior": every campaign has its own, drawn from what the
        leader believes before the first round: independent draws of the prior or, with
        ``earlier``, of the particles (which may come twice). Default: those of ``world``.
    world : Problem, optional
        The true problem where it differs from the leader's, as from `follower_models`: its states,
        actions, contexts and incentives are the same. Default: ``problem``.
    follower : TrajectoryOracle, optional
        Who answers. Default: exact best response in ``world``. The true objective is that of best
        responses whoever answers.
    priors : mapping, optional
        As in `infer`.
    today : mapping or "no incentive", optional
        The incentive in force before. Default: the incentive space's own start.
    earlier : xarray.Dataset, optional
        Behaviour observed before the first round, with its incentives, as `load_trajectories`
        returns it: campaigns begin with what it teaches.
    clairvoyant : Search, optional
        How the true optimum is looked for. Default: `global_search()`.
    num_workers : int
        Threads; campaigns run side by side.
    checkpoint, progress
        As in `design`. A piece of work is a campaign.

    Returns
    -------
    xarray.Dataset
        See `cbrl_bayes.campaigns.tables`; `campaign_table` prints it.

    Raises
    ------
    InvalidInputError
        For a problem, settings or a truth that cannot be used.

    Examples
    --------
    >>> import jax, cbrl_bayes as cb
    >>> quick = cb.PlanningSettings(
    ...     search=cb.Search(ascent=cb.Ascent(num_steps=20, learning_rate=0.3)), num_draws=20)
    >>> found = cb.simulate_campaigns(
    ...     cb.problems.two_state(), key=jax.random.key(0),
    ...     settings=cb.CampaignSettings(num_rounds=2, planning=quick, num_replicates=19),
    ...     clairvoyant=cb.Search(ascent=cb.Ascent(num_steps=50)))
    >>> found["predicted"].dims, found["rounds"].values.tolist()
    (('campaign', 'round', 'arm', 'band'), [2])
    """
    settings = CampaignSettings() if settings is None else settings
    clairvoyant = global_search() if clairvoyant is None else clairvoyant
    require_key(key)
    check_problem(problem)
    require_kind(settings, CampaignSettings, "settings", "cb.CampaignSettings(...)")
    require_kind(clairvoyant, Search, "clairvoyant", "cb.global_search()")
    if not is_whole(num_campaigns) or num_campaigns < 1:
        raise InvalidInputError(
            "num_campaigns cannot be used", received=repr(num_campaigns), accepted="1, 2, ..."
        )
    engine = Engine(problem, settings, priors, point_of(problem, today))
    engine.answers_before = answers_before(engine, earlier)
    engine.key_before = jax.random.fold_in(key, 2)
    if engine.answers_before:
        assert engine.belief_before is not None  # made now: campaigns run side by side
    true = problem if world is None else world
    require_kind(true, Problem, "world", "cb.problems.follower_models.lapsing(problem, 0.1)")
    _check_same_form(problem, true)
    oracle = ExactFollower() if follower is None else follower
    truth_key, run_key = jax.random.split(key)
    truths = _truths(engine, true, truth, num_campaigns, truth_key)
    simulation = Simulation(engine, World(true, truths[0], oracle), clairvoyant)
    keys = jax.random.split(run_key, num_campaigns)

    def one(number: int) -> dict[str, np.ndarray]:
        def on_round(done: int) -> None:
            if num_campaigns == 1:
                run.report("rounds", done, settings.num_rounds)

        return simulation.run(truths[number], keys[number], on_round)

    with running(
        problem,
        num_workers=num_workers,
        checkpoint=checkpoint,
        progress=progress,
        question="campaigns",
        settings=settings,
        truth=truths,
        world=None if world is None else world.name,
        follower=oracle,
        priors=engine.priors,
        today=engine.today,
        earlier=None if earlier is None else fingerprint(problem, earlier),
        clairvoyant=clairvoyant,
        key=key,
    ) as run:
        run.each(
            "campaigns", one, lambda number: number, num_campaigns, on_host=oracle.runs_on_host
        )
        records = run.stacked("campaigns", num_campaigns)
    used = {
        "campaign": settings,
        "follower": oracle,
        "world": true.name,
        "seed": np.asarray(jax.random.key_data(key)).tolist(),
    }
    return campaigns_dataset(engine, records, used)


def point_of(problem: Problem, today: Mapping[str, Any] | str | None) -> np.ndarray | None:
    """Return a readable incentive before its transform."""
    if today is None:
        return None
    return np.asarray(problem.incentive.flatten(problem.incentive.unconstrained_for(today)))


def answers_before(engine: Engine, earlier: xr.Dataset | None) -> tuple[Answer, ...]:
    """Return what was observed before the first round, counted."""
    require_kind(earlier, xr.Dataset | None, "earlier", "earlier = cb.load_trajectories(path)")
    return () if earlier is None else read_earlier(engine.problem, earlier, engine.watch)


def _check_same_form(problem: Problem, world: Problem) -> None:
    """Refuse a world whose data the leader could not read."""
    for name in ("num_states", "num_actions", "num_successors"):
        mine, theirs = getattr(problem, name), getattr(world, name)
        if mine != theirs:
            raise InvalidInputError(
                f"the world does not fit the leader's problem {problem.name!r}",
                received=f"{name} {theirs}",
                accepted=str(mine),
            )
    if problem.contexts.names != world.contexts.names:
        raise InvalidInputError(
            f"the world does not fit the leader's problem {problem.name!r}",
            received=f"contexts {', '.join(world.contexts.names)}",
            accepted=", ".join(problem.contexts.names),
        )


def _truths(
    engine: Engine, world: Problem, truth: Mapping[str, Any] | str | None, num: int, key: Array
) -> list[dict[str, np.ndarray]]:
    """Return all parameters of each campaign's followers."""
    if isinstance(truth, str):
        if engine.answers_before and engine.settings.dynamics is not None:
            raise InvalidInputError(
                "truths cannot be drawn after earlier data where the dynamics are unknown: few "
                "laws are drawn, and campaigns would share their truths",
                remedy="truth={name: value}, or no earlier data",
            )
        if truth != FROM_PRIOR:
            raise InvalidInputError(
                "truth cannot be used", received=repr(truth), accepted="a mapping, 'prior' or None"
            )
        drawn = engine.prior_draws(key, num)
        known = set(world.default_parameters)
        rows = [{n: v[i] for n, v in drawn.items() if n in known} for i in range(num)]
        return [complete_truth(world, row) for row in rows]
    require_kind(truth, Mapping | None, "truth", "{'temperature': 0.2}")
    return [complete_truth(world, truth)] * num
