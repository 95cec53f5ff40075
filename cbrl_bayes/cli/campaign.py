"""The commands of a campaign: simulate one, or run a real one from a folder."""

import json
import time
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from cbrl_bayes.cli.input import (
    AProblem,
    Json,
    PenaltyWeight,
    Prob,
    Seed,
    Slip,
    Temperature,
    chosen_problem,
)
from cbrl_bayes.cli.output import emit, emit_table, errors

if TYPE_CHECKING:
    import xarray as xr

    from cbrl_bayes.campaigns import Campaign, CampaignSettings
    from cbrl_bayes.problems import Problem

campaign = typer.Typer(
    help="A leader in rounds: decide, watch, learn, decide again.", no_args_is_help=True
)


class PolicyName(StrEnum):
    """Policies that need no settings."""

    GREEDY = "greedy"
    THOMPSON = "thompson"
    UPPER_CONFIDENCE = "upper_confidence"
    KNOWLEDGE_GRADIENT = "knowledge_gradient"
    EPSILON_GREEDY = "epsilon_greedy"


APolicy = Annotated[PolicyName, typer.Option("--policy", help="What decides on the next design.")]
NumRounds = Annotated[int, typer.Option("--rounds", min=1, help="Rounds at most.")]
KnownDynamics = Annotated[
    bool,
    typer.Option(
        "--known-dynamics",
        help="The leader knows the transition law. Without it, only which states can follow.",
    ),
]


StepsPerRound = Annotated[
    int | None, typer.Option(min=1, help="Steps of the follower in each round.")
]
EpisodesPerRound = Annotated[
    int | None, typer.Option(min=1, help="Episodes in each round; default 100.")
]
Arms = Annotated[
    int, typer.Option("--arms", min=1, help="Designs side by side in a round (thompson only).")
]
Groups = Annotated[
    list[str] | None,
    typer.Option("--group", help="A group that gets a design of its own, as a region; repeatable."),
]
AFolder = Annotated[Path, typer.Argument(help="The campaign's folder.")]
ARGUMENTS = (
    "problem",
    "policy",
    "rounds",
    "steps_per_round",
    "episodes_per_round",
    "known_dynamics",
    "arms",
    "group",
    "today",
    "seed",
    "prob",
    "temperature",
    "penalty_weight",
    "slip",
)
"""Of 'start': the manifest keeps them, and the other commands read them."""


@campaign.command()
def simulate(
    problem: AProblem,
    policy: APolicy = PolicyName.THOMPSON,
    rounds: NumRounds = 20,
    steps_per_round: StepsPerRound = None,
    episodes_per_round: EpisodesPerRound = None,
    campaigns: Annotated[int, typer.Option(min=1, help="Independent campaigns.")] = 1,
    known_dynamics: KnownDynamics = False,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    as_json: Json = False,
) -> None:
    """Let a leader who knows neither rationality, contexts nor dynamics learn from round to round.

    The problem as given is the truth. The prior of the temperature has it as its median, and 95 %
    within a factor of 7.
    """
    import jax

    from cbrl_bayes.campaigns import campaign_table, simulate_campaigns

    begun = time.perf_counter()
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    found = simulate_campaigns(
        chosen,
        key=jax.random.key(seed),
        num_campaigns=campaigns,
        settings=_settings(
            chosen, policy, rounds, steps_per_round, episodes_per_round, known_dynamics, prob
        ),
    )
    if not as_json:
        emit_table(campaign_table(found, prob=prob), as_json=False)
        return
    emit(_numbers(found) | {"seconds": time.perf_counter() - begun}, as_json=True)


