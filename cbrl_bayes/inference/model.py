"""The NumPyro model of behaviour: priors, best responses, counts."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np
import numpyro
import numpyro.distributions as dist
from jaxtyping import Array

from cbrl_bayes.behaviour import BehaviourCounts
from cbrl_bayes.errors import DataError, InvalidInputError
from cbrl_bayes.inference.counted import counts_law
from cbrl_bayes.inference.dirichlet_rows import DirichletRows
from cbrl_bayes.inference.drift import Drift
from cbrl_bayes.inference.known import check_known, drawn, is_known
from cbrl_bayes.inference.law_counts import check_transitions, transition_counts
from cbrl_bayes.inference.likelihood import (
    choice_rows,
    context_evidence,
    episode_log_likelihood,
    latent_log_likelihood,
    policies,
    row_policies,
    transition_log_likelihood,
    with_populations,
)
from cbrl_bayes.inference.priors import (
    ContextFamily,
    OfGroups,
    PerGroup,
    Prior,
    known_values,
    require_unknown,
)
from cbrl_bayes.inference.unknown_law import UnknownLaw
from cbrl_bayes.mdp import is_traced
from cbrl_bayes.problems import LAW, DiscreteContexts, Problem


@dataclass(frozen=True)
class BehaviourModel:
    """A joint model of contexts, follower parameters and observed behaviour.

    Sites: one per uncertain parameter (plus ``*_population``, ``*_spread``, ``*_offset`` of a
    hierarchy), deterministic what is known and ``rationality`` or what the problem derives,
    ``action_count``
    (choices in each visited decision point), ``context_count``, and ``solve_status``.

    Parameters
    ----------
    problem : Problem
    counts : BehaviourCounts
    priors : mapping
        From `default_priors`.
    context_family : ContextFamily, optional
        For problems with continuous contexts.

    Notes
    -----
    Calling the model with ``condition=False`` simulates instead of conditioning.
    """

    problem: Problem
    counts: BehaviourCounts
    priors: Mapping[str, Prior]
    context_family: ContextFamily | None = None

    def __post_init__(self) -> None:
        placed = {
            name: prior.placed(self.counts.groups) if isinstance(prior, Drift) else prior
            for name, prior in self.priors.items()
        }
        object.__setattr__(self, "priors", placed)
        discrete = isinstance(self.problem.contexts, DiscreteContexts)
        if discrete == (self.context_family is not None):
            raise _unfit_family(self.problem)
        family = self.context_family.priors if self.context_family else {}
        unknown = sorted({*self.priors, *family} - set(self.problem.default_parameters))
        if unknown:
            raise InvalidInputError(
                f"problem {self.problem.name!r} has no parameters {unknown}",
                accepted=", ".join(sorted(self.problem.default_parameters)),
            )
        for name, law in family.items():
            if is_known(law):
                check_known(self.problem, name, np.asarray(law.v), per_group=False)
        self._check_population()
        self._check_groups()
        self._check_contexts()
        law = self.unknown_law
        if law is not None:
            check_transitions(self.problem, self.counts, law)

    @property
    def known(self) -> dict[str, np.ndarray]:
        """Parameters whose value is known, and the value: one, or one per group."""
        return known_values(self.priors, self.context_family, len(self.counts.groups))

    def require_unknown(self) -> None:
        """Raise if every parameter is known: then there is nothing to infer."""
        require_unknown(self.priors, self.context_family, len(self.counts.groups))
        others = {n: prior for n, prior in self.priors.items() if n != LAW}
        if self.cut_law is not None:
            # Beside a law that is cut from the rest there must be a rest.
            require_unknown(others, self.context_family, len(self.counts.groups))

    @property
    def unknown_law(self) -> UnknownLaw | None:
        """What is believed of the transition law, where it is not known."""
        law = self.priors.get(LAW)
        return law if isinstance(law, UnknownLaw) else None

    @property
    def cut_law(self) -> DirichletRows | None:
        """The posterior of a transition law that is learned from transitions alone, or None."""
        law = self.unknown_law
        if law is None or law.is_joint:
            return None
        return law.given(transition_counts(self.problem, self.counts))

    @property
    def varies_by_group(self) -> list[str]:
        """Names of the parameters that have one value per group."""
        return [n for n, p in self.priors.items() if isinstance(p, OfGroups)]

    def __call__(self, *, condition: bool = True) -> None:
        """Run the model under NumPyro's handlers."""
        problem, counts = self.problem, self.counts
        parameters = with_populations(problem, counts, self.parameters())
        latent = counts.has_latent_contexts
        if latent:
            log_policy, status = policies(problem, counts, parameters)
            rows = choice_rows(counts, log_policy)
        else:
            rows, status = row_policies(problem, counts, parameters)
        numpyro.deterministic("solve_status", status)
        self.observe(parameters, rows, condition=condition)
        if condition and latent:
            weights = jnp.log(parameters["context_probability"])
            evidence = context_evidence(problem, counts, parameters)
            total = latent_log_likelihood(counts, log_policy, weights, evidence)
            numpyro.factor("latent_contexts", total)
        if condition and len(counts.transition_count):
            numpyro.factor("transitions", transition_log_likelihood(problem, counts, parameters))

    def parameters(self) -> dict[str, Any]:
        """Sample all parameters inside NumPyro, and record what the problem derives from them."""
        parameters = self.problem.default_parameters
        for name, prior in self.priors.items():
            parameters[name] = prior.sample(name, len(self.counts.groups))
        if self.context_family is not None:
            parameters |= {
                name: drawn(name, prior) for name, prior in self.context_family.priors.items()
            }
        for name, value in self.problem.derived(parameters).items():
            numpyro.deterministic(name, value)
        return parameters

    def observe(
        self, parameters: Mapping[str, Any], rows: Array, *, condition: bool = True
    ) -> None:
        """State inside NumPyro the laws of contexts and choices, on condition of the data or not.

        Parameters
        ----------
        parameters : mapping
        rows : array, shape (rows, A)
            Log policy in each decision point (`choice_rows`).
        condition : bool
            If False, contexts and choices are drawn.
        """
        if self.context_family is not None:
            values = jnp.asarray(self.counts.context_values)[self.counts.episode_context]
            with numpyro.plate("episode", values.shape[0]):
                numpyro.sample(
                    "context_value",
                    self.context_family.family_fn(parameters),
                    obs=values if condition else None,
                )
        self._choices(rows, condition)
        if "context_probability" in self.priors:
            self._contexts(parameters["context_probability"], condition)

    def complete(self, sampled: Mapping[str, Array]) -> dict[str, Any]:
        """Return all parameters of one draw: defaults with known and sampled ones put in."""
        parameters = self.problem.default_parameters
        parameters |= {name: jnp.asarray(value) for name, value in self.known.items()}
        return parameters | {n: jnp.asarray(v) for n, v in sampled.items() if n in parameters}

    def pointwise(self, parameters: Mapping[str, Any], log_policy: Array) -> Array:
        """Return the log-likelihood of each episode, shape (episodes,), in one draw.

        Parameters
        ----------
        parameters : mapping
            All of them.
        log_policy : array, shape (cells, S, A)
            Under these parameters (`policies`).
        """
        if self.context_family is None:
            return episode_log_likelihood(
                self.counts,
                log_policy,
                jnp.log(parameters["context_probability"]),
                context_evidence(self.problem, self.counts, parameters),
            )
        none = jnp.zeros(len(self.counts.context_count))
        choices = episode_log_likelihood(self.counts, log_policy, none)
        return choices + self.context_densities(parameters)

    def context_densities(self, parameters: Mapping[str, Any]) -> Array:
        """Return the log density of each context, shape (C,), or of each episode's, of a family."""
        if self.context_family is None:
            return jnp.log(parameters["context_probability"])
        values = jnp.asarray(self.counts.context_values)[self.counts.episode_context]
        return self.context_family.family_fn(parameters).log_prob(values)

    def _check_population(self) -> None:
        """Refuse groups that are not the problem's followers where followers meet."""
        problem, groups = self.problem, self.counts.groups
        if problem.population is None or not self.varies_by_group:
            return
        if any(isinstance(self.priors[name], Drift) for name in self.varies_by_group):
            raise InvalidInputError(
                "followers who meet cannot drift: each period would need its own equilibrium",
                received=f"a Drift of {', '.join(self.varies_by_group)}",
                accepted="Pooled, PerGroup or Hierarchical",
            )
        if tuple(groups) != problem.followers.names:
            raise InvalidInputError(
                "followers who meet make one population: the groups of the data must be the "
                "problem's followers",
                received=", ".join(groups),
                accepted=", ".join(problem.followers.names),
                remedy="problem.with_followers(names, weights)",
            )

    def _check_groups(self) -> None:
        """Refuse known values that are not one per group."""
        groups = self.counts.groups
        for name in self.varies_by_group:
            prior = self.priors[name]
            if isinstance(prior, PerGroup) and is_known(prior.prior):
                shape = np.shape(prior.prior.v)
                if shape not in ((), (len(groups),)):
                    raise InvalidInputError(
                        f"the known values of {name!r} do not fit the groups in the data",
                        received=f"shape {shape}: {np.asarray(prior.prior.v).tolist()}",
                        accepted=f"one number, or {len(groups)}, in the order {', '.join(groups)}",
                    )

    def _check_contexts(self) -> None:
        """Refuse a known law of contexts that rules out one that was observed."""
        law, seen = self.known.get("context_probability"), self.counts.context_count
        if law is None or is_traced(seen):
            return
        names = getattr(self.problem.contexts, "names", ())
        wrong = [name for name, p, n in zip(names, law, seen, strict=True) if n > 0 and p == 0]
        if wrong:
            raise DataError(
                "the known context_probability rules out contexts that were observed",
                received=f"probability 0 of {', '.join(wrong)}",
                remedy="another value, or a Dirichlet prior",
            )

    def _choices(self, rows: Array, condition: bool) -> None:
        observed = self.counts.action_count
        if len(observed) == 0:
            return
        with numpyro.plate("decision_point", len(observed)):
            numpyro.sample(
                "action_count",
                dist.Multinomial(total_count=jnp.asarray(observed.sum(1)), logits=rows)
                if condition
                else counts_law(observed.sum(1), rows),
                obs=jnp.asarray(observed) if condition else None,
            )

    def _contexts(self, probability: Array, condition: bool) -> None:
        observed, total = self.counts.context_count, self.counts.num_observed_contexts
        if total == 0:
            return
        numpyro.sample(
            "context_count",
            dist.Multinomial(total_count=total, probs=probability)
            if condition
            else counts_law(np.asarray(total), jnp.log(probability)),
            obs=jnp.asarray(observed) if condition else None,
        )


def _unfit_family(problem: Problem) -> InvalidInputError:
    """Return what to say where contexts and their family do not go together."""
    names = sorted(problem.contexts.default_parameters)
    if isinstance(problem.contexts, DiscreteContexts):
        return InvalidInputError(
            f"the contexts of problem {problem.name!r} are listed; their law needs no family",
            received="context_family",
            accepted="context_family=None",
            remedy="priors={'context_probability': ...}; SampledContexts for a continuous family",
        )
    laws = ", ".join(f"{name!r}: its prior" for name in names)
    return InvalidInputError(
        f"the contexts of problem {problem.name!r} are sampled (SampledContexts), and their "
        "density is not known",
        received="context_family=None",
        accepted="the distribution that sample_fn draws from, as a function of the parameters",
        remedy="pass context_family=cb.ContextFamily(lambda p: dist.Normal(...), "
        f"{{{laws}}}), with the distribution of one context",
    )
