"""A real campaign in a folder: two rounds, wrong data, and a process that dies."""

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import numpy as np
import pytest
import xarray as xr
from typer.testing import CliRunner

import cbrl_bayes as cb
from cbrl_bayes.campaigns.answers import Watch
from cbrl_bayes.campaigns.recorded import read_round
from cbrl_bayes.cli.app import app
from cbrl_bayes.errors import DataError, InvalidInputError, ResultsError

KEY = jax.random.key(0)
SETTINGS = cb.CampaignSettings(
    num_rounds=3,
    episodes_per_round=40,
    num_replicates=19,
    planning=cb.PlanningSettings(
        cb.Search(ascent=cb.Ascent(num_steps=40, learning_rate=0.3, num_extensions=0)),
        num_draws=40,
        num_common=8,
    ),
)


def opened(folder, **changes):
    given = {"key": KEY, "settings": SETTINGS, "today": {"bonus": 0.5}} | changes
    return cb.open_campaign(folder, cb.problems.two_state(), **given)


def behaviour(plan, *, num=40, seed=0, regime=None, bonus=None):
    """What followers do under a plan's only arm."""
    ((name, incentive),) = plan.incentives.items()
    return cb.simulate_trajectories(
        cb.problems.two_state(),
        key=jax.random.key(seed),
        num_episodes=num,
        num_steps=2,
        incentive=incentive if bonus is None else {"bonus": bonus},
        regime=name if regime is None else regime,
    )


@pytest.fixture(scope="module")
def one_round(tmp_path_factory):
    """A campaign with one round recorded and the second planned."""
    folder = tmp_path_factory.mktemp("campaign") / "bonus"
    campaign = opened(folder)
    first = behaviour(campaign.next_round())
    campaign.record_round(first, period=("2026-03-01", "2026-03-31"))
    return campaign, first, campaign.next_round()


def test_a_campaign_goes_on_from_its_folder(one_round):
    campaign, _, plan = one_round
    folder = campaign.folder.path
    again = opened(folder)
    assert again.status()["waits_for"] == "data of round 2"
    assert str(again.next_round()) == str(plan)
    state, kept = again._state(1), campaign._state(1)
    assert state.number == 1
    np.testing.assert_array_equal(state.belief.points, kept.belief.points)
    found = again.record()
    assert found.sizes["round"] == 1
    assert "true_objective" not in found
    assert cb.campaign_table(found).frame.index.tolist() == [1]


def test_every_store_opens_in_xarray_alone(one_round):
    campaign, first, plan = one_round
    folder = campaign.folder.path
    manifest = json.loads((folder / "manifest.json").read_text())
    assert [sorted(entry) for entry in manifest["rounds"]] == [
        ["data", "digest", "number", "period", "plan", "planned", "recorded", "regimes", "round",
         "stop"],
        ["number", "plan", "planned", "regimes", "stop"],
    ]  # fmt: skip
    data = xr.open_dataset(folder / manifest["rounds"][0]["data"], engine="zarr")
    assert data["state"].equals(first["state"])
    planned = xr.open_dataset(folder / manifest["rounds"][1]["plan"], engine="zarr")
    assert planned["bonus"].sel(regime="round 2").item() == plan.incentives["round 2"]["bonus"]
    results = xr.open_dataset(folder / manifest["rounds"][0]["round"], engine="zarr")
    assert results["predicted"].dims == ("round", "arm", "band")


def test_a_recorded_round_is_what_a_simulated_one_would_be(one_round):
    """The same behaviour through a file and through the follower gives the same counts."""
    campaign, first, _ = one_round
    problem, watch = campaign.engine.problem, campaign.engine.watch
    plan = campaign._planned(1)
    (found,) = read_round(
        problem, first, campaign._told(1, plan).incentives, plan.points, watch, accept_fewer=False
    )
    bonus = plan.points[0, 0]
    took = first["action"].values[:, 0]
    costs = np.array([0.5, 1.5])
    context = [list(problem.contexts.names).index(n) for n in first["context"].values]
    for index in range(2):
        here = took[np.array(context) == index]
        assert found.answer.choices[index, 0, 0].tolist() == [(here == 0).sum(), (here == 1).sum()]
    assert costs.shape == found.answer.contexts.shape
    assert found.answer.mean == pytest.approx((2.0 - bonus) * took.mean())
    assert (int(found.answer.steps), int(found.answer.ended)) == (80, 40)
    assert found.answer.moves[:, 0, 0].sum() == 40.0  # from offered to settled


