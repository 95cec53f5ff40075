"""Human comparisons of language models' answers: the public LLMFAO crowd judgements."""

import hashlib
import os
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from cbrl_bayes.errors import DataError
from cbrl_bayes.files import DEFAULT_LIMITS, FileLimits, check_size

OUTCOMES = ("left", "right", "tie")
"""What an annotator may say; ``outcome`` is an index into these."""

FILE = "llmfao_crowd_comparisons.csv"
CHECKSUM = "sha256:106564a4bf06f047a4662979384313c22d9b4ca901e780f9e8419f8e5581adb1"
SOURCE = (
    "https://raw.githubusercontent.com/dustalov/llmfao/"
    "c5dbf945a3dbbddbe0d3be247840a2d6ab8ef272/crowd-comparisons.csv"
)
NUMBERS = ("id", "prompt", "model_x", "model_y", "worker")
COLUMNS = (*NUMBERS, "winner", "left", "right")
MOST_SHOWN = 5
MOST_DIGITS = 18  # so that every number fits into 64 bits
BYTES_PER_BYTE = 8
"""Memory that a table needs, about, for each byte of the file."""


def load_comparisons(
    path: str | Path | None = None,
    *,
    download: bool = True,
    limits: FileLimits | None = DEFAULT_LIMITS,
) -> xr.Dataset:
    """Load pairwise judgements: who compared which answers to which prompt, and what they said.

    Each row of the file is one judgement by one annotator of two answers to one prompt, given
    by two language models. Rows of one ``id`` are judgements of the same pair of answers.

    Parameters
    ----------
    path : path, optional
        A CSV file with columns id, prompt, model_x, model_y, worker (integers), winner ("left",
        "right" or "tie"), left and right (names of the models). Default: the published file in
        the folder that the environment variable ``CBRL_DATA_DIR`` names, else in the user's
        cache, else from the public repository dustalov/llmfao (CC BY 4.0), with a checksum.
    download : bool
        Whether the file may be downloaded.
    limits : FileLimits or None
        How large a file given by ``path`` may be. None: any.

    Returns
    -------
    xarray.Dataset
        Over ``judgement``: ``pair``, ``prompt``, ``left``, ``right``, ``annotator`` and
        ``outcome`` as indices counted from 0 (left and right into ``answer``, the names of the
        models, sorted; outcome into `OUTCOMES`). Coordinates ``answer``, ``prompt_id`` and
        ``annotator_id`` hold what the file calls them.

    Raises
    ------
    DataError
        If the file is not found, differs from the published one (default path), or has rows that
        cannot be used; the message lists them.
    """
    if path is None:
        file = _locate(download)
        if f"sha256:{hashlib.sha256(file.read_bytes()).hexdigest()}" != CHECKSUM:
            raise DataError(
                f"{file.name} is not the published file: its checksum differs",
                remedy="download it again from dustalov/llmfao, or pass path=",
            )
    else:
        file = Path(path)
        if not file.is_file():
            raise DataError("the file does not exist", received=str(file))
        check_size(file.name, BYTES_PER_BYTE * file.stat().st_size, DataError, limits)
    return _as_dataset(_read(file))


def _read(file: Path) -> pd.DataFrame:
    """Read text, so that what is not a number can be shown as it stands in the file."""
    try:
        table = pd.read_csv(file, dtype=str, keep_default_na=False)
    except ValueError as error:  # pandas' parser errors are ValueErrors
        raise DataError(
            f"{file.name} is not a table of comma-separated values", received=str(error)
        ) from error
    absent = [name for name in COLUMNS if name not in table]
    if absent or not len(table):
        raise DataError(
            f"{file.name} lacks columns {absent}" if absent else f"{file.name} is empty",
            accepted=", ".join(COLUMNS),
        )
    wrong = [
        f"line {index + 2}: {problem}"  # line 1 is the head
        for index, row in enumerate(table[list(COLUMNS)].itertuples(index=False))
        for problem in _violations(row._asdict())
    ]
    if wrong:
        more = f" and {len(wrong) - MOST_SHOWN} more" if len(wrong) > MOST_SHOWN else ""
        raise DataError(
            f"{file.name} has rows that cannot be used",
            received="; ".join(wrong[:MOST_SHOWN]) + more,
        )
    return table


def _violations(row: dict[str, str]) -> list[str]:
    """Say what is wrong with one row."""
    found = [
        f"{name} {row[name][:MOST_DIGITS]!r} is not a number"
        for name in NUMBERS
        if not (row[name].isascii() and row[name].isdigit() and len(row[name]) <= MOST_DIGITS)
    ]
    if row["winner"] not in OUTCOMES:
        found.append(f"winner {row['winner']!r} is not one of {', '.join(OUTCOMES)}")
    if not row["left"] or not row["right"]:
        found.append("an answer has no name")
    elif row["left"] == row["right"]:
        found.append(f"{row['left']!r} is compared with itself")
    return found


def _as_dataset(table: pd.DataFrame) -> xr.Dataset:
    answers, sides = np.unique(table[["left", "right"]].to_numpy(str), return_inverse=True)
    left, right = sides.reshape(-1, 2).T
    prompts, prompt = np.unique(table["prompt"].astype(int), return_inverse=True)
    annotators, annotator = np.unique(table["worker"].astype(int), return_inverse=True)
    _, pair = np.unique(table["id"].astype(int), return_inverse=True)
    columns = {
        "pair": pair,
        "prompt": prompt,
        "left": left,
        "right": right,
        "annotator": annotator,
        "outcome": table["winner"].map(OUTCOMES.index).to_numpy(int),
    }
    return xr.Dataset(
        {name: ("judgement", value) for name, value in columns.items()},
        coords={"answer": answers, "prompt_id": prompts, "annotator_id": annotators},
    )


def _locate(download: bool) -> Path:
    given = os.environ.get("CBRL_DATA_DIR")
    if given and (Path(given) / FILE).is_file():
        return Path(given) / FILE
    import pooch

    pooch.get_logger().setLevel("WARNING")
    cache = pooch.os_cache("cbrl_bayes")
    remedy = f"set CBRL_DATA_DIR to a folder that holds {FILE}"
    if not download and not (Path(cache) / FILE).is_file():
        raise DataError(f"the file {FILE} was not found", remedy=remedy)
    try:
        return Path(pooch.retrieve(SOURCE, CHECKSUM, fname=FILE, path=cache))
    except Exception as error:  # pooch passes on whatever the network raises
        raise DataError(
            f"the file {FILE} could not be downloaded ({type(error).__name__})", remedy=remedy
        ) from error
