"""The commands that ask a study something: information, sensitivity, stress."""

from pathlib import Path
from typing import Annotated

import typer

from cbrl_bayes.cli.input import (
    AcceptFailed,
    AProblem,
    CheckpointFolder,
    DaskAddress,
    Json,
    Kind,
    Output,
    PenaltyWeight,
    Prob,
    Seed,
    Slip,
    Temperature,
    as_fitted,
    chosen_problem,
    on_dask,
)
from cbrl_bayes.cli.output import finish

Study = Annotated[Path, typer.Argument(help="A study from 'design'.")]
HALF_AND_TWICE = [0.5, 2.0]


def information(
    context: typer.Context,
    problem: AProblem,
    file: Study,
    output: Output = None,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Say what knowing more would be worth: everything, or each parameter."""
    import jax

    from cbrl_bayes.information import information_table, value_of_information
    from cbrl_bayes.results import load

    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    study = load(file)
    chosen = as_fitted(chosen, study)
    tree = value_of_information(
        chosen, study, key=jax.random.key(seed), checkpoint=checkpoint, executor=on_dask(dask)
    )
    finish(context, tree, information_table(tree, prob=prob, accept_failed=accept_failed), study)


def sensitivity(
    context: typer.Context,
    problem: AProblem,
    file: Study,
    output: Output = None,
    sobol: Annotated[
        bool, typer.Option("--sobol", help="Which parameter matters most, not prior and data.")
    ] = False,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Say how prior and data move the results, or (--sobol) which parameter does."""
    import jax

    from cbrl_bayes.results import load
    from cbrl_bayes.sensitivity import (
        prior_sensitivity,
        sensitivity_table,
        sobol_indices,
        sobol_table,
    )

    ask, show = (sobol_indices, sobol_table) if sobol else (prior_sensitivity, sensitivity_table)
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    study = load(file)
    chosen = as_fitted(chosen, study)
    tree = ask(
        chosen, study, key=jax.random.key(seed), checkpoint=checkpoint, executor=on_dask(dask)
    )
    finish(context, tree, show(tree, prob=prob, accept_failed=accept_failed), study)


def stress(
    context: typer.Context,
    problem: AProblem,
    file: Study,
    output: Output = None,
    factor: Annotated[
        list[float], typer.Option(help="Worlds where every lambda is multiplied by this.")
    ] = HALF_AND_TWICE,
    checkpoint: CheckpointFolder = None,
    dask: DaskAddress = None,
    seed: Seed = 0,
    prob: Prob = 0.9,
    kind: Kind = "eti",
    temperature: Temperature = None,
    penalty_weight: PenaltyWeight = None,
    slip: Slip = None,
    accept_failed: AcceptFailed = False,
    as_json: Json = False,
) -> None:
    """Say what the designs achieve where followers are more or less rational than inferred."""
    import jax

    from cbrl_bayes.results import check_interval, load
    from cbrl_bayes.sensitivity import TemperatureShift, stress_table, stress_test

    check_interval(prob, kind)
    chosen = chosen_problem(problem, temperature, penalty_weight, slip)
    study = load(file)
    chosen = as_fitted(chosen, study)
    tree = stress_test(
        chosen,
        study,
        key=jax.random.key(seed),
        stresses=[*map(TemperatureShift, factor)],
        checkpoint=checkpoint,
        executor=on_dask(dask),
    )
    table = stress_table(tree, prob=prob, kind=kind, accept_failed=accept_failed)
    finish(context, tree, table, study)
