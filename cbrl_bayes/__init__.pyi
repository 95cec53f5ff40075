from . import behaviour as behaviour
from . import decisions as decisions
from . import errors as errors
from . import files as files
from . import followers as followers
from . import hypergradients as hypergradients
from . import inference as inference
from . import mdp as mdp
from . import plots as plots
from . import problems as problems
from . import reports as reports
from . import results as results
from .behaviour import (
    check_trajectories as check_trajectories,
)
from .behaviour import (
    from_table as from_table,
)
from .behaviour import (
    load_trajectories as load_trajectories,
)
from .behaviour import (
    load_zurcher as load_zurcher,
)
from .behaviour import (
    make_trajectories as make_trajectories,
)
from .behaviour import (
    save_trajectories as save_trajectories,
)
from .behaviour import (
    simulate_trajectories as simulate_trajectories,
)
from .choice import (
    robust_designs as robust_designs,
)
from .decisions import (
    AcrossContexts as AcrossContexts,
)
from .decisions import (
    AlteredProblem as AlteredProblem,
)
from .decisions import (
    ContextShift as ContextShift,
)
from .decisions import (
    CostAtMost as CostAtMost,
)
from .decisions import (
    CVaR as CVaR,
)
from .decisions import (
    DesignSettings as DesignSettings,
)
from .decisions import (
    ExactEvaluation as ExactEvaluation,
)
from .decisions import (
    Expectation as Expectation,
)
from .decisions import (
    Experiment as Experiment,
)
from .decisions import (
    FollowerValueAtLeast as FollowerValueAtLeast,
)
from .decisions import (
    MeanVariance as MeanVariance,
)
from .decisions import (
    MinimaxRegret as MinimaxRegret,
)
from .decisions import (
    ObjectiveAtLeast as ObjectiveAtLeast,
)
from .decisions import (
    RobustSettings as RobustSettings,
)
from .decisions import (
    SimulatedEvaluation as SimulatedEvaluation,
)
from .decisions import (
    TemperatureShift as TemperatureShift,
)
from .decisions import (
    TransitionBlur as TransitionBlur,
)
from .decisions import (
    VaR as VaR,
)
from .decisions import (
    WorstCase as WorstCase,
)
from .errors import CbrlBayesError as CbrlBayesError
from .files import FileLimits as FileLimits
from .hypergradients import (
    Ascent as Ascent,
)
from .hypergradients import (
    Search as Search,
)
from .hypergradients import (
    global_search as global_search,
)
from .inference import (
    BehaviourSimulation as BehaviourSimulation,
)
from .inference import (
    CalibrationSettings as CalibrationSettings,
)
from .inference import (
    ContextFamily as ContextFamily,
)
from .inference import (
    Hierarchical as Hierarchical,
)
from .inference import (
    NUTSSettings as NUTSSettings,
)
from .inference import (
    PerGroup as PerGroup,
)
from .inference import (
    Pooled as Pooled,
)
from .inference import (
    SVISettings as SVISettings,
)
from .mdp import (
    MDP as MDP,
)
from .mdp import (
    DenseTransition as DenseTransition,
)
from .mdp import (
    SuccessorTransition as SuccessorTransition,
)
from .mdp import (
    best_response as best_response,
)
from .problems import (
    DiscreteContexts as DiscreteContexts,
)
from .problems import (
    Followers as Followers,
)
from .problems import (
    IncentiveSpace as IncentiveSpace,
)
from .problems import (
    Labels as Labels,
)
from .problems import (
    Problem as Problem,
)
from .problems import (
    SampledContexts as SampledContexts,
)
from .problems import (
    leader_outcome as leader_outcome,
)
from .reports import (
    report as report,
)
from .results import (
    calibrate_decisions as calibrate_decisions,
)
from .results import (
    calibrate_inference as calibrate_inference,
)
from .results import (
    check_tree as check_tree,
)
from .results import (
    compare_designs as compare_designs,
)
from .results import (
    decision_coverage as decision_coverage,
)
from .results import (
    error_budget as error_budget,
)
from .results import (
    information_table as information_table,
)
from .results import (
    load as load,
)
from .results import (
    loss_table as loss_table,
)
from .results import (
    rank_uniformity as rank_uniformity,
)
from .results import (
    save as save,
)
from .results import (
    sensitivity_table as sensitivity_table,
)
from .results import (
    stress_table as stress_table,
)
from .results import (
    summary as summary,
)
from .robustness import (
    compare_followers as compare_followers,
)
from .robustness import (
    prior_sensitivity as prior_sensitivity,
)
from .robustness import (
    sobol_indices as sobol_indices,
)
from .robustness import (
    stress_test as stress_test,
)
from .valuation import (
    value_of_information as value_of_information,
)
from .workflow import (
    design as design,
)
from .workflow import (
    exact as exact,
)
from .workflow import (
    hpgd as hpgd,
)
from .workflow import (
    infer as infer,
)

__version__: str
