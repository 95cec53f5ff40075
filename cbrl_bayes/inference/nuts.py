"""The No-U-Turn sampler in blocks of steps, each on record, so that a fit can be taken up again."""

import platform
from collections.abc import Callable, Iterable, Mapping, MutableMapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import NUTS, init_to_sample, init_to_value

from cbrl_bayes.errors import NotConvergedError, require_ranges
from cbrl_bayes.progress import Report, silent

OverChains = Callable[[Callable[[Any], Any], Iterable[Any]], Iterable[tuple[int, Any]]]

MOST_STEPS = 50
"""Steps of each chain in a block: what is lost at most when a run dies."""
PRIOR_DRAWS = 64
"""From which the chains' first points are taken."""
ENDS = 0.03, 0.97
"""Quantiles of the prior at which the outermost chains begin."""
ONCE = {"xla_backend_optimization_level": 0}
"""Compiler options of programs that run once: most of their time is their compilation."""


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
    block = _Block(model, settings, start, derived, length, str(jax.random.key_impl(key)))
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


FIELDS: dict[str, Callable[[Any], Array]] = {
    "diverging": lambda state: state.diverging,
    "n_steps": lambda state: state.num_steps,
    "acceptance_rate": lambda state: state.accept_prob,
    "energy": lambda state: state.energy,
    "lp": lambda state: -state.potential_energy,
    "step_size": lambda state: state.adapt_state.step_size,
}
"""ArviZ's name of each statistic, and where NumPyro's state has it."""


