"""One chain of the No-U-Turn sampler, moved by a block of steps at a time."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, fields
from functools import cached_property, partial
from typing import TYPE_CHECKING, Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array
from numpyro import handlers
from numpyro.distributions import Distribution, biject_to
from numpyro.infer import NUTS, init_to_sample, init_to_value
from numpyro.infer.util import potential_energy

from cbrl_bayes.errors import NotConvergedError

if TYPE_CHECKING:
    from cbrl_bayes.inference.nuts import NUTSSettings

ONCE = {"xla_backend_optimization_level": 0}
"""Compiler options of programs that run once: most of their time is their compilation."""
ENDS = 0.03, 0.97
"""Quantiles of the prior at which the outermost chains begin."""
CUT_STEPS = 5
"""Steps of the sampler under each draw of a site that is cut from the rest."""
PRIOR_DRAWS = 64
"""From which the chains' first points are taken."""
FIELDS: dict[str, Callable[[Any], Array]] = {
    "diverging": lambda state: state.diverging,
    "n_steps": lambda state: state.num_steps,
    "acceptance_rate": lambda state: state.accept_prob,
    "energy": lambda state: state.energy,
    "lp": lambda state: -state.potential_energy,
    "step_size": lambda state: state.adapt_state.step_size,
}
"""ArviZ's name of each statistic, and where NumPyro's state has it."""


@dataclass(frozen=True, eq=False)
class Redraw:
    """A site whose values do not come from the chain, but from a law of their own.

    During warm-up it has the law's mean. Then each draw takes a fresh value, and the chain makes
    some steps under it, from where it was under the last: so the other sites come to be drawn
    given that value. This samples a cut posterior as far as those steps forget where they began.
    Source: Plummer, Statistics and Computing 2015 (the naive cut with several inner steps).

    Parameters
    ----------
    name : str
    law : numpyro distribution
        With a mean.
    num_steps : int
        Steps of the chain under each value.
    """

    name: str
    law: Distribution
    num_steps: int = CUT_STEPS


