"""Writes docs/configuration.md, the page of all settings, from the settings classes.

    python -m agent_rl.config.reference > docs/configuration.md

A test compares the page with the classes, so run this after each change of a setting.
"""

import re
import textwrap
from collections.abc import Iterator
from types import NoneType, UnionType
from typing import Any, Literal, Union, get_args, get_origin

import yaml
from annotated_types import Ge, Gt, Le, Lt, MinLen
from pydantic.fields import FieldInfo

from agent_rl.config.config import Config
from agent_rl.config.errors import settings_in
from agent_rl.config.keys import RENAMED_KEYS, RENAMED_OPTIONS, RENAMED_VALUES
from rollouts.settings import Settings

_HEAD = """# Configuration

You want to know which settings there are. A config is a YAML file with the sections below. Every
key has a default, except `run_folder`. `agent-rl` commands take further settings as
`key.path=value`, for example `train.rollout_steps=20`; they replace the file's. Values are YAML. An
unknown key is an error that suggests the nearest one. A run records its whole config, defaults
included, in `config.yaml`. This page is made from the code with
`python -m agent_rl.config.reference > docs/configuration.md`.
"""
_RENAMED_TEXT = """In a config of yours, an old name is an error that gives the new one. Configs
that runs recorded under old names are still read."""
_TABLE_HEAD = "| key | type | default | range | meaning |\n|---|---|---|---|---|"
_NAMES = {int: "integer", float: "number", bool: "true or false", str: "text", Any: "any"}
_PLURALS = {"integer": "integers", "number": "numbers", "text": "texts", "mapping": "mappings"}
_BOUNDS = {Ge: ("ge", "at least"), Gt: ("gt", "above"), Le: ("le", "at most"), Lt: ("lt", "below")}
_WIDTH = 100


def reference() -> str:
    """Return the whole page as Markdown."""
    parts = [_HEAD]
    top = []
    for name, field in Config.model_fields.items():
        section = settings_in(field.annotation)
        if section is None:
            top.append(_row(name, field))
        else:
            parts.append(_section(name, field, section))
    parts.insert(1, "\n".join(["## The whole", _prose(Config), "", _TABLE_HEAD, *top]) + "\n")
    parts.append(_renamed())
    return "\n".join(parts)


def _section(name: str, field: FieldInfo, section: type[Settings]) -> str:
    """The heading, text and table of one section of the config."""
    lines = [f"## {name}", _prose(section)]
    if field.default is None:
        lines.append(f"`{name}` is null by default.")
    return "\n".join([*lines, "", _TABLE_HEAD, *_rows(name, section)]) + "\n"


def _rows(prefix: str, section: type[Settings]) -> Iterator[str]:
    """A row for each key of a section, and for each key of the settings within it."""
    for name, field in section.model_fields.items():
        key = f"{prefix}.{name}"
        yield _row(key, field)
        inner = settings_in(field.annotation)
        if inner is not None:
            is_list = get_origin(field.annotation) is tuple
            yield from _rows(f"{key}[]" if is_list else key, inner)


def _row(key: str, field: FieldInfo) -> str:
    meaning = " ".join((field.description or "").split())
    cells = (
        f"`{key}`",
        _type_text(field.annotation),
        _default_text(field),
        _range_text(field),
        re.sub(r"docs/(\w+\.md)", r"[\1](\1)", meaning),
    )
    return "| " + " | ".join(cell.replace("|", "\\|") for cell in cells) + " |"


def _type_text(annotation: Any) -> str:
    """What a person may write: `integer`, `list of texts`, or the words to choose from."""
    if annotation in _NAMES:
        return _NAMES[annotation]
    origin, arguments = get_origin(annotation), get_args(annotation)
    if origin is Literal:
        return ", ".join(f"`{choice}`" for choice in arguments)
    if origin in (Union, UnionType):
        return " or ".join(_type_text(part) for part in arguments if part is not NoneType)
    if origin is tuple:
        if arguments[-1] is not Ellipsis:
            return f"[{', '.join(_type_text(part) for part in arguments)}]"
        of = _type_text(arguments[0])
        return f"list of {_PLURALS.get(of, of)}"
    return "mapping"


def _default_text(field: FieldInfo) -> str:
    if field.is_required():
        return "required"
    default = field.get_default(call_default_factory=True)
    if isinstance(default, Settings):
        return ""
    if isinstance(default, tuple):
        default = list(default)
    if default == "":
        return "empty"
    # In quotes, a text of several lines is written on one.
    style = '"' if isinstance(default, str) and "\n" in default else None
    # A document of one plain value ends with a line "...".
    text = yaml.safe_dump(default, default_flow_style=True, default_style=style, width=float("inf"))
    return f"`{text.strip().removesuffix('...').strip()}`"


def _range_text(field: FieldInfo) -> str:
    """The bounds of a value, as in `at least 0, below 1`."""
    bounds = []
    for constraint in field.metadata:
        if isinstance(constraint, MinLen):
            bounds.append(f"at least {constraint.min_length} of them")
        for kind, (attribute, words) in _BOUNDS.items():
            if isinstance(constraint, kind):
                bounds.append(f"{words} {getattr(constraint, attribute):g}")
    return ", ".join(bounds)


def _prose(section: type[Settings]) -> str:
    """A class's docstring as one paragraph, wrapped."""
    return textwrap.fill(" ".join((section.__doc__ or "").split()), _WIDTH)


def _renamed() -> str:
    """The paragraph about names that have changed."""
    pairs = list(RENAMED_KEYS.items())
    for key, names in RENAMED_VALUES.items():
        pairs += [(f"{key}: {old}", f"{key}: {new}") for old, new in names.items()]
    for names in RENAMED_OPTIONS.values():
        pairs += [(f"env.options.{old}", f"env.options.{new}") for old, new in names.items()]
    changes = "; ".join(f"`{old}` is now `{new}`" for old, new in pairs)
    return f"## Renamed\n{textwrap.fill(f'{_RENAMED_TEXT} {changes}.', _WIDTH)}\n"


if __name__ == "__main__":
    print(reference(), end="")