@dataclass
class _Block:
    """Moves one chain by one block of steps; compiled once for all chains and blocks.

    Chains travel as named arrays: ``state.0``, ``state.1``, ... are the leaves of NumPyro's state.
    """

    model: Callable[[], Any]
    settings: NUTSSettings
    start: Mapping[str, Array] | None
    derived: bool
    length: int
    key_kind: str

    def __post_init__(self) -> None:
        given = self.start
        self.place = init_to_sample() if given is None else init_to_value(values=dict(given))
        accept = self.settings.target_accept
        self.kernel = NUTS(self.model, target_accept_prob=accept, init_strategy=self.place)
        self._program = jax.jit(self._steps)
        self.compiled = False

    def __reduce__(self) -> tuple:
        """Travel without what was compiled."""
        return type(self), tuple(getattr(self, entry.name) for entry in fields(self))

    def __call__(self, chain: Mapping[str, np.ndarray]) -> dict[str, np.ndarray]:
        """Return what the steps gave, (step, ...), and the state after them."""
        state, collected = self._program(self._state(chain))
        self.compiled = True
        return {name: np.asarray(value) for name, value in collected.items()} | _leaves(state)

    def begin(self, key: Array) -> dict[str, np.ndarray]:
        """Return every chain's state before its first step, the chains along the first axis."""
        num = self.settings.num_chains
        keys = jax.random.split(key, num) if num > 1 else key[None]
        points = _mapped(self._first_point)(keys) if self.start else self._points_apart(key)
        states = _leaves(_mapped(self._first_state)((keys, points)))
        good = self._usable(states)
        if not good.all():
            # NumPyro's own search draws up to 100 points; it takes longer to compile.
            again = _leaves(_mapped(lambda key: self._first_state((key, None)))(keys))
            states = {
                name: np.where(good.reshape(-1, *[1] * (leaf.ndim - 1)), leaf, again[name])
                for name, leaf in states.items()
            }
            good |= self._usable(again)
        if not good.all():
            raise NotConvergedError(
                "the sampler found no starting point: the density was zero or not "
                "finite at 100 draws from the prior",
                remedy="check that the priors allow the observed behaviour",
            )
        return states

    def _points_apart(self, key: Array) -> dict[str, Array]:
        """Return unbounded values for each chain, spread over the prior."""
        num = self.settings.num_chains
        draw_key, order_key = jax.random.split(jax.random.fold_in(key, num))

        def apart(keys: Array) -> dict[str, Array]:
            draws = jax.lax.map(self._first_point, keys)
            places = np.linspace(*ENDS, num) if num > 1 else np.array([0.5])
            at = np.rint(places * (len(keys) - 1)).astype(int)
            orders = jax.random.split(order_key, len(draws))
            return {
                name: jax.random.permutation(
                    order, jnp.sort(draws[name], axis=0)[at], independent=True
                )
                for name, order in zip(sorted(draws), orders, strict=True)
            }

        keys = jax.random.split(draw_key, max(PRIOR_DRAWS, num))
        return jax.jit(apart, compiler_options=ONCE)(keys)

    def _state(self, chain: Mapping[str, np.ndarray]) -> Any:
        """Return NumPyro's state from its leaves."""
        leaves, structure = self._layout
        values = [chain[f"state.{index}"].astype(_kind(leaf)) for index, leaf in enumerate(leaves)]
        wrap: Any = partial(jax.random.wrap_key_data, impl=self.key_kind)
        return jax.tree.unflatten(
            structure, [wrap(v) if _is_key(k) else v for v, k in zip(values, leaves, strict=True)]
        )

    @cached_property
    def _layout(self) -> tuple[list[Any], Any]:
        """The leaves of a state and their order; this also readies the kernel for `sample`."""
        key = jax.random.key(0, impl=self.key_kind)
        shapes = jax.eval_shape(lambda key: self._first_state((key, None)), key)
        return jax.tree.flatten(shapes)

    def _first_point(self, key: Array) -> dict[str, Array]:
        """Return unbounded values from ``start`` or the prior, as `NUTS.init` tries them first."""
        search_key = jax.random.split(jax.random.split(key)[1])[1]
        placed = handlers.substitute(
            handlers.seed(self.model, search_key), substitute_fn=self.place
        )
        return {
            name: biject_to(site["fn"].support).inv(site["value"])
            for name, site in handlers.trace(placed).get_trace().items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    def _usable(self, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """Say of each chain whether density and slope are finite at its first point."""
        leaves, structure = self._layout
        numbered = jax.tree.unflatten(structure, range(len(leaves)))
        wanted = jax.tree.leaves((numbered.potential_energy, numbered.z_grad))
        finite = [np.isfinite(states[f"state.{i}"]) for i in wanted]
        return np.logical_and.reduce([one.reshape(len(one), -1).all(1) for one in finite])

    def _first_state(self, chain: tuple[Array, dict[str, Array] | None]) -> Any:
        key, point = chain
        return self.kernel.init(key, self.settings.num_warmup, point, (), {})

    def _steps(self, state: Any) -> tuple[Any, dict[str, Array]]:
        constrain = self.kernel.get_constrain_fn(return_deterministic=self.derived)

        def step(state: Any, _: None) -> tuple[Any, dict[str, Array]]:
            state = self.kernel.sample(state, (), {})
            sites = {f"site.{name}": value for name, value in constrain(state.z).items()}
            return state, sites | {f"field.{name}": read(state) for name, read in FIELDS.items()}

        return jax.lax.scan(step, state, None, length=self.length)


def _mapped(function: Callable) -> Callable:
    """Return a program, used once, that applies a function to one chain after another."""
    return jax.jit(lambda chains: jax.lax.map(function, chains), compiler_options=ONCE)


def _apart(chains: Mapping[str, np.ndarray], num: int) -> list[dict[str, np.ndarray]]:
    """Return each chain's state."""
    states = {name: value for name, value in chains.items() if name.startswith("state.")}
    return [{name: value[chain] for name, value in states.items()} for chain in range(num)]


def _leaves(state: Any) -> dict[str, np.ndarray]:
    return {f"state.{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _plain(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _kind(leaf: Any) -> Any:
    return np.uint32 if _is_key(leaf) else leaf.dtype


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


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
