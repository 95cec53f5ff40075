"""Draws sharded over several devices: the numbers of threads, up to rounding."""

import jax
import numpy as np
import pytest

import cbrl_bayes as cb
from cbrl_bayes.designs import DeviceExecutor, SimulatedEvaluation, evaluate_designs
from cbrl_bayes.designs.running import Running
from cbrl_bayes.errors import InvalidInputError
from cbrl_bayes.followers import OutsideFollower
from cbrl_bayes.problems import two_state
from tests.unit.results.test_checkpoint import NUM_DRAWS, _design, _stamps, _whole_design

DRAWS = {"temperature": np.linspace(0.1, 0.5, 7)}


def _close(found, expected, tolerance=1e-9):
    for node in expected.subtree:
        for name, values in node.data_vars.items():
            other = found[node.path][name]
            if values.dtype.kind == "f":
                np.testing.assert_allclose(
                    other, values, rtol=tolerance, atol=tolerance, err_msg=f"{node.path}/{name}"
                )
            elif "time" not in name:
                np.testing.assert_array_equal(other, values, err_msg=f"{node.path}/{name}")


@pytest.fixture(scope="module")
def devices():
    """Two of the CPU devices that the tests ask for."""
    assert len(jax.devices()) >= 2
    return tuple(jax.devices()[:2])


@pytest.mark.parametrize(("per_device", "side_by_side"), [(16, 1), (2, 1), (2, 2)])
def test_scores_are_those_of_threads(devices, per_device, side_by_side):
    """With more room than draws, with several chunks, and vectorised."""
    problem = two_state()
    points = np.random.default_rng(0).normal(size=(3, 7, 1))
    given = (problem, points, DRAWS)
    executor = DeviceExecutor(devices, per_device, side_by_side)
    found = evaluate_designs(*given, key=jax.random.key(1), run=Running(executor))
    expected = evaluate_designs(*given, key=jax.random.key(1))
    np.testing.assert_allclose(found.objective, expected.objective, rtol=1e-12)
    np.testing.assert_allclose(found.follower_value, expected.follower_value, rtol=1e-12)
    np.testing.assert_array_equal(found.status, expected.status)


def test_simulated_scores_use_the_same_noise(devices):
    evaluation = SimulatedEvaluation(num_replicates=3, num_rollouts=4, max_steps=20)
    given = (two_state(), np.zeros((2, 1)), DRAWS)
    ways = [
        evaluate_designs(
            *given, key=jax.random.key(1), evaluation=evaluation, run=Running(executor)
        )
        for executor in (None, DeviceExecutor(devices, 2))
    ]
    np.testing.assert_allclose(ways[1].objective, ways[0].objective, rtol=1e-12)
    np.testing.assert_allclose(ways[1].standard_error, ways[0].standard_error, rtol=1e-9)


def test_a_study_is_that_of_threads(devices, tmp_path):
    """Its checkpoint, half of which is missing, goes on with the other executor, both ways."""
    expected = _whole_design()
    executor = DeviceExecutor(devices, 2)
    _close(_design(tmp_path, executor=executor), expected)
    for missing, other in ((0, None), (1, executor)):
        before = _stamps(tmp_path)
        for row in range(missing, NUM_DRAWS, 2):
            (tmp_path / "draws" / f"{row}.0").unlink()
        _close(_design(tmp_path, executor=other), expected)
        after = _stamps(tmp_path)
        again = {path.name for path in before if after[path] != before[path]}
        assert again == {f"{row}.0" for row in range(missing, NUM_DRAWS, 2)}


@pytest.mark.parametrize(
    "estimator", [cb.Exact(), cb.HPGD(num_rollouts=4, max_steps=20)], ids=["exact", "hpgd"]
)
@pytest.mark.slow
def test_searches_with_stages_and_restarts_are_those_of_threads(devices, estimator):
    ascent = cb.Ascent(num_steps=6, continuation=(2.0, 1.0), gradient_noise=0.1)
    settings = cb.DesignSettings(
        search=cb.Search(ascent=ascent), per_draw=cb.Search(ascent=ascent, num_starts=3)
    )
    draws = {"temperature": np.array([0.2, 0.3, 0.4])}

    def study(executor):
        return cb.design(
            two_state(),
            draws,
            estimator=estimator,
            key=jax.random.key(2),
            num_draws=3,
            settings=settings,
            executor=executor,
        )

    _close(study(DeviceExecutor(devices, 2)), study(None), tolerance=1e-7)


def test_each_device_holds_its_share(devices):
    """The draws are spread: no device has them all."""
    seen = []

    class Watched(DeviceExecutor):
        def _program(self, one, chosen):
            program, spread = super()._program(one, chosen)

            def watch(items):
                found = program(items)
                leaf = jax.tree.leaves(found)[0]
                seen.append({s.device: s.data.shape[0] for s in leaf.addressable_shards})
                return found

            return watch, spread

    evaluate_designs(
        two_state(),
        np.zeros((1, 1)),
        DRAWS,
        key=jax.random.key(0),
        run=Running(Watched(devices, 2)),
    )
    assert seen == [dict.fromkeys(devices, 2)] * 2


def test_what_cannot_be_one_program_is_refused(devices):
    executor = DeviceExecutor(devices)
    with pytest.raises(InvalidInputError, match="ThreadExecutor or DaskExecutor"):
        list(executor.run(abs, [1]))
    hops = cb.Search(ascent=cb.Ascent(num_steps=2), num_hops=1)
    settings = cb.DesignSettings(search=cb.Search(ascent=cb.Ascent(num_steps=2)), per_draw=hops)
    with pytest.raises(InvalidInputError, match="screening, hops"):
        cb.design(
            two_state(),
            DRAWS,
            key=jax.random.key(0),
            num_draws=7,
            settings=settings,
            executor=executor,
        )
    host = SimulatedEvaluation(oracle=OutsideFollower(lambda *given: None))
    points = np.zeros((2, 1))
    with pytest.raises(InvalidInputError, match="an evaluation outside compiled programs"):
        evaluate_designs(
            two_state(),
            points,
            DRAWS,
            key=jax.random.key(0),
            evaluation=host,
            run=Running(executor),
        )
    with pytest.raises(InvalidInputError, match="score cannot be used outside threads"):
        evaluate_designs(
            two_state(), points, DRAWS, key=jax.random.key(0), score=abs, run=Running(executor)
        )
    with pytest.raises(InvalidInputError, match="settings of the devices"):
        DeviceExecutor(draws_per_device=0)