WRONG = {
    "another problem": (
        lambda plan, first: cb.simulate_trajectories(
            cb.problems.four_rooms(), key=KEY, num_episodes=40, num_steps=5, regime="round 2"
        ),
        {},
        "incentives that the campaign's problem does not have",
    ),
    "a regime that was not deployed": (
        lambda plan, first: behaviour(plan, seed=1, regime="round 7"),
        {},
        "not those that were deployed in this round; received: round 7; accepted: round 2",
    ),
    "the last round's data again": (lambda plan, first: first, {}, "recorded before"),
    "another incentive": (
        lambda plan, first: behaviour(plan, seed=1, bonus=0.123),
        {},
        "another incentive 'bonus' for regime 'round 2'",
    ),
    "fewer episodes than planned": (
        lambda plan, first: behaviour(plan, seed=1, num=39),
        {},
        "fewer episodes than planned; received: 39; accepted: 40 or more",
    ),
    "days that overlap": (
        lambda plan, first: behaviour(plan, seed=1),
        {"period": ("2026-03-31", "2026-04-30")},
        "overlaps with that of round 1",
    ),
    "days in the wrong order": (
        lambda plan, first: behaviour(plan, seed=1),
        {"period": ("2026-05-31", "2026-05-01")},
        "ends before it begins",
    ),
    "no days": (
        lambda plan, first: behaviour(plan, seed=1),
        {"period": ("2026-05", "soon")},
        "cannot be read",
    ),
    "no contexts": (
        lambda plan, first: behaviour(plan, seed=1).assign(
            context=("episode", np.array([""] * 40))
        ),
        {},
        "contexts were not observed",
    ),
    "an impossible state": (
        lambda plan, first: behaviour(plan, seed=1).pipe(
            lambda data: data.assign(state=data["state"] + 5)
        ),
        {},
        "these trajectories cannot be used",
    ),
}


@pytest.mark.parametrize("fault", WRONG)
def test_wrong_data_leave_the_campaign_as_it_is(one_round, fault):
    campaign, first, plan = one_round
    make, more, said = WRONG[fault]
    before = _files(campaign.folder.path)
    with pytest.raises(DataError) as caught:
        campaign.record_round(make(plan, first), **more)
    assert said in str(caught.value)
    assert _files(campaign.folder.path) == before


def _files(folder):
    return {
        str(path.relative_to(folder)): path.read_bytes()
        for path in sorted(folder.rglob("*"))
        if path.is_file()
    }


def test_fewer_episodes_can_be_accepted_and_rounds_end(one_round, tmp_path):
    settings = replace(SETTINGS, num_rounds=1, num_replicates=0)
    campaign = opened(tmp_path / "short", settings=settings)
    campaign.engine.desk = one_round[0].engine.desk  # compiled
    campaign.engine.programs = one_round[0].engine.programs
    with pytest.raises(InvalidInputError, match="no planned round waits"):
        campaign.record_round(behaviour_of_anything())
    plan = campaign.next_round()
    campaign.record_round(behaviour(plan, num=5), accept_fewer=True)
    assert campaign.status()["waits_for"] == "nothing: all rounds were done"
    with pytest.raises(InvalidInputError, match="all rounds of the campaign are done"):
        campaign.next_round()


def behaviour_of_anything():
    return cb.make_trajectories([[0, 1]], [[1, 0]], context=["cost 0.5"])


def test_other_arguments_are_refused(one_round):
    folder = one_round[0].folder.path
    with pytest.raises(ResultsError, match="different today"):
        opened(folder, today={"bonus": 0.7})
    with pytest.raises(ResultsError, match="different key"):
        opened(folder, key=jax.random.key(9))
    with pytest.raises(ResultsError, match="different problem"):
        cb.open_campaign(
            folder, cb.problems.two_state(benefit=3.0), key=KEY, settings=SETTINGS,
            today={"bonus": 0.5},
        )  # fmt: skip


