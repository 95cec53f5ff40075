"""Files from strangers: bounded before anything is allocated, read once where no harm is done."""

from cbrl_bayes.files.check import check_file, check_size
from cbrl_bayes.files.limits import DEFAULT_LIMITS, FileLimits

__all__ = ["DEFAULT_LIMITS", "FileLimits", "check_file", "check_size"]