@campaign.command()
def start(
    folder: AFolder,
    problem: AProblem,
    policy: APolicy = PolicyName.THOMPSON,
    rounds: NumRounds = 20,
    steps_per_round: StepsPerRound = None,
    episodes_per_round: EpisodesPerRound = None,
    known_dynamics: KnownDynamics = False,
    arms: Arms = 1,
    group: Groups = None,
    today: Annotated[
        str | None,
        typer.Option(help='The incentive in force now, as JSON: {"bonus": 0.5}, or "none".'),
    ] = None,
    data: Annotated[
        Path | None,
        typer.Option(help="Behaviour observed before the first round: .nc, .zarr or .csv."),
    ] = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
) -> None:
    """Begin a real campaign in a folder, and plan its first round."""
    given = dict(locals())
    kept = {name: given[name] for name in ARGUMENTS if given[name] is not None}
    if folder.exists() and any(folder.iterdir()):
        raise typer.BadParameter(
            f"{folder} is not empty; name a new folder, or go on with 'campaign plan {folder}'"
        )
    typer.echo(_opened(folder, kept, data).next_round())


@campaign.command()
def plan(folder: AFolder) -> None:
    """Say what to deploy next."""
    typer.echo(_kept(folder).next_round())


@campaign.command()
def record(
    folder: AFolder,
    data: Annotated[Path, typer.Argument(help="The round's trajectories: .nc, .zarr or .csv.")],
    first: Annotated[
        str | None, typer.Option("--from", help="First day of the round, as 2026-03-01.")
    ] = None,
    last: Annotated[str | None, typer.Option("--until", help="Its last day.")] = None,
    accept_fewer: Annotated[
        bool, typer.Option("--accept-fewer", help="Take fewer episodes than planned.")
    ] = False,
) -> None:
    """Record the data of the planned round, and learn from them."""
    from cbrl_bayes.campaigns import campaign_table
    from cbrl_bayes.campaigns.verdict import surprise_in_words

    if (first is None) != (last is None):
        raise typer.BadParameter("--from and --until go together")
    opened = _kept(folder)
    period = None if first is None or last is None else (first, last)
    found = opened.record_round(_round_data(opened, data), period=period, accept_fewer=accept_fewer)
    emit_table(campaign_table(found), as_json=False)
    for line in surprise_in_words(found, opened.models()):
        typer.echo(line)


@campaign.command()
def status(folder: AFolder, as_json: Json = False) -> None:
    """Say where a campaign is, and what it waits for."""
    emit(_kept(folder).status(), as_json)


@campaign.command()
def report(
    folder: AFolder,
    output: Annotated[
        Path | None,
        typer.Option(
            "--output", "-o", help="A page for decision makers (.html), or a picture (.png)."
        ),
    ] = None,
    as_json: Json = False,
) -> None:
    """Print a campaign round by round; write its page, or draw it."""
    from cbrl_bayes.campaigns import campaign_table

    if output is not None and output.suffix not in (".html", ".png"):
        raise typer.BadParameter(f"--output {output} is no .html and no .png")
    opened = _kept(folder)
    found = opened.record()
    emit_table(campaign_table(found), as_json)
    if output is None:
        return
    if output.suffix == ".html":
        from cbrl_bayes.reports import campaign_report

        campaign_report(opened, output)
    else:
        from cbrl_bayes.plots import plot_campaign

        plot_campaign(found).savefig(output, dpi=130)
    errors.print(f"written: {output}", markup=False)


def _round_data(campaign: "Campaign", path: Path) -> "xr.Dataset":
    """Read a round's file; a table without columns of incentives has those that were planned."""
    from cbrl_bayes.behaviour import load_trajectories
    from cbrl_bayes.behaviour.loaders import states_incentives

    problem, plan = campaign.engine.problem, campaign.waiting_plan()
    table = path.suffix == ".csv" and path.is_file()
    if plan is None or not table or states_incentives(path, problem):
        return load_trajectories(path, problem)
    return load_trajectories(path, problem, incentives=plan.incentives)


