"""Write data/sorting_pilot.csv: a made-up pilot of a recycling bonus, as untidy as such files are.

90 households say each week whether they sorted their waste. From week 9 on, half of them get 0.40
euro for every week in which they do. Households look ahead and choose with noise (soft-optimal
with temperature lambda). The truth per dwelling is `TRUTH`; the tutorial must find it again.
"""

from pathlib import Path

import numpy as np
import pandas as pd

WEEKS, PILOT_FROM, BONUS = 16, 9, 0.40
DISCOUNT, HABIT_RELIEF = 0.9, 0.4
TRUTH = {
    "flat": {"households": 54, "effort": 0.80, "temperature": 0.35},
    "house": {"households": 36, "effort": 0.55, "temperature": 0.25},
}
"""Effort and temperature in euro per week."""
SPELLINGS = {
    "flat": ("flat", "Flat", "FLAT ", "apartment"),
    "house": ("house", "House", " house"),
    True: ("yes", "Yes", "y", "1"),
    False: ("no", "No", "n", "0"),
}


def chance_of_sorting(effort: float, temperature: float, bonus: float) -> np.ndarray:
    """Return P(sort) in the states (mixed, sorted last week), by 2,000 soft Bellman sweeps."""
    reward = bonus - effort * np.array([1.0, 1.0 - HABIT_RELIEF])
    value = np.zeros(2)
    for _ in range(2000):
        q_values = np.stack([np.zeros(2), reward], axis=1) + DISCOUNT * value[None, :]
        value = temperature * np.logaddexp.reduce(q_values / temperature, axis=1)
    return np.exp((q_values[:, 1] - value) / temperature)


def tidy(rng: np.random.Generator) -> pd.DataFrame:
    """Return who sorted when, one row per household and week."""
    rows, number = [], 100
    for dwelling, truth in TRUTH.items():
        effort, temperature = truth["effort"], truth["temperature"]
        for index in range(truth["households"]):
            number += 1
            sorted_before = rng.random() < 0.3
            for week in range(1, WEEKS + 1):
                paid = index % 2 == 1 and week >= PILOT_FROM
                chance = chance_of_sorting(effort, temperature, BONUS if paid else 0.0)
                sorted_now = bool(rng.random() < chance[int(sorted_before)])
                rows.append((f"H{number}", dwelling, week, paid, sorted_now))
                sorted_before = sorted_now
    columns = ["Household ID", "Dwelling", "Week", "Scheme", "Sorted?"]
    return pd.DataFrame(rows, columns=columns)


def untidy(table: pd.DataFrame, rng: np.random.Generator) -> pd.DataFrame:
    """Spell words in several ways, lose some answers and rows, and enter some rows twice."""
    table = table.drop(index=rng.choice(len(table), 25, replace=False))
    for name in ("Dwelling", "Sorted?"):
        table[name] = [rng.choice(SPELLINGS[value]) for value in table[name]]
    table["Scheme"] = np.where(table["Scheme"], "bonus 0,40 EUR", "")
    table.loc[rng.choice(table.index, 20, replace=False), "Sorted?"] = "?"
    twice = table.loc[rng.choice(table.index, 12, replace=False)]
    return pd.concat([table, twice]).sample(frac=1.0, random_state=rng)


if __name__ == "__main__":
    generator = np.random.default_rng(20260101)
    path = Path(__file__).parent / "sorting_pilot.csv"
    untidy(tidy(generator), generator).to_csv(path, index=False)
    print(path)
