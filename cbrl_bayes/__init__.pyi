from . import behaviour as behaviour
from . import decisions as decisions
from . import errors as errors
from . import followers as followers
from . import hypergradients as hypergradients
from . import inference as inference
from . import mdp as mdp
from . import plots as plots
from . import problems as problems
from . import results as results
from .behaviour import (
    check_trajectories as check_trajectories,
    from_table as from_table,
    load_trajectories as load_trajectories,
    load_zurcher as load_zurcher,
    make_trajectories as make_trajectories,
    save_trajectories as save_trajectories,
    simulate_trajectories as simulate_trajectories,
)
from .decisions import (
    DesignSettings as DesignSettings,
    ExactEvaluation as ExactEvaluation,
    SimulatedEvaluation as SimulatedEvaluation,
)
from .errors import CbrlBayesError as CbrlBayesError
from .hypergradients import (
    Ascent as Ascent,
    Search as Search,
    global_search as global_search,
)
from .inference import (
    ContextFamily as ContextFamily,
    Hierarchical as Hierarchical,
    NUTSSettings as NUTSSettings,
    PerGroup as PerGroup,
    Pooled as Pooled,
    SVISettings as SVISettings,
)
from .mdp import (
    MDP as MDP,
    DenseTransition as DenseTransition,
    SuccessorTransition as SuccessorTransition,
    best_response as best_response,
)
from .problems import (
    DiscreteContexts as DiscreteContexts,
    Followers as Followers,
    IncentiveSpace as IncentiveSpace,
    Labels as Labels,
    Problem as Problem,
    SampledContexts as SampledContexts,
    leader_outcome as leader_outcome,
)
from .results import (
    check_tree as check_tree,
    load as load,
    save as save,
    summary as summary,
)
from .workflow import (
    design as design,
    exact as exact,
    hpgd as hpgd,
    infer as infer,
)

__version__: str
