"""The No-U-Turn sampler in blocks of steps, each on record, so that a fit can be taken up again."""

import platform
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jaxtyping import Array, Key

from cbrl_bayes.errors import require_ranges
from cbrl_bayes.inference.chain_block import ChainBlock, Redraw
from cbrl_bayes.progress import Report, silent

OverChains = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[tuple[int, Any]]]

MOST_STEPS = 50
"""Steps of each chain in a block: what is lost at most when a run dies."""


@dataclass(frozen=True)
class NUTSSettings:
    """Settings of the No-U-Turn sampler (the default).

    Parameters
    ----------
    num_chains, num_warmup, num_samples : int
        Chains, and steps of each; at least 1, 1 and 4.
    target_accept : float
        In (0, 1).
    """

    num_chains: int = 4
    num_warmup: int = 500
    num_samples: int = 500
    target_accept: float = 0.8

    def __post_init__(self) -> None:
        require_ranges(
            self,
            "NUTS settings",
            num_chains=">= 1",
            num_warmup=">= 1",
            num_samples=">= 4",
            target_accept="(0, 1)",
        )


def run_nuts(
    model: Callable[[], Any],
    *,
    key: Key[Array, ""],
    settings: NUTSSettings,
    start: Mapping[str, Array] | None = None,
    derived: bool = True,
    records: MutableMapping[tuple[str, int], Mapping[str, np.ndarray]] | None = None,
    report: Report = silent,
    over_chains: OverChains | None = None,
    most_steps: int = MOST_STEPS,
    redraw: Redraw | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return draws and sample statistics, both (chain, draw, ...), of any NumPyro model.

    Warm-up and sampling are one sequence of steps, cut into blocks of equal length: the state of
    NumPyro's kernel has the step's number, which says when adaptation ends, and its own random
    key. One program serves all chains and blocks (`numpyro.infer.MCMC` compiles one for warm-up
    and another for sampling). A block of every chain is one unit of saved work; a run that goes on
    from records gives the same draws, bit for bit, on the same kind of machine.

    Parameters
    ----------
    model : callable
        A NumPyro model without arguments and without free discrete sites.
    key : typed key
    settings : NUTSSettings
    start : mapping, optional
        Values of the sampled sites at which all chains begin. Default: chains begin apart, spread
        over the prior, so that R-hat can tell when they end in different places. With C chains,
        each coordinate of a chain's first point (on the unbounded scale) is another one of C
        evenly spaced quantiles of the prior from .03 to .97, in an order of its own (a Latin
        hypercube, fixed by ``key``). A single chain begins at the medians.
    derived : bool
        Whether draws include deterministic sites, for which the model runs at every step.
    records : mutable mapping, optional
        Receives ("chunks_of_<steps>", number) -> named arrays: ``site.*`` and ``field.*`` of
        shape (chain, step, ...), and ``state.*`` at the end of the block. The run goes on after
        the last.
    report : callable
        Called with (stage, steps done, steps in all), steps of all chains together.
    over_chains : callable, optional
        Runs one function on many items, as `Executor.run` does. Default: two threads.
    most_steps : int
        Of each chain in a block.
    redraw : Redraw, optional
        A site that is not sampled but drawn anew for every draw from a law of its own.

    Raises
    ------
    NotConvergedError
        If no first point with a finite density is found.
    """
    records = {} if records is None else records
    total = settings.num_warmup + settings.num_samples
    num_blocks = -(-total // most_steps)
    length = -(-total // num_blocks)  # the last block overruns by less than num_blocks steps
    over_chains = over_chains or _two_at_a_time
    table = f"chunks_of_{length}"
    kind = str(jax.random.key_impl(key))
    block = ChainBlock(model, settings, start, derived, length, kind, redraw)
    done = 0
    while (table, done) in records:
        done += 1
    for number in range(done, num_blocks):
        if number:
            states = _apart(records[table, number - 1], settings.num_chains)
        else:
            states = _apart(block.begin(key), settings.num_chains)
        found = dict(over_chains(block, states))
        each = [found[chain] for chain in range(settings.num_chains)]
        records[table, number] = {name: np.stack([one[name] for one in each]) for name in each[0]}
        steps = min((number + 1) * length, total) * settings.num_chains
        stage = "warm-up" if (number + 1) * length <= settings.num_warmup else "draws"
        report(stage, steps, total * settings.num_chains)
    return _joined([records[table, number] for number in range(num_blocks)], settings)


def _two_at_a_time(work: Any, items: Iterable[Any]) -> Iterable[tuple[int, Any]]:
    """Run chains on two threads; the first alone while nothing is compiled yet."""
    items = list(items)
    alone = [] if work.compiled else [work(items.pop(0))]
    with ThreadPoolExecutor(2) as pool:
        yield from enumerate([*alone, *pool.map(work, items)])


def device_kind() -> str:
    """Return what decides how a chain's steps are compiled, beside versions."""
    device = jax.local_devices()[0]
    return f"{device.platform} {device.device_kind} {platform.machine()}"


def _apart(chains: Mapping[str, np.ndarray], num: int) -> list[dict[str, np.ndarray]]:
    """Return each chain's state."""
    states = {name: value for name, value in chains.items() if name.startswith("state.")}
    return [{name: value[chain] for name, value in states.items()} for chain in range(num)]


def _joined(
    blocks: list[Mapping[str, np.ndarray]], settings: NUTSSettings
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Join the blocks and leave out warm-up and overrun."""
    kept = slice(settings.num_warmup, settings.num_warmup + settings.num_samples)

    def of_kind(kind: str) -> dict[str, np.ndarray]:
        return {
            name.removeprefix(kind): np.concatenate([block[name] for block in blocks], axis=1)[
                :, kept
            ]
            for name in blocks[0]
            if name.startswith(kind)
        }

    stats = of_kind("field.")
    # Whole doublings: a tree of the largest depth that turned before its end is none.
    depth = np.log2(stats["n_steps"] + 1).astype(int)
    return of_kind("site."), stats | {"tree_depth": depth}