def _kept(folder: Path) -> "Campaign":
    """Open the campaign that 'start' began."""
    from cbrl_bayes.campaigns import CampaignFolder
    from cbrl_bayes.errors import InvalidInputError

    manifest = CampaignFolder(folder).manifest()
    if not isinstance(manifest.get("note"), dict) or "command" not in manifest["note"]:
        raise InvalidInputError(
            f"the campaign in {folder} was begun in Python",
            accepted="one begun by 'cbrl-bayes campaign start'",
            remedy="cb.open_campaign(folder, problem, key=..., settings=...)",
        )
    return _opened(folder, manifest["note"]["command"])


def _opened(folder: Path, given: dict[str, Any], data: Path | None = None) -> "Campaign":
    """Begin a campaign, or open it, with the arguments of 'start'."""
    import jax

    from cbrl_bayes.behaviour import load_trajectories
    from cbrl_bayes.campaigns import open_campaign

    chosen = chosen_problem(
        given["problem"], given.get("temperature"), given.get("penalty_weight"), given.get("slip")
    )
    settings = _settings(
        chosen,
        PolicyName(given["policy"]),
        given["rounds"],
        given.get("steps_per_round"),
        given.get("episodes_per_round"),
        given["known_dynamics"],
        given["prob"],
        given.get("arms", 1),
        tuple(given.get("group") or ()),
    )
    return open_campaign(
        folder,
        chosen,
        key=jax.random.key(given["seed"]),
        settings=settings,
        today=_incentive(given.get("today")),
        earlier=None if data is None else load_trajectories(data, chosen),
        note={"command": given},
    )


def _incentive(text: str | None) -> Any:
    if text is None or text == "none":
        return None if text is None else "no incentive"
    try:
        found = json.loads(text)
    except ValueError:
        found = None
    if not isinstance(found, dict):
        raise typer.BadParameter(f'--today {text} is not like {{"bonus": 0.5}} and not "none"')
    return found


def _numbers(found: Any) -> dict[str, Any]:
    """Return the numbers of one campaign, or lists of those of several."""
    num = found.sizes["campaign"]
    rows: list[dict[str, Any]] = []
    for number in range(num):
        one = found.isel(campaign=number)
        last = int(one["rounds"]) - 1
        done = one.isel(round=slice(0, last + 1))
        rows.append(
            {
                "leader_objective": float(done["true_objective"][last].mean()),
                "cumulative_regret": float(done["cumulative_regret"][last]),
                "rounds": last + 1,
                "follower_steps": int(done["follower_steps"].sum()),
                "stopped_because": str(one["stopped_because"].values),
                "optimum": float(one["optimum"]),
                "predicted_objective": float(
                    done["predicted"].isel(round=last).sel(band="mean").mean()
                ),
                "predicted_interval": [
                    float(done["predicted"].isel(round=last).sel(band=band).mean())
                    for band in ("low", "high")
                ],
                "surprise_round": int(one["fired"]),
                "seconds_per_round": float(done["seconds"].median()),
            }
        )
    together = rows[0] if num == 1 else {name: [row[name] for row in rows] for name in rows[0]}
    return together | {"objective_unit": str(found.attrs["objective_unit"])}


def _settings(
    problem: "Problem",
    policy: PolicyName,
    rounds: int,
    steps: int | None,
    episodes: int | None,
    known_dynamics: bool,
    prob: float,
    arms: int = 1,
    groups: tuple[str, ...] = (),
) -> "CampaignSettings":
    """Return settings that suit the problem's size."""
    from cbrl_bayes.campaigns import POLICIES, CampaignSettings, Thompson, suitable_settings

    if arms > 1 and policy is not PolicyName.THOMPSON:
        raise typer.BadParameter(f"--arms {arms} goes with --policy thompson")
    return suitable_settings(
        problem,
        CampaignSettings(
            policy=Thompson(arms) if policy is PolicyName.THOMPSON else POLICIES[policy](),
            groups=groups,
            num_rounds=rounds,
            steps_per_round=steps,
            episodes_per_round=episodes,
            prob=prob,
        ),
        known_dynamics=known_dynamics,
    )
