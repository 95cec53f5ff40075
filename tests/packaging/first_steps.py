"""The first steps of a user who installed the wheel: run by `make package` in an empty environment.

    python tests/packaging/first_steps.py FOLDER

Nothing of the checkout may be used: the package comes from the environment, with no extra.
"""

import subprocess
import sys
from pathlib import Path

import jax

import cbrl_bayes as cb


def main(folder: Path) -> None:
    """Infer, design, save, load, report; then the same file on the command line."""
    assert Path(sys.prefix) in Path(cb.__file__).parents, cb.__file__
    problem = cb.problems.two_state()
    data = cb.simulate_trajectories(problem, key=jax.random.key(0), num_episodes=50, num_steps=10)
    fit = cb.infer(problem, data, key=jax.random.key(1))
    study = cb.design(problem, fit, key=jax.random.key(2), num_draws=60)
    cb.save(study, folder / "study.nc")
    study = cb.load(folder / "study.nc")
    print(cb.summary(study, prob=0.9))
    cb.report(study, folder / "report.html")
    try:
        cb.followers.DeepQFollower()
        refusal = "none: the extra is installed"
    except cb.errors.InvalidInputError as error:
        refusal = str(error)
    assert "cbrl-bayes[deep]" in refusal, refusal
    command = Path(sys.executable).parent / "cbrl-bayes"
    for words in (
        ["--version"],
        ["summary", "study.nc"],
        ["plot", "study.nc", "--output", "figures"],
    ):
        subprocess.run([command, *words], cwd=folder, check=True)


if __name__ == "__main__":
    main(Path(sys.argv[1]))
