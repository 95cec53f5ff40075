"""Maximum likelihood says so where the likelihood has no maximum."""

import pytest

import cbrl_bayes as cb
from cbrl_bayes.inference import maximum_likelihood
from cbrl_bayes.problems import two_state
from cbrl_bayes.workflow import behaviour_model

WORK, DECLINE = [1], [0]


def found(actions, contexts, bonus=1.0):
    data = cb.make_trajectories(
        [[0]] * len(actions), actions, context=contexts, incentives={"baseline": {"bonus": bonus}}
    )
    return maximum_likelihood(behaviour_model(two_state(), data))


BOTH = ["cost 0.5", "cost 1.5"] * 20


@pytest.mark.parametrize(
    ("actions", "away"),
    [
        ([WORK, DECLINE] * 20, "down"),  # all as pays: the less temperature the better
        ([DECLINE, WORK] * 20, "up"),  # all against what pays
    ],
)
def test_everyone_chose_alike(actions, away):
    answer = found(actions, BOTH)
    assert not answer.converged
    assert len(answer.boundary) == 1
    assert answer.boundary[0].startswith("temperature has no maximum of the likelihood")
    assert (answer.estimates["temperature"] > 0.25) == (away == "up")


def test_a_maximum_inside_has_no_such_sentence():
    answer = found([WORK, DECLINE] * 16 + [DECLINE, WORK] * 4, BOTH)
    assert answer.converged
    assert answer.boundary == ()
    # One in five against a gain of .5 either way: lambda = .5 / log(4).
    assert answer.estimates["temperature"] == pytest.approx(0.5 / 1.3862943611, rel=1e-5)


def test_a_context_that_never_occurs():
    answer = found([WORK] * 30 + [DECLINE] * 10, ["cost 0.5"] * 40)
    assert [text.split()[0] for text in answer.boundary] == ["context_probability"]
