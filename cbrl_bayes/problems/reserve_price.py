"""Mechanism design: reserve prices of an item that is offered again until it is sold."""

from typing import Any

import jax.numpy as jnp
import numpy as np
from jaxtyping import Array, Float

from cbrl_bayes.errors import InvalidInputError, require_ranges
from cbrl_bayes.mdp import MDP, DenseTransition
from cbrl_bayes.problems.contexts import DiscreteContexts
from cbrl_bayes.problems.incentive import IncentiveSpace, Labels, scaled_sigmoid
from cbrl_bayes.problems.record import Incentive, Parameters, Problem

STAY_OUT = 0


def reserve_price(
    *,
    num_rivals: int = 1,
    num_rounds: int = 1,
    value_probability: tuple[float, ...] = (0.05,) * 20,
    highest_value: float = 1.0,
    num_bids: int | None = None,
    participation_cost: float = 0.02,
    buyer_discount: float = 0.9,
    seller_discount: float = 0.95,
    temperature: float = 0.05,
    initial_share: float = 0.5,
) -> Problem:
    r"""Choose a reserve price per round of a repeated second-price sale.

    One item is offered in rounds t = 1, ..., T until somebody buys it, with reserve price
    :math:`r_t`. In a round there are m rivals and one long-lived bidder, the follower. Its
    private value v is the context. It stays out, or bids one step of a ladder that moves with
    the reserve price,

    .. math:: b_{t,j} = r_t + \frac{j}{J}\,(\bar v - r_t), \qquad j = 0, \dots, J - 1 .

    The highest bid wins and pays the larger of the second bid and :math:`r_t`. Rivals take
    part in a single round, draw fresh values from the same law F and bid them, which is
    dominant. With :math:`G = F^m`, the law of the highest rival, a bid b earns the follower

    .. math:: (v - b)\,G(b) + \int_{r_t}^{b} G(p)\,dp - \kappa ,

    where :math:`\kappa` is the cost of taking part, and brings the seller

    .. math:: r_t + \int_{r_t}^{b} (1 - G)\,dp + \int_b^{\bar v} (1 - F^m - m F^{m-1}(1 - F))\,dp .

    If it stays out, no rival buys with probability :math:`G(r_t)`, and the item comes back in
    the next round. The seller maximises expected discounted revenue, rivals' payments included.

    **Revenue as a function of the reserve price.** F is linear between the edges of the value
    cells, so the integrals are exact (Gauss quadrature within each cell). Revenue is continuous
    and, with rivals, differentiable except where a reserve price or a bid meets the edge of a
    cell, where F has a kink; without rivals it is differentiable throughout. There is no jump,
    since the ladder moves with the reserve and no bid ever crosses it.

    - No rivals: posted prices for one buyer, a falling path of prices for a durable good.
    - One round, :math:`\lambda \to 0`, :math:`\kappa = 0`: the best reserve price goes to
      the root of Myerson's virtual value :math:`r - (1 - F(r))/f(r)`, whatever the number of
      rivals, up to the width of a value cell.

    Parameters
    ----------
    num_rivals : int
        m >= 0 in every round.
    num_rounds : int
        T >= 1.
    value_probability : tuple of float
        Law of the value over equal cells of [0, highest_value]; at least 2 cells. The
        follower's value is the middle of its cell; rivals' are uniform within theirs.
    highest_value : float
        Money, > 0.
    num_bids : int, optional
        J >= 1. Default: 10, or 1 without rivals, where all bids have the same consequence.
        More steps mean more ways of taking part, which counts at high temperatures.
    participation_cost : float
        kappa, money, >= 0; known to be zero if 0.
    buyer_discount, seller_discount : float
        Per round, in [0, 1].
    temperature : float
        lambda > 0 of the follower, money; rationality is 1/lambda.
    initial_share : float
        Reserve prices start at this share of ``highest_value``, in (0, 1).

    Returns
    -------
    Problem
        Parameters ``temperature``, ``participation_cost`` and ``context_probability`` (the law
        of values, of follower and rivals alike); incentive ``reserve``, shape (T,).

    Raises
    ------
    InvalidInputError
        For a law of values or a sale that cannot be.

    Notes
    -----
    Rivals are rational and only the follower is not: this is no equilibrium among boundedly
    rational bidders. Textbook case: R. Myerson, "Optimal auction design", *Mathematics of
    Operations Research* 6 (1981).

    Examples
    --------
    >>> problem = reserve_price(num_rivals=0, num_rounds=2)
    >>> problem.num_states, problem.action_names
    (3, ('stay out', 'bid 0/1'))
    """
    ladder_steps = num_bids or (1 if num_rivals == 0 else 10)
    _check_settings(num_rivals, num_rounds, num_bids, highest_value, participation_cost)
    num_cells = _checked_cells(value_probability, initial_share)
    edges = jnp.linspace(0.0, highest_value, num_cells + 1)
    middles = (edges[1:] + edges[:-1]) / 2.0
    shares = jnp.arange(ladder_steps) / ladder_steps
    sale = _Sale(num_rivals, edges)

    def bids(incentive: Incentive) -> Float[Array, "round bid"]:
        reserve = incentive["reserve"][:, None]
        return reserve + shares * (highest_value - reserve)

    def mdp_fn(incentive: Incentive, value: Array, parameters: Parameters) -> MDP:
        law = _cumulative(parameters["context_probability"])
        reserve, bid = incentive["reserve"], bids(incentive)
        surplus = sale.surplus(law, reserve, bid, value) - parameters["participation_cost"]
        reward = jnp.zeros((num_rounds + 1, ladder_steps + 1)).at[:num_rounds, 1:].set(surplus)
        # Less the entropy of a choice that does not exist, so that the end is worth 0.
        over = -parameters["temperature"] * jnp.log(ladder_steps + 1)
        return MDP(
            reward=reward.at[num_rounds].set(over),
            transition=DenseTransition(_transition(sale.unsold(law, reserve), ladder_steps)),
            initial=jnp.zeros(num_rounds + 1).at[0].set(1.0),
            discount=buyer_discount,
            temperature=parameters["temperature"],
            terminal=jnp.arange(num_rounds + 1) == num_rounds,
        )

    def revenue(incentive: Incentive, value: Array, parameters: Parameters) -> Array:
        law = _cumulative(parameters["context_probability"])
        reserve = incentive["reserve"]
        table = jnp.zeros((num_rounds + 1, ladder_steps + 1))
        table = table.at[:num_rounds, 1:].set(sale.price(law, reserve, bids(incentive)))
        return table.at[:num_rounds, STAY_OUT].set(sale.price_without(law, reserve))

    return Problem(
        name="reserve_price",
        incentive=_reserves(num_rounds, highest_value, initial_share),
        contexts=DiscreteContexts(
            tuple(f"value {middle:.4g}" for middle in np.asarray(middles)),
            middles,
            value_probability,
        ),
        mdp_fn=mdp_fn,
        parameters={"temperature": temperature, "participation_cost": participation_cost},
        leader_reward_fn=revenue,
        leader_discount=seller_discount,
        uncertain=("temperature", "participation_cost")[: 2 if participation_cost > 0 else 1],
        **_labels(num_rounds, ladder_steps),
    )


