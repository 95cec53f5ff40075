"""Files: those from strangers are bounded and read apart; new ones are whole or not at all."""

from cbrl_bayes.files.check import check_file, check_size
from cbrl_bayes.files.limits import DEFAULT_LIMITS, FileLimits
from cbrl_bayes.files.netcdf import netcdf_bytes
from cbrl_bayes.files.plain import (
    given_attributes,
    given_name,
    plain_attributes,
    reserved_attributes,
    stored_name,
)
from cbrl_bayes.files.replace import replacing, stands_there

__all__ = [
    "DEFAULT_LIMITS",
    "FileLimits",
    "check_file",
    "check_size",
    "given_attributes",
    "given_name",
    "netcdf_bytes",
    "plain_attributes",
    "replacing",
    "reserved_attributes",
    "stands_there",
    "stored_name",
]
