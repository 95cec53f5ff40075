"""How a fit learned an unknown transition law, in words; without JAX, as reading results is."""

import xarray as xr

FEW_VISITS = 10
"""A pair with fewer transitions is reported as resting on the prior."""
WAYS = {
    "watched": "by watching a follower in rounds, apart from the posterior of its parameters",
    "joint": "jointly with the followers' parameters: choices speak of it, too",
    "cut": "by itself (cut): choices do not speak of it, and the followers' parameters are drawn "
    "given each draw of it",
    "cut at the mean": "by itself (cut): choices do not speak of it, and the followers' parameters "
    "are fitted at its mean, so that they are not as uncertain as they should be",
}


def law_notes(tree: xr.DataTree) -> list[str]:
    """Say in words how the transition law was learned; nothing where it was known."""
    if "dynamics" not in tree.children:
        return []
    told = tree["dynamics"].attrs
    notes = [
        f"transition law: learned from {told['transitions']} transitions "
        f"({told['free_probabilities']} free probabilities), {WAYS.get(told['learned'], '')}"
    ]
    if told["seldom_seen"]:
        notes.append(
            f"{told['seldom_seen']} of {told['pairs']} pairs of state and action were seen fewer "
            f"than {FEW_VISITS} times: there the law rests on its prior"
        )
    return notes
