"""Write mfglib_beach.json: an entropy-regularised equilibrium found by the package mfglib.

    python -m venv other && other/bin/pip install mfglib
    other/bin/python tests/unit/problems/mfglib_beach.py

mfglib (MIT) looks for Nash equilibria of mean-field games. People on a beach want to be where few
others are (its environment *beach bar*). Its own equilibrium would have no entropy. So each reward
gets ``-temperature log pi(a | s)`` with the population's policy pi: where all play pi, everyone is
then indifferent between all actions if and only if pi is the soft-optimal response to itself.
mfglib works in single precision; this file needs nothing of cbrl_bayes.
"""

import json
from pathlib import Path

import torch
from mfglib.alg import OnlineMirrorDescent
from mfglib.env import Environment
from mfglib.mean_field import mean_field

T, N, BAR, STILL, TEMPERATURE = 3, 5, 3, 0.5, 0.7
NUM_STEPS = 200


def main() -> None:
    """Solve and write."""
    beach = Environment.beach_bar(T=T, n=N, bar_loc=BAR, p_still=STILL)
    plain = beach.reward_fn

    def with_entropy(env: Environment, t: int, joint: torch.Tensor) -> torch.Tensor:
        policy = joint / joint.sum(-1, keepdim=True)
        return plain(env, t, joint) - TEMPERATURE * torch.log(policy + 1e-20)

    beach.reward_fn = with_entropy
    found, scores, _ = OnlineMirrorDescent(0.2).solve(
        beach, max_iter=NUM_STEPS, atol=None, rtol=None
    )
    best = min(range(len(scores)), key=scores.__getitem__)  # single precision: the last drifts
    policy = found[best]
    written = {
        "steps": T + 1,
        "places": N,
        "bar": BAR,
        "still": STILL,
        "temperature": TEMPERATURE,
        "exploitability": scores[best],
        "policy": policy.tolist(),
        "share_by_time_and_place": mean_field(beach, policy).sum(-1).tolist(),
    }
    Path(__file__).with_suffix(".json").write_text(json.dumps(written, indent=1) + "\n")
    print(f"exploitability {scores[0]:.3f} at first, {scores[best]:.2e} at best")


if __name__ == "__main__":
    main()
