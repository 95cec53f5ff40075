"""A folder is a campaign: a manifest, and zarr stores that are added one by one.

``manifest.json`` lists what counts: for each round the store of its plan (``plan-001.zarr``), and
of its data and results (``data-001.zarr``, ``round-001.zarr``). A store is written under another
name and renamed; then the manifest is replaced by one that names it, in one step. A store that the
manifest does not name does not count, so that a process may die at any time. Every store opens
with `xarray.open_datatree`.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import xarray as xr

from cbrl_bayes.errors import ResultsError
from cbrl_bayes.files import (
    DEFAULT_LIMITS,
    check_file,
    given_attributes,
    plain_attributes,
    replacing,
)

SCHEMA = "cbrl_bayes campaign 1"
MANIFEST = "manifest.json"
EARLIER = "earlier"
"""Under this name the manifest keeps the store of data from before the campaign."""


@dataclass(frozen=True)
class CampaignFolder:
    """The files of one campaign.

    Parameters
    ----------
    path : Path
    """

    path: Path

    @property
    def exists(self) -> bool:
        """Whether there is a campaign."""
        return (self.path / MANIFEST).is_file()

    def begin(self, head: Mapping[str, Any], earlier: xr.Dataset | None = None) -> None:
        """Write the first manifest, after the data from before the campaign.

        Raises
        ------
        ResultsError
            If the folder holds anything, or cannot be written.
        """
        try:
            self.path.mkdir(parents=True, exist_ok=True)
            there = [e.name for e in self.path.iterdir() if not e.name.startswith(".partial-")]
        except OSError as error:
            raise ResultsError(
                f"the campaign cannot be written to {self.path} ({error})",
                remedy="a folder that can be made and written",
            ) from error
        if there:
            raise ResultsError(
                f"{self.path} is not empty and holds no campaign",
                received=there[0],
                accepted="a folder that is empty or does not exist yet",
            )
        named = {}
        if earlier is not None:
            named[EARLIER] = f"{EARLIER}.zarr"
            self._write_store(named[EARLIER], xr.DataTree(earlier))
        self._write_manifest({"schema": SCHEMA, **head, **named, "rounds": []})

    def manifest(self) -> dict[str, Any]:
        """Read the manifest.

        Raises
        ------
        ResultsError
            If there is none, or it cannot be read.
        """
        place = self.path / MANIFEST
        if not place.is_file():
            raise ResultsError(
                f"{self.path} holds no campaign",
                received=f"no {MANIFEST}",
                remedy="cb.open_campaign(folder, problem, key=...), or 'campaign start'",
            )
        try:
            found = json.loads(place.read_text(encoding="utf-8"))
            known = found["schema"] == SCHEMA and isinstance(found["rounds"], list)
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise ResultsError(
                f"the manifest of {self.path} cannot be read ({type(error).__name__})",
                remedy="put back the file as it was",
            ) from error
        if not known:
            raise ResultsError(
                f"the campaign in {self.path} was written by another version of this package",
                received=found["schema"],
                accepted=SCHEMA,
            )
        return found

    def add(self, number: int, stores: Mapping[str, xr.DataTree], entry: Mapping[str, Any]) -> None:
        """Write stores of round ``number``, and then the manifest's entry that makes them count.

        Parameters
        ----------
        number : int
            From 1.
        stores : mapping
            "plan", "data" or "round" -> tree.
        entry : mapping
            What the manifest says of it, beside the stores' names.
        """
        manifest = self.manifest()
        rounds = manifest["rounds"]
        kept = rounds[number - 1] if len(rounds) >= number else {}
        if set(stores) & set(kept) or number > len(rounds) + 1:
            raise ResultsError(
                f"round {number} of the campaign in {self.path} was written by another process",
                remedy="open the campaign again",
            )
        names = {}
        for kind, tree in stores.items():
            names[kind] = f"{kind}-{number:03d}.zarr"
            self._write_store(names[kind], tree)
        if len(rounds) < number:
            rounds.append({"number": number})
        rounds[number - 1] |= {**names, **entry}
        self._write_manifest(manifest)

    def read(self, number: int, kind: str) -> xr.DataTree:
        """Read a store that the manifest names.

        Raises
        ------
        ResultsError
            If it is missing or damaged.
        """
        return self._read_store(self.manifest()["rounds"][number - 1][kind])

    def earlier(self) -> xr.Dataset | None:
        """Read the data from before the campaign; None where there are none."""
        name = self.manifest().get(EARLIER)
        return None if name is None else self._read_store(name).to_dataset()

    def _read_store(self, name: str) -> xr.DataTree:
        place = self.path / name
        if not place.is_dir():
            raise ResultsError(
                f"the campaign in {self.path} is incomplete",
                received=f"no {place.name}",
                remedy="put the folder back as it was",
            )
        check_file(place, ResultsError, DEFAULT_LIMITS)
        try:
            tree = xr.open_datatree(place, engine="zarr", consolidated=True).load()
        except Exception as error:  # codecs raise many kinds for a damaged file
            raise ResultsError(
                f"{place.name} of the campaign in {self.path} cannot be read ({error})",
                remedy="put the folder back as it was",
            ) from error
        tree.attrs = given_attributes(tree.attrs)
        return tree

    def _write_store(self, name: str, tree: xr.DataTree) -> None:
        tree = tree.copy()
        tree.attrs = plain_attributes(tree.attrs)
        # What has this name is what a process left that died before the manifest named it.
        with replacing(self.path / name, ResultsError, lambda old: True) as place:
            tree.to_zarr(place, mode="w", zarr_format=2, consolidated=True)

    def _write_manifest(self, manifest: Mapping[str, Any]) -> None:
        place = self.path / MANIFEST
        partial = self.path / f".partial-{os.getpid()}-{MANIFEST}"
        try:
            with partial.open("w", encoding="utf-8") as file:
                json.dump(manifest, file, indent=1)
                file.flush()
                os.fsync(file.fileno())
            os.replace(partial, place)
        except OSError as error:
            raise ResultsError(
                f"the campaign cannot be written to {self.path} ({error})",
                remedy="check that the folder is writable and has room; the campaign is unchanged",
            ) from error


def as_dataset(arrays: Mapping[str, np.ndarray]) -> xr.Dataset:
    """Return plain arrays as a dataset; each has axes of its own."""
    return xr.Dataset(
        {
            name: (tuple(f"{name}_{axis}" for axis in range(np.ndim(value))), np.asarray(value))
            for name, value in arrays.items()
        }
    )


def as_arrays(dataset: xr.Dataset) -> dict[str, np.ndarray]:
    """Return the arrays that `as_dataset` made a dataset of."""
    return {str(name): np.asarray(value.values) for name, value in dataset.data_vars.items()}