def test_a_folder_of_other_things_is_left_alone(tmp_path):
    (tmp_path / "letter.txt").write_text("mine")
    with pytest.raises(ResultsError, match="not empty"):
        opened(tmp_path)
    assert (tmp_path / "letter.txt").read_text() == "mine"


@pytest.mark.slow
def test_a_store_that_the_manifest_does_not_name_does_not_count(one_round, tmp_path):
    """As after a process that died between the stores and the manifest."""
    import shutil

    campaign, _, plan = one_round
    folder = tmp_path / "copy"
    shutil.copytree(campaign.folder.path, folder)
    before = (folder / "manifest.json").read_bytes()
    dead = opened(folder)
    dead.engine = campaign.engine  # compiled
    dead.record_round(behaviour(plan, seed=3))
    (folder / "manifest.json").write_bytes(before)
    (folder / ".partial-of-the-dead").mkdir()
    again = opened(folder)
    again.engine = campaign.engine
    assert again.status()["rounds_recorded"] == 1
    found = again.record_round(behaviour(plan, seed=4))
    assert found.sizes["round"] == 2
    assert opened(folder).status()["rounds_recorded"] == 2


@pytest.mark.slow
def test_several_arms_share_a_round(tmp_path):
    settings = cb.CampaignSettings(
        policy=cb.Thompson(num_arms=2), num_rounds=2, episodes_per_round=40, num_replicates=19,
        planning=SETTINGS.planning,
    )  # fmt: skip
    campaign = opened(tmp_path / "arms", settings=settings)
    plan = campaign.next_round()
    assert list(plan.incentives) == ["round 1, arm 1", "round 1, arm 2"]
    assert plan.num_episodes == 20
    problem = cb.problems.two_state()
    parts = [
        cb.simulate_trajectories(
            problem, key=jax.random.key(n), num_episodes=20, num_steps=2, incentive=x, regime=name
        )
        for n, (name, x) in enumerate(plan.incentives.items())
    ]
    found = campaign.record_round(cb.concatenate(parts))
    assert found["realised"].shape == (1, 2)


@pytest.mark.slow
def test_unknown_dynamics_go_through_a_folder(tmp_path):
    settings = cb.CampaignSettings(
        num_rounds=2, episodes_per_round=40, num_replicates=19, planning=SETTINGS.planning,
        dynamics=cb.DynamicsSettings(num_laws=4, num_recent=2),
    )  # fmt: skip
    campaign = opened(tmp_path / "dynamics", settings=settings)
    campaign.record_round(behaviour(campaign.next_round()))
    state = opened(tmp_path / "dynamics", settings=settings)._state(1)
    assert state.belief.counts.sum() == 40.0
    assert len(state.belief.recent) == 1
    assert campaign.next_round().number == 2


def test_cut_episodes_and_watches_by_steps():
    problem = cb.problems.two_state()
    data = cb.make_trajectories(
        [[0, 1], [0]], [[1, 0], [0]], context=["cost 0.5", "cost 1.5"], regime=["round 1"] * 2
    )
    point = np.array([[0.7]])
    regimes = {"round 1": {"bonus": np.array(0.7)}}
    (found,) = read_round(problem, data, regimes, point, Watch(9, 3, 2), accept_fewer=False)
    assert (int(found.answer.steps), int(found.answer.ended)) == (3, 1)  # the second was cut
    assert found.episodes.limit.tolist() == [2, 1]
    assert found.answer.moves.sum() == 1.0
    with pytest.raises(DataError, match="fewer steps than planned"):
        read_round(problem, data, regimes, point, Watch(9, 4, 2), accept_fewer=False)


