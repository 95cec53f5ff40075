"""How many choices fall on each action, drawn at a cost that does not grow with their number."""

import jax
import jax.numpy as jnp
import numpy as np
import numpyro.distributions as dist
from jaxtyping import Array, Float, Int, Key

MOST_TRIALS = 20_000
"""Choices that are drawn one by one; above, the counts themselves are drawn."""


def counts_law(
    total: Int[np.ndarray, " row"], logits: Float[Array, "row action"]
) -> dist.Distribution:
    """Return the law of the counts of ``total`` choices in each row."""
    if total.size * total.max(initial=0) <= MOST_TRIALS:
        return dist.Multinomial(
            total_count=jnp.asarray(total), logits=logits, total_count_max=int(total.max(initial=0))
        )
    return ManyChoices(logits=logits, total_count=jnp.asarray(total))


class ManyChoices(dist.MultinomialLogits):
    """A multinomial that is drawn action by action: each count is binomial given those before."""

    def sample(self, key: Key[Array, ""], sample_shape: tuple[int, ...] = ()) -> Array:
        """Draw counts, shape (*sample_shape, row, A)."""
        chance = jax.nn.softmax(self.logits)
        rest = jnp.cumsum(chance[..., ::-1], -1)[..., ::-1]
        share = jnp.clip(
            jnp.where(rest > 0.0, chance / jnp.where(rest > 0.0, rest, 1.0), 0.0), 0, 1
        )
        left = jnp.broadcast_to(self.total_count, sample_shape + self.batch_shape).astype(float)

        def one_action(left: Array, entry: tuple[Array, Array]) -> tuple[Array, Array]:
            key, share = entry
            drawn = jax.random.binomial(key, jnp.maximum(left, 1.0), share, shape=left.shape)
            taken = jnp.where(left > 0.0, drawn, 0.0)
            return left - taken, taken

        num = chance.shape[-1] - 1
        entries = jax.random.split(key, num), jnp.moveaxis(share, -1, 0)[:num]
        left, taken = jax.lax.scan(one_action, left, entries)
        counts = jnp.concatenate([jnp.moveaxis(taken, 0, -1), left[..., None]], axis=-1)
        return counts.astype(int)
