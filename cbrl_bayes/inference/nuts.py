"""The No-U-Turn sampler in blocks of steps, each on record, so that a fit can be taken up again."""

import platform
from collections.abc import Callable, Mapping, MutableMapping
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpyro import handlers
from numpyro.distributions import biject_to
from numpyro.infer import NUTS, init_to_median, init_to_value

from cbrl_bayes.errors import InvalidInputError, NotConvergedError
from cbrl_bayes.progress import Report, silent

__all__ = ["ONCE", "NUTSSettings", "chain_layout", "run_nuts"]

TABLE = "chunks"
MOST_STEPS = 50
"""Steps of each chain in a block: what is lost at most when a run dies."""
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

    Notes
    -----
    Chains run side by side when JAX has a device for each (set the environment variable
    ``JAX_NUM_CPU_DEVICES`` before Python starts), else one after the other. The
    draws agree up to rounding, which a chain carries on: after many steps they may part.
    """

    num_chains: int = 4
    num_warmup: int = 500
    num_samples: int = 500
    target_accept: float = 0.8

    def __post_init__(self) -> None:
        sizes = self.num_chains >= 1 and self.num_warmup >= 1 and self.num_samples >= 4
        if not sizes or not 0.0 < self.target_accept < 1.0:
            raise InvalidInputError(
                "NUTS settings are out of range",
                received=self,
                accepted="num_chains >= 1, num_warmup >= 1, num_samples >= 4, "
                "0 < target_accept < 1",
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
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return draws and sample statistics, both (chain, draw, ...), of any NumPyro model.

    Warm-up and sampling are one sequence of steps, cut into blocks of equal length, at most 50
    steps of every chain: the state of NumPyro's kernel has the step's number, which says when
    adaptation ends, and its own random key. One program serves all blocks (`numpyro.infer.MCMC`
    compiles one for warm-up and another for sampling). A block is one unit of saved work; a
    run that goes on from records gives the same draws, bit for bit, on the same kind of machine
    and with the same `chain_layout`.

    Parameters
    ----------
    model : callable
        A NumPyro model without arguments and without free discrete sites.
    key : typed key
    settings : NUTSSettings
    start : mapping, optional
        Values of the sampled sites at which all chains begin. Default: each chain at the
        median of 15 draws from the prior.
    derived : bool
        Whether draws include deterministic sites, for which the model runs at every step.
    records : mutable mapping, optional
        Receives ("chunks", number) -> named arrays: ``site.*`` and ``field.*`` of shape (chain,
        step, ...), and ``state.*`` at the end of the block. The run goes on after the last.
    report : callable
        Called with (stage, steps done, steps in all), steps of all chains together.

    Raises
    ------
    NotConvergedError
        If no first point with a finite density is found.
    """
    records = {} if records is None else records
    total = settings.num_warmup + settings.num_samples
    num_blocks = -(-total // MOST_STEPS)
    length = -(-total // num_blocks)  # the last block overruns by less than num_blocks steps
    chains = _Chains(model, key, settings, start, derived, length)
    done = 0
    while (TABLE, done) in records:
        done += 1
    state = None
    for number in range(done, num_blocks):
        if state is None:
            state = chains.begin() if not done else chains.restored(records[TABLE, done - 1])
        state, block = chains.advance(state)
        records[TABLE, number] = block
        steps = min((number + 1) * length, total) * settings.num_chains
        stage = "warm-up" if (number + 1) * length <= settings.num_warmup else "draws"
        report(stage, steps, total * settings.num_chains)
    return _joined([records[TABLE, number] for number in range(num_blocks)], settings)


def chain_layout(num_chains: int) -> str:
    """Return what decides how the steps of all chains are compiled: devices and their use.

    Chains run side by side where there is a device for each, else one after another.

    Examples
    --------
    >>> chain_layout(1).split(", ")[1]
    'in turn'
    """
    device = jax.local_devices()[0]
    side_by_side = jax.local_device_count() >= num_chains > 1
    kind = f"{device.platform} {device.device_kind} {platform.machine()}"
    return f"{kind}, {'side by side' if side_by_side else 'in turn'}"


FIELDS: dict[str, Callable[[Any], Array]] = {
    "diverging": lambda state: state.diverging,
    "n_steps": lambda state: state.num_steps,
    "acceptance_rate": lambda state: state.accept_prob,
    "energy": lambda state: state.energy,
    "lp": lambda state: -state.potential_energy,
    "step_size": lambda state: state.adapt_state.step_size,
}
"""ArviZ's name of each statistic, and where NumPyro's state has it."""


class _Chains:
    """All chains of a run: their first states, and the program that moves them."""

    def __init__(
        self,
        model: Callable[[], Any],
        key: Array,
        settings: NUTSSettings,
        start: Mapping[str, Array] | None,
        derived: bool,
        length: int,
    ) -> None:
        self.model, self.derived, self.length = model, derived, length
        self.num_warmup = settings.num_warmup
        self.place = init_to_median() if start is None else init_to_value(values=dict(start))
        self.kernel = NUTS(
            model, target_accept_prob=settings.target_accept, init_strategy=self.place
        )
        several = settings.num_chains > 1
        self.keys = jax.random.split(key, settings.num_chains) if several else key[None]
        self.side_by_side = chain_layout(settings.num_chains).endswith("side by side")
        self.program = self._over_chains(self._block)

    def begin(self) -> Any:
        """Return every chain's state before its first step."""
        points = self._over_chains(self._first_point, ONCE)(self.keys)
        state = self._over_chains(self._first_state, ONCE)((self.keys, points))
        if not _usable(state):
            # NumPyro's own search draws up to 100 points; it takes longer to compile.
            state = self._over_chains(lambda key: self._first_state((key, None)), ONCE)(self.keys)
        if not _usable(state):
            raise NotConvergedError(
                "the sampler found no starting point: the density was zero or not "
                "finite at 100 draws from the prior",
                remedy="check that the priors allow the observed behaviour",
            )
        return state

    def advance(self, state: Any) -> tuple[Any, dict[str, np.ndarray]]:
        """Move every chain by one block of steps; return its states and the block's record."""
        state, collected = self.program(state)
        leaves = {f"state.{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}
        return state, {name: np.asarray(value) for name, value in collected.items()} | leaves

    def restored(self, record: Mapping[str, np.ndarray]) -> Any:
        """Return the states at the end of a block from its record."""
        # This also readies the kernel for `sample`, as `begin` would.
        shapes = jax.eval_shape(jax.vmap(lambda key: self._first_state((key, None))), self.keys)
        leaves, structure = jax.tree.flatten(shapes)
        values: list[Any] = []
        for index, leaf in enumerate(leaves):
            value = record[f"state.{index}"]
            if _is_key(leaf):
                impl = jax.random.key_impl(self.keys)
                values.append(jax.random.wrap_key_data(jnp.asarray(value), impl=impl))
            else:
                values.append(value.astype(leaf.dtype))
        return jax.tree.unflatten(structure, values)

    def _first_point(self, key: Array) -> dict[str, Array]:
        """Return the unbounded values at which `NUTS.init` would try first with this key."""
        search_key = jax.random.split(jax.random.split(key)[1])[1]
        placed = handlers.substitute(
            handlers.seed(self.model, search_key), substitute_fn=self.place
        )
        return {
            name: biject_to(site["fn"].support).inv(site["value"])
            for name, site in handlers.trace(placed).get_trace().items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    def _first_state(self, chain: tuple[Array, dict[str, Array] | None]) -> Any:
        key, point = chain
        return self.kernel.init(key, self.num_warmup, point, (), {})

    def _block(self, state: Any) -> tuple[Any, dict[str, Array]]:
        constrain = self.kernel.get_constrain_fn(return_deterministic=self.derived)

        def step(state: Any, _: None) -> tuple[Any, dict[str, Array]]:
            state = self.kernel.sample(state, (), {})
            sites = {f"site.{name}": value for name, value in constrain(state.z).items()}
            return state, sites | {f"field.{name}": read(state) for name, read in FIELDS.items()}

        return jax.lax.scan(step, state, None, length=self.length)

    def _over_chains(self, function: Callable, options: dict[str, Any] | None = None) -> Callable:
        if self.side_by_side:
            return jax.pmap(function)
        return jax.jit(lambda chains: jax.lax.map(function, chains), compiler_options=options)


def _usable(state: Any) -> bool:
    return all(
        bool(np.isfinite(np.asarray(leaf)).all())
        for leaf in jax.tree.leaves((state.potential_energy, state.z_grad))
    )


def _plain(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


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
    depth = np.log2(stats["n_steps"]).astype(int) + 1
    return of_kind("site."), stats | {"tree_depth": depth}