class _Sale:
    """Expectations over rivals who bid their values, drawn from a piecewise linear law."""

    def __init__(self, num_rivals: int, edges: Float[Array, " edge"]) -> None:
        self.num_rivals, self.edges = num_rivals, edges
        nodes, weights = np.polynomial.legendre.leggauss(num_rivals // 2 + 1)
        self.nodes, self.weights = jnp.asarray(nodes), jnp.asarray(weights)

    def law(self, cumulative: Array, price: Array) -> Array:
        """F at a price."""
        return jnp.interp(price, self.edges, cumulative)

    def highest(self, law: Array) -> Array:
        """G = F^m, the chance that no rival values the item above a price."""
        return law**self.num_rivals if self.num_rivals else jnp.ones_like(law)

    def second(self, law: Array) -> Array:
        """Chance that at most one rival values the item above a price."""
        if self.num_rivals == 0:
            return jnp.ones_like(law)
        below = law ** (self.num_rivals - 1) if self.num_rivals > 1 else jnp.ones_like(law)
        return self.highest(law) + self.num_rivals * below * (1.0 - law)

    def integral(self, of_law: Any, cumulative: Array, low: Array, high: Array) -> Array:
        """Integrate a polynomial of F of degree m from low to high, exactly, cell by cell."""
        ends = jnp.clip(self.edges, low[..., None], jnp.maximum(low, high)[..., None])
        half = (ends[..., 1:] - ends[..., :-1]) / 2.0
        middle = (ends[..., 1:] + ends[..., :-1]) / 2.0
        at = middle[..., None] + half[..., None] * self.nodes
        inner = (of_law(self.law(cumulative, at)) * self.weights).sum(-1)
        return (half * inner).sum(-1)

    def surplus(self, cumulative: Array, reserve: Array, bid: Array, value: Array) -> Array:
        """Bidder's expected gain of each bid, shape (T, J)."""
        start = jnp.broadcast_to(reserve[:, None], bid.shape)
        gap = self.integral(self.highest, cumulative, start, bid)
        return (value - bid) * self.highest(self.law(cumulative, bid)) + gap

    def price(self, cumulative: Array, reserve: Array, bid: Array) -> Array:
        """Seller's expected price when the follower bids, shape (T, J)."""
        start = jnp.broadcast_to(reserve[:, None], bid.shape)
        top = jnp.full_like(bid, self.edges[-1])
        between = self.integral(lambda law: 1.0 - self.highest(law), cumulative, start, bid)
        above = self.integral(lambda law: 1.0 - self.second(law), cumulative, bid, top)
        return start + between + above

    def price_without(self, cumulative: Array, reserve: Array) -> Array:
        """Seller's expected revenue when the follower stays out, shape (T,)."""
        top = jnp.full_like(reserve, self.edges[-1])
        above = self.integral(lambda law: 1.0 - self.second(law), cumulative, reserve, top)
        return reserve * (1.0 - self.unsold(cumulative, reserve)) + above

    def unsold(self, cumulative: Array, reserve: Array) -> Array:
        """Chance that no rival buys, shape (T,)."""
        return self.highest(self.law(cumulative, reserve))


def _cumulative(probability: Array) -> Float[Array, " edge"]:
    """F at the edges of the cells."""
    return jnp.concatenate([jnp.zeros(1), jnp.cumsum(jnp.asarray(probability))])


def _transition(unsold: Float[Array, " round"], ladder_steps: int) -> Array:
    """After staying out: the next round if no rival buys; else, and after a bid, the end."""
    num_rounds = unsold.shape[0]
    table = jnp.zeros((num_rounds + 1, ladder_steps + 1, num_rounds + 1))
    table = table.at[:, :, num_rounds].set(1.0)
    early = jnp.arange(num_rounds - 1)
    table = table.at[early, STAY_OUT, num_rounds].set(1.0 - unsold[:-1])
    return table.at[early, STAY_OUT, early + 1].set(unsold[:-1])


def _reserves(num_rounds: int, highest: float, initial_share: float) -> IncentiveSpace:
    start = float(np.log(initial_share / (1.0 - initial_share)))
    rounds = tuple(range(1, num_rounds + 1))
    return IncentiveSpace(
        initial={"reserve": jnp.full(num_rounds, start)},
        transform=lambda x: {"reserve": scaled_sigmoid(x["reserve"], 0.0, highest)},
        labels={
            "reserve": Labels(
                ("round",),
                {"round": (("round",), rounds)},
                unit="money",
                description="reserve price",
            )
        },
        start_scale=0.5,
        scale=1.0,
    )


def _labels(num_rounds: int, ladder_steps: int) -> dict[str, Any]:
    """Names and units of the problem."""
    states = (*(f"round {t + 1}" for t in range(num_rounds)), "over")
    return {
        "state_labels": Labels(("state",), {"round": (("state",), states)}),
        "action_names": ("stay out", *(f"bid {j}/{ladder_steps}" for j in range(ladder_steps))),
        "objective_unit": "money",
        "parameter_units": {
            "temperature": "money",
            "rationality": "1 / money",
            "participation_cost": "money",
            "context_probability": "probability",
        },
    }


def _check_settings(
    num_rivals: int, num_rounds: int, num_bids: int | None, highest: float, cost: float
) -> None:
    given = {
        "num_rivals": num_rivals,
        "num_rounds": num_rounds,
        "num_bids": num_bids,
        "highest_value": highest,
        "participation_cost": cost,
    }
    require_ranges(
        given,
        "settings of the sale",
        num_rivals=">= 0",
        num_rounds=">= 1",
        num_bids=">= 1 or None",
        highest_value="(0, inf)",
        participation_cost="[0, inf)",
    )


def _checked_cells(value_probability: tuple[float, ...], initial_share: float) -> int:
    """Return the number of value cells; that they are a distribution the contexts check."""
    if len(value_probability) < 2:
        raise InvalidInputError(
            "the law of values needs cells",
            received=value_probability,
            accepted="at least 2 probabilities",
        )
    require_ranges({"initial_share": initial_share}, "settings of the sale", initial_share="(0, 1)")
    return len(value_probability)