def test_the_command_line_says_what_it_cannot_do(one_round, tmp_path):
    run = CliRunner().invoke
    done = run(app, ["campaign", "plan", str(one_round[0].folder.path)])
    assert "was begun in Python" in str(done.exception)
    done = run(app, ["campaign", "status", str(tmp_path / "nothing")])
    assert "holds no campaign" in str(done.exception)
    bad = ["campaign", "start", str(tmp_path / "new"), "two_state", "--today", "[1]"]
    assert run(app, bad).exit_code == 2
    arms = ["campaign", "start", str(tmp_path / "new"), "two_state", "--policy", "greedy"]
    assert run(app, [*arms, "--arms", "2"]).exit_code == 2
    other = ["campaign", "report", str(one_round[0].folder.path), "--output", "x.pdf"]
    assert run(app, other).exit_code == 2
    half = ["campaign", "record", str(one_round[0].folder.path), "x.nc", "--from", "2026-03-01"]
    assert run(app, half).exit_code == 2


@pytest.mark.slow
def test_the_command_line_runs_a_campaign(tmp_path):
    folder, run = tmp_path / "bonus", CliRunner().invoke
    start = ["campaign", "start", str(folder), "two_state", "--rounds", "2"]
    done = run(app, [*start, "--episodes-per-round", "30", "--today", '{"bonus": 0.5}'])
    assert done.exit_code == 0, done.output
    assert "round 1: bonus" in done.output
    campaign = _as_started(folder)
    path = tmp_path / "march.nc"
    cb.save_trajectories(behaviour(campaign.next_round(), num=30), path)
    days = ["--from", "2026-03-01", "--until", "2026-03-31"]
    done = run(app, ["campaign", "record", str(folder), str(path), *days])
    assert done.exit_code == 0, done.output
    assert "evidence" in done.output
    assert run(app, ["campaign", "plan", str(folder)]).output.startswith("round 2")
    told = json.loads(run(app, ["campaign", "status", str(folder), "--json"]).output)
    assert told["waits_for"] == "data of round 2"
    picture = tmp_path / "campaign.png"
    done = run(app, ["campaign", "report", str(folder), "--output", str(picture)])
    assert done.exit_code == 0, done.output
    assert picture.stat().st_size > 10_000
    page = tmp_path / "campaign.html"
    done = run(app, ["campaign", "report", str(folder), "--output", str(page)])
    assert done.exit_code == 0, done.output
    assert "Go on: in round 2 deploy bonus" in page.read_text()


def _as_started(folder):
    from cbrl_bayes.cli.campaign import _kept

    return _kept(folder)


DYING = """
import sys
import time
import jax
from cbrl_bayes.campaigns import folder as folders
from tests.unit.campaigns.test_real import behaviour, opened

place, moment = sys.argv[1:]
campaign = opened(place)
plan = campaign.next_round()
data = behaviour(plan, seed=1)
print("ready", flush=True)


def slow(*_, **__):
    print("wait", flush=True)
    time.sleep(60)


if moment == "manifest":
    folders.CampaignFolder._write_manifest = slow
if moment == "store":
    folders.CampaignFolder._write_store = slow
if moment == "learning":
    campaign.engine.absorb = slow
campaign.record_round(data)
"""


@pytest.mark.slow
@pytest.mark.parametrize("moment", ["learning", "store", "manifest"])
def test_a_record_that_is_killed_leaves_the_campaign_whole(one_round, tmp_path, moment):
    import shutil

    campaign, _, plan = one_round
    folder = tmp_path / "copy"
    shutil.copytree(campaign.folder.path, folder)
    process = subprocess.Popen(
        [sys.executable, "-c", DYING, str(folder), moment],
        stdout=subprocess.PIPE, text=True, env=os.environ | {"PYTHONPATH": os.getcwd()},
    )  # fmt: skip
    with process:  # closes the pipe
        assert process.stdout.readline().strip() == "ready"
        assert process.stdout.readline().strip() == "wait"
        time.sleep(0.1)
        process.send_signal(signal.SIGKILL)
    again = opened(folder)
    assert again.status()["rounds_recorded"] == 1
    assert str(again.next_round()) == str(plan)
    found = again.record_round(behaviour(plan, seed=1))
    # The same as if nobody had died.
    straight = tmp_path / "straight"
    shutil.copytree(campaign.folder.path, straight)
    assert found.equals(opened(straight).record_round(behaviour(plan, seed=1)))
