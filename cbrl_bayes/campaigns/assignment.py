"""Who gets which design: named groups, as regions or kinds of customers, shared among arms."""

from collections.abc import Mapping, Sequence

import jax
import numpy as np
from jaxtyping import Array, Key

from cbrl_bayes.campaigns.answers import Answer, Watch
from cbrl_bayes.campaigns.recorded import Recorded


def arms_of_regimes(
    number: int, arms: int, groups: Sequence[str], key: Key[Array, ""]
) -> dict[str, int]:
    """Return the regimes of round ``number`` (from 1), and the arm of each, from 0.

    Named groups have a regime each. They are shared among the arms evenly and at random, anew in
    every round, so that a group's own ways are not taken for those of a design.

    Parameters
    ----------
    number, arms : int
    groups : sequence of str
        None of them: one regime for each arm.
    key : typed key
        Of the round.

    Examples
    --------
    >>> arms_of_regimes(3, 1, (), jax.random.key(0)), arms_of_regimes(3, 2, (), jax.random.key(0))
    ({'round 3': 0}, {'round 3, arm 1': 0, 'round 3, arm 2': 1})
    >>> found = arms_of_regimes(3, 2, ("north", "east", "south", "west"), jax.random.key(0))
    >>> list(found)[0], sorted(found.values())
    ('round 3, north', [0, 0, 1, 1])
    """
    if groups:
        order = np.asarray(jax.random.permutation(key, len(groups)))
        return {f"round {number}, {name}": int(order[k]) % arms for k, name in enumerate(groups)}
    if arms == 1:
        return {f"round {number}": 0}
    return {f"round {number}, arm {arm + 1}": arm for arm in range(arms)}


def watch_of_regime(watch: Watch, arms: Mapping[str, int]) -> Watch:
    """Return how much of each regime is watched: its share of what is watched of an arm."""
    share = len(arms) // (max(arms.values()) + 1)
    steps = max(1, watch.num_steps // share)
    episodes = max(1, watch.num_episodes // share)
    return Watch(min(episodes, steps), steps, min(watch.max_steps, steps))


def by_arm(found: Sequence[Recorded], arms: Mapping[str, int]) -> list[Recorded]:
    """Put the data of regimes with the same design together, arm by arm."""
    together: dict[int, Recorded] = {}
    for one, arm in zip(found, arms.values(), strict=True):
        together[arm] = one if arm not in together else _added(together[arm], one)
    return [together[arm] for arm in sorted(together)]


def _added(one: Recorded, other: Recorded) -> Recorded:
    counts = {
        name: np.asarray(getattr(one.answer, name)) + np.asarray(getattr(other.answer, name))
        for name in Answer._fields
        if name != "point"
    }
    return Recorded(
        one.answer._replace(**counts),
        jax.tree.map(lambda *parts: np.concatenate(parts), one.episodes, other.episodes),
        one.most + other.most,
    )
