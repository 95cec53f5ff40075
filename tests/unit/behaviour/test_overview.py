"""What was read on one page, and data sets put together."""

import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.errors import DataError
from cbrl_bayes.problems import contract_design, two_state


def part(regime, bonus, actions=((1, 0), (0,)), **more):
    states = [[0, 1][: len(row)] for row in actions]
    return cb.make_trajectories(
        states,
        actions,
        regime=[regime] * len(actions),
        incentives=None if bonus is None else {regime: {"bonus": bonus}},
        **more,
    )


def test_the_report_counts():
    data = part("pilot", 0.4, context=["cost 0.5", ""], choice_observed=[[True, False], [True]])
    found = cb.data_report(data, two_state())
    assert (found.num_followers, found.num_episodes, found.num_steps) == (2, 2, 3)
    assert found.steps_per_episode == (1, 2, 2)
    assert found.episodes_by_context == {"": 1, "cost 0.5": 1}
    assert found.incentives == {"pilot": "bonus 0.4"}
    assert found.actions == {"decline": 2, "work": 1}
    assert found.num_unscored == 1
    assert found.never_visited == ()
    assert "(not observed): 1 episode," in str(found)


def test_the_report_tells_what_never_occurs():
    problem = contract_design()
    data = cb.make_trajectories([[0]], [[0]], context=[problem.contexts.names[0]])
    found = cb.data_report(data, problem)
    assert found.never_chosen == ("effort 0", "effort 1")
    assert len(found.never_visited) == problem.num_states - 1
    assert "no incentive (none is stated)" in str(found)
    plain = cb.data_report(data)
    assert plain.never_visited is None
    assert plain.actions == {"action 0": 1}


def test_regimes_are_put_together():
    joined = cb.concatenate(
        [part("low", 0.4), part("high", 1.2, actions=((1,),)), part("low", 0.4)]
    )
    cb.check_trajectories(joined, two_state())
    assert joined.regime.values.tolist() == ["low", "low", "high", "low", "low"]
    assert joined.regime_name.values.tolist() == ["low", "high"]
    assert joined.incentive_bonus.values.tolist() == [0.4, 1.2]
    assert joined.state.values[2].tolist() == [0, -1]


def test_what_some_parts_lack():
    recorded = part("low", 0.4, successor_slot=[[0, -1], [-1]], choice_observed=[[1, 0], [1]])
    joined = cb.concatenate([recorded, part("low", 0.4)])
    assert joined.successor_slot.values[2:].max() == -1
    assert joined.choice_observed.values.tolist()[:2] == [[True, False], [True, False]]
    assert joined.choice_observed.values[2].all()
    numbers = part("low", 0.4).assign(context_value=("episode", np.array([0.5, 1.5])))
    with pytest.raises(DataError, match="only some data sets have numbers as contexts"):
        cb.concatenate([numbers, part("low", 0.4)])
    noted = numbers.assign_attrs(notes='["steps have gaps (1)"]')
    both = cb.concatenate([noted, numbers, noted])
    assert cb.data_report(both).notes == ("steps have gaps (1)",)
    both = cb.concatenate([numbers, numbers])
    assert both.context_value.values.tolist() == [0.5, 1.5, 0.5, 1.5]


def test_one_regime_has_one_incentive():
    with pytest.raises(DataError, match=r"'low' has two incentives; received: bonus = 0.4 and"):
        cb.concatenate([part("low", 0.4), part("low", 0.5)])
    with pytest.raises(DataError, match="stated in one data set and not in another"):
        cb.concatenate([part("baseline", 0.4), part("baseline", None)])
    plain = cb.concatenate([part("baseline", None), part("baseline", None)])
    cb.check_trajectories(plain, two_state())
    nothing = cb.with_incentives(part("low", 0.4), {"low": {}})
    assert cb.concatenate([nothing, part("low", 0.0)]).sizes["episode"] == 4
    share = np.array([0.0, 0.0])  # what a part leaves out is 0
    more = cb.with_incentives(part("low", 0.4), {"low": {"bonus": 0.4, "share": share}})
    joined = cb.concatenate([part("low", 0.4), more])
    assert joined.incentive_bonus.values.tolist() == [0.4]
    with pytest.raises(DataError, match="no data sets"):
        cb.concatenate([])


def test_one_of_a_kind_is_in_the_singular():
    data = cb.make_trajectories([[0]], [[1]], context=["cost 0.5"])
    text = str(cb.data_report(data, two_state()))
    assert "cost 0.5: 1 episode\n" in text
    assert "baseline: 1 episode, no incentive" in text
    assert "work: 1 time\n" in text
    assert "1 episodes" not in text
