"""NUTS in chunks, each on record with the sampler's state, so that a fit can be taken up again."""

import platform
from collections.abc import Callable, Mapping, MutableMapping
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Key
from numpyro.infer import NUTS

__all__ = ["Record", "chain_layout", "sample_in_chunks"]

TABLE = "chunks"
MOST_STEPS = 50
"""Steps of each chain in a chunk: what is lost at most when a run dies."""

Record = Mapping[str, np.ndarray]


def sample_in_chunks(
    kernel: NUTS,
    *,
    key: Key[Array, ""],
    num_chains: int,
    num_warmup: int,
    num_samples: int,
    fields: tuple[str, ...],
    records: MutableMapping[tuple[str, int], Record],
    on_progress: Callable[[str, int, int], None] | None = None,
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Return draws and fields of the sampler's state, both (chain, draw, ...).

    Warm-up and sampling are one sequence of steps, cut into chunks of equal length: NumPyro's
    state carries the step's number, which says when adaptation ends, and its own random key. A
    run taken up again gives the same draws, bit for bit, on the same kind of machine and with
    the same `chain_layout`. `numpyro.infer.MCMC` with the same key
    takes the same steps in another compiled program: the draws then differ by rounding at most
    in the beginning, but a chain carries such a difference on, so that long chains may part.

    Parameters
    ----------
    kernel : NUTS
    key : typed key
        Split over chains as by `MCMC`.
    num_chains, num_warmup, num_samples : int
    fields : tuple of str
        Of the sampler's state, e.g. "adapt_state.step_size".
    records : mutable mapping
        Receives ("chunks", number) -> named arrays: ``site.*`` and ``field.*`` of shape (chain,
        step, ...), ``state.*`` at the end of the chunk by path. The run goes on after the last.
    on_progress : callable, optional
        Called with (stage, steps done, steps in all), steps of all chains together.
    """
    total = num_warmup + num_samples
    num_chunks = -(-total // MOST_STEPS)
    length = -(-total // num_chunks)  # the last chunk overruns by less than num_chunks steps
    over_chains = _over_chains(num_chains)
    keys = jax.random.split(key, num_chains) if num_chains > 1 else key[None]
    impl = jax.random.key_impl(key)
    report = on_progress or (lambda stage, done, total: None)

    def begin(chain_key: Array) -> Any:
        return kernel.init(chain_key, num_warmup, None, (), {})

    def advance(state: Any) -> tuple[Any, dict[str, Array]]:
        def step(state: Any, _: None) -> tuple[Any, dict[str, Array]]:
            state = kernel.sample(state, (), {})
            sites = kernel.postprocess_fn((), {})(state.z)
            collected = {f"site.{name}": value for name, value in sites.items()}
            return state, collected | {f"field.{name}": _attribute(state, name) for name in fields}

        return jax.lax.scan(step, state, None, length=length)

    done = 0
    while (TABLE, done) in records:
        done += 1
    report("sampling", min(done * length, total) * num_chains, total * num_chains)
    if done < num_chunks:
        shapes = jax.eval_shape(jax.vmap(begin), keys)  # also readies the kernel for `sample`
        last = records.get((TABLE, done - 1))
        state = over_chains(begin)(keys) if last is None else _restored(shapes, last, impl)
        program = over_chains(advance)
        for number in range(done, num_chunks):
            state, collected = program(state)
            found = {name: np.asarray(value) for name, value in collected.items()}
            records[TABLE, number] = found | _as_arrays(state)
            state = _restored(shapes, records[TABLE, number], impl)
            steps = min((number + 1) * length, total)
            report("sampling", steps * num_chains, total * num_chains)
    return _gather(records, num_chunks, num_warmup, total)


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


def _over_chains(num_chains: int) -> Callable[[Callable], Callable]:
    if chain_layout(num_chains).endswith("side by side"):
        return jax.pmap

    def in_turn(function: Callable) -> Callable:
        compiled = jax.jit(function)

        def mapped(chains: Any) -> Any:
            found = [
                compiled(jax.tree.map(lambda leaf, i=i: leaf[i], chains)) for i in range(num_chains)
            ]
            return jax.tree.map(lambda *leaves: jnp.stack(leaves), *found)

        return mapped

    return in_turn


def _attribute(state: Any, path: str) -> Array:
    for name in path.split("."):
        state = getattr(state, name)
    return state


def _as_arrays(state: Any) -> dict[str, np.ndarray]:
    leaves, _ = jax.tree_util.tree_flatten_with_path(state)
    return {
        f"state{jax.tree_util.keystr(path)}": np.asarray(
            jax.random.key_data(leaf) if _is_key(leaf) else leaf
        )
        for path, leaf in leaves
    }


def _restored(shapes: Any, record: Record, impl: Any) -> Any:
    """Return the sampler's state from its arrays; ``shapes`` has its structure."""
    leaves, structure = jax.tree_util.tree_flatten_with_path(shapes)
    values: list[Any] = []
    for path, leaf in leaves:
        array = record[f"state{jax.tree_util.keystr(path)}"]
        if _is_key(leaf):
            values.append(jax.random.wrap_key_data(jnp.asarray(array), impl=impl))
        else:
            values.append(array.astype(leaf.dtype))
    return jax.tree_util.tree_unflatten(structure, values)


def _is_key(leaf: Any) -> bool:
    return jax.dtypes.issubdtype(leaf.dtype, jax.dtypes.prng_key)


def _gather(
    records: Mapping[tuple[str, int], Record], num_chunks: int, num_warmup: int, total: int
) -> tuple[dict[str, np.ndarray], dict[str, np.ndarray]]:
    """Join the chunks and leave out warm-up and overrun."""
    parts: dict[str, list[np.ndarray]] = {}
    for number in range(num_chunks):
        for name, value in records[TABLE, number].items():
            if not name.startswith("state"):
                parts.setdefault(name, []).append(value)
    joined = {
        name: np.concatenate(part, axis=1)[:, num_warmup:total] for name, part in parts.items()
    }
    sites = {n.removeprefix("site."): v for n, v in joined.items() if n.startswith("site.")}
    fields = {n.removeprefix("field."): v for n, v in joined.items() if n.startswith("field.")}
    return sites, fields
