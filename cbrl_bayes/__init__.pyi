from . import (
    behaviour as behaviour,
    calibration as calibration,
    designs as designs,
    errors as errors,
    files as files,
    followers as followers,
    hypergradients as hypergradients,
    inference as inference,
    information as information,
    mdp as mdp,
    plots as plots,
    problems as problems,
    reports as reports,
    results as results,
    robust as robust,
    sensitivity as sensitivity,
)
from .behaviour import (
    check_trajectories as check_trajectories,
    concatenate as concatenate,
    data_report as data_report,
    from_table as from_table,
    load_trajectories as load_trajectories,
    load_zurcher as load_zurcher,
    make_trajectories as make_trajectories,
    save_trajectories as save_trajectories,
    simulate_trajectories as simulate_trajectories,
    with_incentives as with_incentives,
)
from .calibration import (
    CalibrationSettings as CalibrationSettings,
    DecisionCalibrationSettings as DecisionCalibrationSettings,
    calibrate_decisions as calibrate_decisions,
    calibrate_inference as calibrate_inference,
    decision_coverage as decision_coverage,
    rank_uniformity as rank_uniformity,
)
from .designs import (
    AcrossContexts as AcrossContexts,
    CVaR as CVaR,
    DaskExecutor as DaskExecutor,
    DesignSettings as DesignSettings,
    DeviceExecutor as DeviceExecutor,
    ExactEvaluation as ExactEvaluation,
    Expectation as Expectation,
    MeanVariance as MeanVariance,
    MinimaxRegret as MinimaxRegret,
    SimulatedEvaluation as SimulatedEvaluation,
    ThreadExecutor as ThreadExecutor,
    VaR as VaR,
    WorstCase as WorstCase,
)
from .errors import CbrlBayesError as CbrlBayesError
from .files import FileLimits as FileLimits
from .hypergradients import (
    AMD as AMD,
    HPGD as HPGD,
    RTQ as RTQ,
    Ascent as Ascent,
    BoltzmannCovariance as BoltzmannCovariance,
    DoublyRobust as DoublyRobust,
    Exact as Exact,
    LawPrior as LawPrior,
    LearnedModel as LearnedModel,
    Penalty as Penalty,
    Rounds as Rounds,
    RoundsProgram as RoundsProgram,
    Search as Search,
    SoBiRL as SoBiRL,
    ZerothOrder as ZerothOrder,
    global_search as global_search,
)
from .inference import (
    BehaviourSimulation as BehaviourSimulation,
    ContextFamily as ContextFamily,
    Hierarchical as Hierarchical,
    NUTSSettings as NUTSSettings,
    PerGroup as PerGroup,
    Pooled as Pooled,
    SVISettings as SVISettings,
)
from .information import (
    Experiment as Experiment,
    InformationSettings as InformationSettings,
    information_table as information_table,
    value_of_information as value_of_information,
)
from .mdp import (
    MDP as MDP,
    DenseTransition as DenseTransition,
    SuccessorTransition as SuccessorTransition,
    best_response as best_response,
)
from .problems import (
    Chain as Chain,
    DiscreteContexts as DiscreteContexts,
    Followers as Followers,
    Grid as Grid,
    GridModel as GridModel,
    IncentiveSpace as IncentiveSpace,
    Labels as Labels,
    Problem as Problem,
    SampledContexts as SampledContexts,
    Shock as Shock,
    leader_outcome as leader_outcome,
)
from .reports import report as report
from .results import (
    check_tree as check_tree,
    error_budget as error_budget,
    from_draws as from_draws,
    load as load,
    recommendation as recommendation,
    save as save,
    summary as summary,
)
from .robust import (
    CostAtMost as CostAtMost,
    FollowerValueAtLeast as FollowerValueAtLeast,
    ObjectiveAtLeast as ObjectiveAtLeast,
    RobustSettings as RobustSettings,
    compare_designs as compare_designs,
    robust_designs as robust_designs,
)
from .sensitivity import (
    AlteredProblem as AlteredProblem,
    ContextShift as ContextShift,
    FollowerComparisonSettings as FollowerComparisonSettings,
    PriorSensitivitySettings as PriorSensitivitySettings,
    SobolSettings as SobolSettings,
    StressSettings as StressSettings,
    TemperatureShift as TemperatureShift,
    TransitionBlur as TransitionBlur,
    compare_followers as compare_followers,
    loss_table as loss_table,
    prior_sensitivity as prior_sensitivity,
    sensitivity_table as sensitivity_table,
    sobol_indices as sobol_indices,
    sobol_table as sobol_table,
    stress_table as stress_table,
    stress_test as stress_test,
)
from .version import __version__ as __version__
from .workflow import design as design, infer as infer
