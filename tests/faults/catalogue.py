"""All tried faults, in the order of the page."""

from tests.faults import (
    checkpoints,
    command_line,
    data,
    incentives,
    misuse,
    models,
    names,
    posterior,
    searches,
    settings,
    storage,
    units,
)

ROOMS = (
    data,
    names,
    models,
    incentives,
    misuse,
    posterior,
    settings,
    units,
    searches,
    storage,
    checkpoints,
    command_line,
)

FAULTS = [fault for room in ROOMS for fault in room.FAULTS]
