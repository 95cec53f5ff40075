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
from .decisions import (
    DesignSettings as DesignSettings,
)
from .decisions import (
    ExactEvaluation as ExactEvaluation,
)
from .decisions import (
    SimulatedEvaluation as SimulatedEvaluation,
)
from .errors import CbrlBayesError as CbrlBayesError
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
from .results import (
    check_tree as check_tree,
)
from .results import (
    load as load,
)
from .results import (
    save as save,
)
from .results import (
    summary as summary,
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