@dataclass
class ChainBlock:
    """Moves one chain by one block of steps; compiled once for all chains and blocks.

    Chains travel as named arrays: ``state.0``, ``state.1``, ... are the leaves of NumPyro's state.
    """

    model: Callable[[], Any]
    settings: "NUTSSettings"
    start: Mapping[str, Array] | None
    derived: bool
    length: int
    key_kind: str
    redraw: Redraw | None = None

    def __post_init__(self) -> None:
        given = self.start
        self.place = init_to_sample() if given is None else init_to_value(values=dict(given))
        accept = self.settings.target_accept
        self.kernel = NUTS(self._given, target_accept_prob=accept, init_strategy=self.place)
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
        keys, begun = jax.jit(self._begun, compiler_options=ONCE)(key)
        self._layout = jax.tree.flatten(jax.eval_shape(partial(jax.tree.map, _first), begun))
        states = _leaves(begun)
        good = self._usable(states)
        if not good.all():
            # NumPyro's own search draws up to 100 points; it takes longer to compile.
            search = jax.jit(
                lambda keys: jax.lax.map(lambda key: self._first_state((key, None)), keys),
                compiler_options=ONCE,
            )
            again = _leaves(search(keys))
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

    def _begun(self, key: Array) -> tuple[Array, Any]:
        """Return each chain's key and state, the chains along the first axis."""
        num = self.settings.num_chains
        keys = jax.random.split(key, num) if num > 1 else key[None]
        points = jax.lax.map(self._first_point, keys) if self.start else self._points_apart(key)
        return keys, jax.lax.map(self._first_state, (keys, points))

    def _points_apart(self, key: Array) -> dict[str, Array]:
        """Return unbounded values for each chain, spread over the prior."""
        num = self.settings.num_chains
        draw_key, order_key = jax.random.split(jax.random.fold_in(key, num))
        keys = jax.random.split(draw_key, max(PRIOR_DRAWS, num))
        draws = jax.lax.map(self._first_point, keys)
        places = np.linspace(*ENDS, num) if num > 1 else np.array([0.5])
        at = np.rint(places * (len(keys) - 1)).astype(int)
        orders = jax.random.split(order_key, len(draws))
        return {
            name: jax.random.permutation(order, jnp.sort(draws[name], axis=0)[at], independent=True)
            for name, order in zip(sorted(draws), orders, strict=True)
        }

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
            handlers.seed(self._given, search_key), substitute_fn=self.place
        )
        return {
            name: biject_to(site["fn"].support).inv(site["value"])
            for name, site in handlers.trace(placed).get_trace(self._first_given).items()
            if site["type"] == "sample" and not site["is_observed"]
        }

    def _usable(self, states: Mapping[str, np.ndarray]) -> np.ndarray:
        """Say of each chain whether density and slope are finite at its first point."""
        leaves, structure = self._layout
        numbered = jax.tree.unflatten(structure, range(len(leaves)))
        wanted = jax.tree.leaves((numbered[0].potential_energy, numbered[0].z_grad))
        finite = [np.isfinite(states[f"state.{i}"]) for i in wanted]
        return np.logical_and.reduce([one.reshape(len(one), -1).all(1) for one in finite])

    @cached_property
    def _first_given(self) -> dict[str, np.ndarray]:
        """What the model is given during warm-up."""
        return {} if self.redraw is None else {self.redraw.name: np.asarray(self.redraw.law.mean)}

    def _given(self, values: Mapping[str, Array]) -> Any:
        """Run the model with some of its sites given."""
        with handlers.condition(data=dict(values)):
            return self.model()

    def _first_state(self, chain: tuple[Array, dict[str, Array] | None]) -> tuple[Any, Any]:
        key, point = chain
        given = jax.tree.map(jnp.asarray, self._first_given)
        return self.kernel.init(key, self.settings.num_warmup, point, (given,), {}), given

    def _steps(self, state: Any) -> tuple[Any, dict[str, Array]]:
        constrain = self.kernel.get_constrain_fn(
            (self._first_given,), return_deterministic=self.derived
        )

        def step(state: Any, _: None) -> tuple[Any, dict[str, Array]]:
            state, given = self._moved(*state)
            sites = {f"site.{name}": value for name, value in (constrain(state.z) | given).items()}
            fields = {f"field.{name}": read(state) for name, read in FIELDS.items()}
            return (state, given), sites | fields

        return jax.lax.scan(step, state, None, length=self.length)

    def _moved(self, state: Any, given: Any) -> tuple[Any, Any]:
        """Return the next draw: one step, or several after what is given was drawn anew."""
        redraw = self.redraw
        if redraw is None:
            return self.kernel.sample(state, (given,), {}), given

        def anew(state: Any, given: Any) -> tuple[Any, Any]:
            key, own = jax.random.split(state.rng_key)
            given = {redraw.name: redraw.law.sample(own)}
            energy, slope = jax.value_and_grad(
                lambda z: potential_energy(self._given, (given,), {}, z)
            )(state.z)
            return state._replace(rng_key=key, potential_energy=energy, z_grad=slope), given

        settled = state.i >= self.settings.num_warmup
        state, given = jax.lax.cond(settled, anew, lambda *same: same, state, given)

        def once(_: Array, state: Any) -> Any:
            after = self.kernel.sample(state, (given,), {})
            return after._replace(diverging=after.diverging | state.diverging)

        begun = state._replace(diverging=jnp.zeros_like(state.diverging))
        return jax.lax.fori_loop(0, jnp.where(settled, redraw.num_steps, 1), once, begun), given


def _first(leaf: Array) -> Array:
    return leaf[0]


def _leaves(state: Any) -> dict[str, np.ndarray]:
    return {f"state.{i}": _plain(leaf) for i, leaf in enumerate(jax.tree.leaves(state))}


def _plain(leaf: Array) -> np.ndarray:
    return np.asarray(jax.random.key_data(leaf) if _is_key(leaf) else leaf)


def _kind(leaf: Any) -> Any:
    return np.uint32 if _is_key(leaf) else leaf.dtype


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)
