"""Write data/four_rooms_behaviour.nc: simulated walkers with known truth."""

from pathlib import Path

from cbrl_bayes.behaviour import save_trajectories
from cbrl_bayes.cli.demo import four_rooms_behaviour

if __name__ == "__main__":
    path = Path(__file__).parent / "four_rooms_behaviour.nc"
    print(save_trajectories(four_rooms_behaviour(), path))
