"""What files cannot hold as it is, as text: attributes of any type, and names with a slash."""

import json
from collections.abc import Mapping
from typing import Any

import numpy as np

AS_JSON = "attributes_as_json"
"""Attribute that lists which others beside it are JSON text."""

RESERVED = {
    "_FillValue",
    "_Unsigned",
    "_NCProperties",
    "_Netcdf4Coordinates",
    "_Netcdf4Dimid",
    "_ARRAY_DIMENSIONS",
    "_nc3_strict",
    "CLASS",
    "DIMENSION_LIST",
    "NAME",
    "REFERENCE_LIST",
    "add_offset",
    "coordinates",
    "dtype",
    "missing_value",
    "scale_factor",
    AS_JSON,
}
"""Names of attributes with a meaning of their own for netCDF, HDF5 or xarray."""

SIGNS = {"%": "%25", "/": "%2F"}
WIDEST_WHOLE = 2**63 - 1


def plain_attributes(given: Mapping[Any, Any]) -> dict[str, Any]:
    """Return attributes that netCDF and zarr both hold.

    Texts, numbers and lists of several of either stay. Everything else becomes JSON text (None,
    truth values, dictionaries, mixed and short lists), in which an object that JSON does not know
    is its text (paths, dates). `given_attributes` turns JSON text back.

    Examples
    --------
    >>> kept = plain_attributes({"note": None, "seed": 3, "by": {"who": "me"}})
    >>> kept["note"], kept["seed"], given_attributes(kept)
    ('null', 3, {'note': None, 'seed': 3, 'by': {'who': 'me'}})
    """
    plain: dict[str, Any] = {}
    as_json = []
    for key, value in given.items():
        name = str(key)
        value = value.tolist() if isinstance(value, np.generic) else value
        if _is_plain(value):
            plain[name] = value
        else:
            plain[name] = _json_of(value)
            as_json.append(name)
    return plain | ({AS_JSON: json.dumps(as_json)} if as_json else {})


def given_attributes(plain: Mapping[Any, Any]) -> dict[str, Any]:
    """Return the attributes that `plain_attributes` made texts of.

    What is marked as JSON text and is none stays text: a file may have been changed.
    """
    kept = {str(name): value for name, value in plain.items() if name != AS_JSON}
    try:
        marked = json.loads(plain.get(AS_JSON, "[]"))
    except (TypeError, ValueError):
        return kept
    for name in marked if isinstance(marked, list) else []:
        try:
            kept[name] = json.loads(kept[name])
        except (TypeError, ValueError, KeyError, RecursionError):
            continue
    return kept


def reserved_attributes(given: Mapping[Any, Any]) -> list[str]:
    """Return the names among the attributes that no file can hold as they are."""
    return sorted(str(name) for name in given if str(name) in RESERVED or not str(name).strip())


def stored_name(name: str) -> str:
    """Return a variable's name as files hold it: a slash would be a folder there.

    Examples
    --------
    >>> stored_name("incentive_euro/week"), given_name("incentive_euro%2Fweek")
    ('incentive_euro%2Fweek', 'incentive_euro/week')
    """
    for sign, code in SIGNS.items():
        name = name.replace(sign, code)
    return name


def given_name(name: str) -> str:
    """Return the name that `stored_name` changed."""
    for sign, code in reversed(SIGNS.items()):
        name = name.replace(code, sign)
    return name


def _is_plain(value: Any) -> bool:
    if isinstance(value, str):
        return "\0" not in value and _is_unicode(value)
    if isinstance(value, int):
        return not isinstance(value, bool) and abs(value) <= WIDEST_WHOLE
    if isinstance(value, np.ndarray):
        return value.ndim == 1 and value.size > 1 and value.dtype.kind in "iuf"
    if isinstance(value, list | tuple):
        kinds = {type(entry) for entry in value}
        several = len(value) > 1 and len(kinds) == 1 and kinds <= {str, int, float}
        return several and all(map(_is_plain, value))
    return isinstance(value, float)


def _is_unicode(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _json_of(value: Any) -> str:
    """Return JSON text; where a value goes round in a circle, the text that Python prints."""
    try:
        return json.dumps(_jsonable(value))
    except (ValueError, RecursionError):
        return json.dumps(_text(value))


def _jsonable(value: Any) -> Any:
    if value is None or isinstance(value, bool | int | float | str):
        return value
    if isinstance(value, np.generic | np.ndarray) and value.dtype.kind in "biufU":
        return value.tolist()
    if isinstance(value, Mapping):
        return {str(name): _jsonable(entry) for name, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [_jsonable(entry) for entry in value]
    return _text(value)


def _text(value: Any) -> str:
    try:
        return value.decode() if isinstance(value, bytes) else str(value)
    except Exception:  # an object whose text cannot be made
        return type(value).__name__
