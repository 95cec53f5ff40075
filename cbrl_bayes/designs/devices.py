"""Many draws as one compiled program, sharded over the devices of this machine."""

import itertools
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.sharding import NamedSharding, PartitionSpec

from cbrl_bayes.designs.executors import Results, Work
from cbrl_bayes.errors import InvalidInputError, require_ranges


@dataclass(frozen=True)
class DeviceExecutor:
    """The devices JAX sees on this machine: one program for many draws, sharded over them.

    Draws are taken in chunks of ``draws_per_device`` for each device; a device goes through its
    share in turn. Results agree with those of threads up to rounding: the same steps are
    compiled differently. To make CPU cores devices, set ``JAX_NUM_CPU_DEVICES`` before Python
    starts.

    Parameters
    ----------
    devices : sequence of jax.Device, optional
        Default: all of `jax.devices()`.
    draws_per_device : int
        Draws a device takes at a time, >= 1; also how often results come back. Memory grows with
        the results of ``draws_per_device`` draws for each device.
    side_by_side : int
        Draws that a device vectorises, >= 1. One is best on a CPU; accelerators need many, and
        memory grows with it.

    Raises
    ------
    InvalidInputError
        For settings out of range, and for work that cannot be one compiled program: searches
        with ``num_candidates`` or ``num_hops``, outside followers, functions of your own.

    Examples
    --------
    >>> import jax
    >>> from cbrl_bayes.designs import evaluate_designs
    >>> from cbrl_bayes.designs.running import Running
    >>> from cbrl_bayes.problems import two_state
    >>> temperatures = {"temperature": np.linspace(0.1, 0.4, 5)}
    >>> scores = evaluate_designs(two_state(), np.zeros((2, 1)), temperatures,
    ...                           key=jax.random.key(0),
    ...                           run=Running(executor=DeviceExecutor()))
    >>> scores.objective.shape
    (2, 5)
    """

    devices: tuple[Any, ...] | None = None
    draws_per_device: int = 16
    side_by_side: int = 1

    def __post_init__(self) -> None:
        require_ranges(
            self, "settings of the devices", draws_per_device=">= 1", side_by_side=">= 1"
        )
        if self.devices == ():
            raise InvalidInputError("devices is empty; accepted: at least one device, or None")

    def run(self, work: Callable[[Any], Any], items: Iterable[Any]) -> Results:
        """Yield (number, result), a chunk of draws at a time."""
        if not isinstance(work, Work):
            raise InvalidInputError(
                "this work cannot be part of a compiled program",
                received=work,
                remedy="ThreadExecutor or DaskExecutor",
            )
        devices = self.devices or tuple(jax.devices())
        num = len(devices)
        numbered = enumerate(items)
        chunk = list(itertools.islice(numbered, num * self.draws_per_device))
        size = num * -(-len(chunk) // num)
        program, spread = self._program(work, devices)
        while chunk:
            # The last chunk is filled up, so that one program serves all.
            filled = [item for _, item in chunk] + [chunk[-1][1]] * (size - len(chunk))
            stacked = jax.tree.map(lambda *leaves: np.stack(leaves), *filled)
            found = jax.tree.map(np.asarray, program(jax.device_put(stacked, spread)))
            for position, (index, _) in enumerate(chunk):
                yield index, jax.tree.map(lambda leaf, p=position: leaf[p].copy(), found)
            chunk = list(itertools.islice(numbered, size))

    def _program(
        self, one: Callable[[Any], Any], devices: tuple[Any, ...]
    ) -> tuple[Callable[[Any], Any], NamedSharding]:
        mesh = jax.sharding.Mesh(np.array(devices), ("draw",))
        over_draws = PartitionSpec("draw")

        def share(items: Any) -> Any:
            side = None if self.side_by_side == 1 else self.side_by_side
            return jax.lax.map(one, items, batch_size=side)

        # No device needs a result of another, so there is nothing to check.
        program = jax.shard_map(
            share, mesh=mesh, in_specs=over_draws, out_specs=over_draws, check_vma=False
        )
        return jax.jit(program), NamedSharding(mesh, over_draws)
