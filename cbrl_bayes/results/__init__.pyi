from .assembly import (
    add_design as add_design,
    add_response as add_response,
    incentive_names as incentive_names,
)
from .checkpoint import Checkpoint as Checkpoint, Records as Records, open_records as open_records
from .draws import from_draws as from_draws
from .dynamics import with_seldom_share as with_seldom_share
from .error_budget import error_budget as error_budget
from .fitted import fit_tree as fit_tree
from .health import Health as Health, assess as assess
from .identity import identify as identify
from .ingredients import (
    Designed as Designed,
    designed as designed,
    posterior_draws as posterior_draws,
    thinned as thinned,
    with_groups as with_groups,
)
from .invalid_mdps import with_invalid_mdps as with_invalid_mdps
from .keywords import running as running
from .learned_law import learn_law as learn_law, with_watched_law as with_watched_law
from .names import design_title as design_title
from .next_period import for_next_period as for_next_period
from .provenance import certificate as certificate, fingerprint as fingerprint
from .recommendation import Recommendation as Recommendation, recommendation as recommendation
from .response import with_response as with_response
from .schema import check_tree as check_tree, tree_violations as tree_violations
from .storage import load as load, save as save
from .summary import summary as summary
from .table import (
    Table as Table,
    check_interval as check_interval,
    need_group as need_group,
    study_table as study_table,
)
