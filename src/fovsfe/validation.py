"""Says in plain words what is wrong with settings that a pydantic model has refused."""

import difflib
import json
from collections.abc import Iterator, Sequence
from types import NoneType, UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from pydantic import BaseModel, ValidationError
from pydantic.fields import FieldInfo

Location = tuple[int | str, ...]


def explain(error: ValidationError, model: type[BaseModel]) -> list[str]:
    """Returns one text per error: the key, what it was given, and what is allowed or the nearest key.

    Args:
        error: what validating settings as `model` has raised.
        model: its tables are fields that are models themselves.
    """
    texts: dict[str, str] = {}  # by key: of the errors of several alternatives, the first says it all
    for detail in error.errors():
        if detail["type"] == "too_short" and detail["input"]:
            continue  # pydantic counts valid entries only: a wrong one, named already, is also one too few
        location, hint = _field_at(model, detail["loc"])
        key = ".".join(map(str, location))
        match detail["type"]:
            case "extra_forbidden":
                key = ".".join(map(str, detail["loc"]))
                text = _unknown_key(key, hint, model)
            case "missing":
                text = f"{key} is missing: it must be {_allowed(hint)}"
            case "value_error":
                reason = detail["msg"].removeprefix("Value error, ")
                text = f"{key}: {reason}" if key else reason
            case _:
                text = f"{key} = {_shown(detail['input'])}: must be {_allowed(hint)}"
        texts.setdefault(key, text)
    return list(texts.values())


def nearest(word: str, choices: Sequence[str]) -> str | None:
    """Returns the choice most like a mistyped word; None if none is like it."""
    return next(iter(difflib.get_close_matches(word, choices, n=1)), None)


# ---- keys


def _field_at(model: type[BaseModel], location: Location) -> tuple[Location, Any]:
    """Follows a location as far as it names fields and entries; returns that part of it, and its type."""
    hint: Any = model
    for depth, part in enumerate(location):
        plain = _plain(hint)
        if isinstance(part, str) and _is_model(plain) and part in plain.model_fields:
            hint = get_type_hints(plain, include_extras=True)[part]
        elif isinstance(part, int) and get_origin(plain) is tuple:
            entries = [entry for entry in get_args(plain) if entry is not Ellipsis]
            hint = entries[min(part, len(entries) - 1)]
        else:  # an unknown key, or one of the alternatives of a type
            return location[:depth], hint
    return location, hint


def _unknown_key(key: str, table: Any, model: type[BaseModel]) -> str:
    plain = _plain(table)
    allowed = list(plain.model_fields) if _is_model(plain) else []
    near = _nearest_key(key.rpartition(".")[2], allowed, model)
    hint = f'did you mean "{near}"? ' if near else ""
    keys = f"allowed are {', '.join(allowed)}" if allowed else "this table has no keys"
    return f'unknown key "{key}": {hint}{keys}'


def _nearest_key(name: str, allowed: Sequence[str], model: type[BaseModel]) -> str | None:
    """Returns the most similar key of the same table, or else of another one, with that table before it."""
    if near := nearest(name, allowed):
        return near
    elsewhere: dict[str, str] = {}
    for key in _every_key(model):
        elsewhere.setdefault(key.rpartition(".")[2], key)
    near = nearest(name, list(elsewhere))
    return elsewhere[near] if near else None


def _every_key(model: type[BaseModel]) -> Iterator[str]:
    """Yields all keys, such as "seed", "about.ru.noun" and "members.0.size"; those of upper tables first."""
    tables = []
    for name, hint in get_type_hints(model, include_extras=True).items():
        if name not in model.model_fields:
            continue
        yield name
        plain = _plain(hint)
        if _is_model(plain):
            tables.append((name, plain))
        elif get_origin(plain) is tuple and _is_model(get_args(plain)[0]):
            tables.append((f"{name}.0", get_args(plain)[0]))
    for prefix, table in tables:
        yield from (f"{prefix}.{key}" for key in _every_key(table))


def _is_model(hint: Any) -> bool:
    return isinstance(hint, type) and issubclass(hint, BaseModel)


def _plain(hint: Any) -> Any:
    """Returns a type without its constraints, and without None as an alternative."""
    hint = _required(hint)
    return get_args(hint)[0] if get_origin(hint) is Annotated else hint


def _required(hint: Any) -> Any:
    """Returns the type of what is there, of a type that may also be None."""
    parts = [part for part in get_args(hint) if part is not NoneType]
    return parts[0] if get_origin(hint) in (Union, UnionType) and len(parts) == 1 else hint


# ---- values


def _shown(value: Any) -> str:
    text = json.dumps(value, ensure_ascii=False, default=str)
    return text if len(text) <= 80 else f"{text[:77]}..."


def _allowed(hint: Any) -> str:
    """Returns which values a type allows, as in "a whole number from 1 to 1000"."""
    hint = _required(hint)
    plain, limits = _plain(hint), _limits(hint)
    if "description" in limits:
        return str(limits["description"])
    origin, parts = get_origin(plain), get_args(plain)
    if origin in (Union, UnionType):
        return " or ".join(_allowed(part) for part in parts if part is not NoneType)
    if origin is Literal:
        quoted = [f'"{part}"' for part in parts]
        return " or ".join([", ".join(quoted[:-1]), quoted[-1]] if len(quoted) > 1 else quoted)
    if origin is tuple:
        count = f"{len(parts)} entries" if Ellipsis not in parts else "entries"
        if "min_length" in limits:
            count = f"at least {limits['min_length']} entry"
        return f"a list of {count}, each {_allowed(parts[0])}"
    if plain is bool:
        return "true or false"
    if plain is int:
        return "a whole number" + _range(limits, whole=True)
    if plain is float:
        finite = "" if limits.get("allow_inf_nan", True) else "finite "
        return f"a {finite}number" + _range(limits, whole=False)
    if plain is str:
        return "text" + (f" of at most {limits['max_length']} characters" if "max_length" in limits else "")
    return "a table"


def _limits(hint: Any) -> dict[str, Any]:
    """Returns the constraints of a type by pydantic's names, and its "description" if it has one."""
    names = ("ge", "gt", "le", "lt", "min_length", "max_length", "allow_inf_nan")
    limits: dict[str, Any] = {}
    annotations = get_args(hint)[1:] if get_origin(hint) is Annotated else ()
    for field in (each for each in annotations if isinstance(each, FieldInfo)):
        if field.description:
            limits["description"] = field.description
        for constraint in field.metadata:
            limits |= {name: getattr(constraint, name) for name in names if hasattr(constraint, name)}
    return limits


def _range(limits: dict[str, Any], whole: bool) -> str:
    if whole and "lt" in limits:
        limits = {**limits, "le": limits["lt"] - 1}
        del limits["lt"]
    if "ge" in limits and "le" in limits:
        return f" from {limits['ge']} to {limits['le']}"
    words = {"ge": "of at least", "gt": "above", "le": "at most", "lt": "below"}
    return "".join(
        f"{' and' if index else ''} {words[name]} {limits[name]}"
        for index, name in enumerate(name for name in words if name in limits)
    )
