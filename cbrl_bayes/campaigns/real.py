"""A real campaign: what to deploy next is planned, its data are recorded, in a folder."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import jax
import numpy as np
import xarray as xr
from jaxtyping import Array, Key

from cbrl_bayes.campaigns.assignment import arms_of_regimes, by_arm, watch_of_regime
from cbrl_bayes.campaigns.desk import Outcomes
from cbrl_bayes.campaigns.engine import Engine, Plan, State, restored_state, state_arrays
from cbrl_bayes.campaigns.folder import CampaignFolder, as_arrays, as_dataset
from cbrl_bayes.campaigns.recorded import check_new, checked_period, read_round
from cbrl_bayes.campaigns.rivals import Rivals
from cbrl_bayes.campaigns.round_plan import RoundPlan
from cbrl_bayes.campaigns.rules import NetValue
from cbrl_bayes.campaigns.settings import CampaignSettings
from cbrl_bayes.campaigns.simulation import Ledger, bands
from cbrl_bayes.campaigns.study import answers_before, point_of
from cbrl_bayes.campaigns.tables import comparison_dataset, plan_dataset, recorded_dataset
from cbrl_bayes.errors import InvalidInputError, ResultsError, require_key, require_kind
from cbrl_bayes.inference import Prior
from cbrl_bayes.problems import Problem
from cbrl_bayes.results import fingerprint, identify
from cbrl_bayes.results.provenance import describe


@dataclass
class Campaign:
    """A campaign in a folder; from `open_campaign`."""

    folder: CampaignFolder
    engine: Engine
    key: Array
    others: Mapping[str, Problem] | None = None
    _read: dict[str, tuple[int, Any]] = field(init=False, repr=False, default_factory=dict)
    """The last plan and the last state, by the number of their round."""

    def next_round(self) -> RoundPlan:
        """Plan the next round, or return the plan that waits for its data.

        Returns
        -------
        RoundPlan

        Raises
        ------
        InvalidInputError
            If all rounds are done, or the stopping rule ended the campaign.
        """
        rounds = self.folder.manifest()["rounds"]
        if rounds and "data" not in rounds[-1]:
            return self._told(len(rounds), self._planned(len(rounds)))
        done = len(rounds)
        self._refuse_ended(rounds)
        state = self._state(done)
        plan = self.engine.plan(state, jax.random.fold_in(self.key, 2 * done))
        draws = as_dataset(plan.draws)
        numbers: dict[str, Any] = {"regret": plan.regret, "stop": float(plan.stop)}
        if plan.net is not None:
            numbers |= plan.net._asdict()
        arrays = {"points": plan.points, **{n: np.asarray(v) for n, v in numbers.items()}}
        told = self._told(done + 1, plan)
        store = xr.DataTree.from_dict(
            {
                "/": plan_dataset(self.engine.problem, told),
                "/planned": as_dataset(arrays | plan.outcomes._asdict()),
                "/draws": draws,
            }
        )
        store.attrs = {"broken": list(plan.broken), "regimes": list(told.incentives)}
        entry = {"regimes": list(told.incentives), "planned": _now(), "stop": plan.stop}
        self.folder.add(done + 1, {"plan": store}, entry)
        return told

    def waiting_plan(self) -> RoundPlan | None:
        """Return the plan that waits for its data, if one does; plan nothing."""
        rounds = self.folder.manifest()["rounds"]
        return self.next_round() if rounds and "data" not in rounds[-1] else None

    def record_round(
        self, data: xr.Dataset, *, period: tuple[str, str] | None = None, accept_fewer: bool = False
    ) -> xr.Dataset:
        """Record the data of the round that is planned, and learn from them.

        Parameters
        ----------
        data : xarray.Dataset
            Trajectories whose regimes have the plan's names. Incentives may be stated; they must
            then be the planned ones.
        period : tuple of str, optional
            First and last day of the round, as "2026-03-01". Rounds must not overlap.
        accept_fewer : bool
            Take fewer episodes than planned.

        Returns
        -------
        xarray.Dataset
            The campaign so far (`record`).

        Raises
        ------
        DataError
            For data that do not fit the plan: nothing is then recorded.
        InvalidInputError
            If no plan waits for data.
        """
        require_kind(data, xr.Dataset, "data", "data = cb.load_trajectories(path)")
        rounds = self.folder.manifest()["rounds"]
        if not rounds or "data" in rounds[-1]:
            raise InvalidInputError(
                "no planned round waits for data",
                received=f"{len(rounds)} rounds planned and recorded",
                remedy="next_round(), or 'campaign plan'",
            )
        number = len(rounds)
        digest = fingerprint(self.engine.problem, data)
        check_new(rounds, digest)
        days = checked_period(rounds, period)
        state, plan = self._state(number - 1), self._planned(number)
        told, arms = self._told(number, plan), self._arms(number, plan)
        believed = {
            name: plan.draws[name].mean(0) for name in self.engine.problem.default_parameters
        }
        found = read_round(
            self.engine.problem,
            data,
            told.incentives,
            plan.points[list(arms.values())],
            watch_of_regime(self.engine.watch, arms),
            accept_fewer=accept_fewer,
            parameters=believed,
        )
        found = by_arm(found, arms)
        answers = [one.answer for one in found]
        after, check = self.engine.absorb(
            state,
            plan,
            answers,
            jax.random.fold_in(self.key, 2 * number - 1),
            episodes=[(one.episodes, one.most) for one in found],
        )
        ledger = Ledger(self.engine)
        ledger.add(after, plan, answers, check, np.full(len(answers), np.nan), 0.0)
        parts = {
            "/": recorded_dataset(self.engine, [ledger.rows[0]]),
            "/row": as_dataset(ledger.rows[0]),
            "/state": as_dataset(state_arrays(after)),
            "/belief": as_dataset(after.belief.arrays()),
        }
        if after.evidence.p_value <= self.engine.settings.false_alarm and self._rivals.possible:
            told_apart = self._rivals.compare(
                after, jax.random.fold_in(self.key, 3_000_000 + number)
            )
            parts["/models"] = comparison_dataset(self.engine, told_apart)
        store = xr.DataTree.from_dict(parts)
        stores = {"data": xr.DataTree(data), "round": store}
        entry = {"recorded": _now(), "digest": digest, **({"period": days} if days else {})}
        self.folder.add(number, stores, entry)
        return self.record()

    def record(self) -> xr.Dataset:
        """Return the campaign so far, as `simulate_campaigns` does, without what only truth tells.

        Raises
        ------
        ResultsError
            If no round is recorded yet, or a store is missing or damaged.
        """
        rounds = self.folder.manifest()["rounds"]
        done = [number for number, entry in enumerate(rounds, 1) if "data" in entry]
        if not done:
            raise ResultsError(
                "no round of the campaign is recorded yet",
                received=f"{len(rounds)} planned, none recorded",
                remedy="record a round's data first: record_round, or cbrl-bayes campaign record",
            )
        rows = [as_arrays(self.folder.read(n, "round")["row"].to_dataset()) for n in done]
        found = recorded_dataset(self.engine, rows)
        return found.assign_attrs(created=rounds[done[-1] - 1]["recorded"])

    def models(self) -> xr.Dataset | None:
        """Return how models of the follower compared when the surprise check had fired.

        Returns
        -------
        xarray.Dataset or None
            Of the last recorded round: per ``model`` its ``log_evidence`` and ``probability``
            (all equally likely before); ``objective`` (designed_for, under): each model's common
            design under every model, and ``last``: the design deployed last. ``no model``: choices
            have frequencies of their own. None where the check has not fired, or the dynamics are
            unknown, so that there is no evidence to compare.
        """
        done = sum("data" in entry for entry in self.folder.manifest()["rounds"])
        tree = self.folder.read(done, "round") if done else None
        models = None if tree is None else tree.children.get("models")
        return None if models is None else models.to_dataset(inherit=False)

    def status(self) -> dict[str, Any]:
        """Return where the campaign is: rounds recorded, and what waits."""
        manifest = self.folder.manifest()
        rounds = manifest["rounds"]
        done = sum("data" in entry for entry in rounds)
        before = self.folder.earlier()
        waits = "a plan"
        if rounds and "data" not in rounds[-1]:
            waits = f"data of {', '.join(rounds[-1]['regimes'])}"
        elif done >= self.engine.settings.num_rounds:
            waits = "nothing: all rounds were done"
        elif rounds and rounds[-1]["stop"]:
            waits = "nothing: one more round was worth less than its cost"
        return {
            "problem": manifest["problem"],
            "rounds_recorded": done,
            "rounds_at_most": self.engine.settings.num_rounds,
            "waits_for": waits,
            **({} if before is None else {"episodes_before": before.sizes["episode"]}),
        }

    def _refuse_ended(self, rounds: list[dict[str, Any]]) -> None:
        most = self.engine.settings.num_rounds
        if len(rounds) >= most:
            raise InvalidInputError("all rounds of the campaign are done", received=f"{most}")
        if rounds and rounds[-1]["stop"]:
            raise InvalidInputError(
                "the stopping rule has ended the campaign",
                received=f"round {len(rounds)}",
                remedy="keep the design of the last round",
            )

    def _state(self, done: int) -> State:
        """Return the state after so many rounds."""
        number, state = self._read.get("state", (-1, None))
        if number == done:
            return state
        if done:
            tree = self.folder.read(done, "round")
            belief = self.engine.programs.restored(as_arrays(tree["belief"].to_dataset()))
            state = restored_state(belief, as_arrays(tree["state"].to_dataset()))
        else:
            state = self.engine.begin(jax.random.fold_in(self.key, 1_000_000))
        self._read["state"] = done, state
        return state

    def _planned(self, number: int) -> Plan:
        """Return the plan of round ``number`` as it was made."""
        known, plan = self._read.get("plan", (0, None))
        if known == number:
            return plan
        tree = self.folder.read(number, "plan")
        kept = as_arrays(tree["planned"].to_dataset())
        net = None
        if "net" in kept:
            net = NetValue(*(float(kept[name]) for name in NetValue._fields))
        plan = Plan(
            points=kept["points"],
            outcomes=Outcomes(*(kept[name] for name in Outcomes._fields)),
            draws=as_arrays(tree["draws"].to_dataset()),
            regret=float(kept["regret"]),
            broken=tuple(tree.attrs["broken"]),
            net=net,
            stop=bool(kept["stop"]),
        )
        self._read["plan"] = number, plan
        return plan

    def _told(self, number: int, plan: Plan) -> RoundPlan:
        arms, settings = len(plan.points), self.engine.settings
        regimes = self._arms(number, plan)
        watch = watch_of_regime(self.engine.watch, regimes)
        found = bands(plan.outcomes.objective, settings.prob)
        predicted, today = found[:arms].mean(0).tolist(), found[arms].tolist()
        over = plan.outcomes.objective[:arms].mean(0) - plan.outcomes.objective[arms]
        gain = bands(over[None], settings.prob)[0].tolist()
        return RoundPlan(
            number=number,
            incentives={
                name: self.engine.desk.incentive(plan.points[arm]) for name, arm in regimes.items()
            },
            num_episodes=watch.num_episodes,
            num_steps=watch.num_steps,
            predicted=(predicted[0], predicted[1], predicted[2]),
            today=(today[0], today[1], today[2]),
            gain=(gain[0], gain[1], gain[2]),
            better=float((over > 0.0).mean()),
            unsolved=int(plan.outcomes.unsolved.sum()),
            objective_unit=self.engine.problem.objective_unit,
            prob=settings.prob,
            expected_regret=plan.regret,
            broken=plan.broken,
            net=plan.net,
            stop=plan.stop,
        )

    def _arms(self, number: int, plan: Plan) -> dict[str, int]:
        """Return the regimes of a round, and the arm of each."""
        key = jax.random.fold_in(self.key, 2_000_000 + number)
        return arms_of_regimes(number, len(plan.points), self.engine.settings.groups, key)

    def check_others(self) -> None:
        """Raise where another model of the follower cannot be one; not only once it is needed."""
        if self.others is not None:
            assert self._rivals

    @cached_property
    def _rivals(self) -> Rivals:
        return Rivals(self.engine, self.others)


def open_campaign(
    folder: str | Path,
    problem: Problem,
    *,
    key: Key[Array, ""],
    settings: CampaignSettings | None = None,
    priors: Mapping[str, Prior | Any] | None = None,
    today: Mapping[str, Any] | str | None = None,
    earlier: xr.Dataset | None = None,
    note: Mapping[str, Any] | None = None,
    others: Mapping[str, Problem] | None = None,
) -> Campaign:
    """Begin a campaign in a folder, or open the one that is there.

    The folder remembers a digest of the arguments, not the arguments: they are given again
    whenever it is opened, and must be the same.

    Parameters
    ----------
    folder : str or Path
        Empty, absent, or a campaign of the same arguments.
    problem : Problem
        With listed contexts.
    key : typed key
        For all rounds.
    settings : CampaignSettings, optional
    priors : mapping, optional
        As in `infer`; draws of an earlier study are no prior, its data are ``earlier``.
    today : mapping or "no incentive", optional
        The incentive in force before. Default: the incentive space's own start.
    earlier : xarray.Dataset, optional
        Behaviour observed before the first round, with its incentives: the campaign begins with
        what it teaches. The folder keeps it, so that it need not be given again.
    note : mapping, optional
        Anything to keep in the manifest of a new campaign; as JSON holds it.
    others : mapping, optional
        Name -> problem that differs in how followers respond: what the model is compared with
        when the surprise check fires (`Campaign.models`). Default: lapsing followers and, where
        they plan ahead, myopic ones (`problems.follower_models`). May change from call to call.

    Returns
    -------
    Campaign
        With ``next_round()``, ``record_round(data)``, ``record()`` and ``status()``.

    Raises
    ------
    ResultsError
        If the folder holds something else, or a campaign of other arguments (they are named).

    Examples
    --------
    >>> import tempfile, jax, cbrl_bayes as cb
    >>> place = Path(tempfile.mkdtemp()) / "bonus"
    >>> campaign = open_campaign(place, cb.problems.two_state(), key=jax.random.key(0))
    >>> campaign.status()["waits_for"]
    'a plan'
    """
    settings = CampaignSettings() if settings is None else settings
    require_key(key)
    require_kind(folder, str | Path, "folder", "'bonus_campaign'")
    require_kind(settings, CampaignSettings, "settings", "cb.CampaignSettings(...)")
    engine = Engine(problem, settings, priors, point_of(problem, today))
    place = CampaignFolder(Path(folder))
    kept = place.manifest() if place.exists else {}
    if not any("data" in entry for entry in kept.get("rounds", ())):  # else beliefs hold them
        before = place.earlier() if earlier is None and kept else earlier
        engine.answers_before = answers_before(engine, before)
    engine.key_before = jax.random.fold_in(key, 1_000_000)
    parts = identify(None, settings=settings, priors=engine.priors, today=engine.today, key=key)
    if earlier is not None:
        parts["earlier"] = fingerprint(problem, earlier)
    elif "earlier" in kept.get("identity", ()):
        parts["earlier"] = kept["identity"]["earlier"]
    del parts["versions"]  # a campaign outlives them
    identity = {"problem": fingerprint(problem), **parts}
    campaign = Campaign(place, engine, key, others)
    campaign.check_others()
    if not kept:
        place.begin(
            {
                "problem": problem.name,
                "created": _now(),
                "identity": identity,
                "settings": describe(settings),
                "seed": np.asarray(jax.random.key_data(key)).tolist(),
                **({} if note is None else {"note": dict(note)}),
            },
            earlier,
        )
        return campaign
    known = kept["identity"]
    differ = [name for name in known | identity if known.get(name) != identity.get(name)]
    if differ:
        raise ResultsError(
            f"the campaign in {place.path} was begun with other arguments",
            received=f"different {', '.join(differ)}",
            remedy="the arguments of the first call, or another folder",
        )
    return campaign


def _now() -> str:
    return datetime.now(UTC).isoformat(timespec="seconds")
