"""The stock engine does the same pure work at every step and every reset; here it does it once per process.

Texts, commands and rewards stay what they were (tests compare them); a step costs about a twentieth.
"""

from copy import deepcopy
from functools import lru_cache
from typing import Any

_GAMES, _TEXTS = 64, 65536


@lru_cache(1)
def remember_what_was_parsed() -> None:
    """Let textworld's PDDL engine keep what it parsed and translated. Calls after the first do nothing.

    - `pddl2sas`, four times per game and reset: the translation of the problem, which depends on its text alone;
    - the game's grammar, the templates of its texts and the queries in them, which are parsed whenever they are used;
    - `copy_context`, which copies names at every symbol of a text, deeply, though nobody changes them.
    """
    import fast_downward
    import textworld.envs.pddl.logic as game_logic
    import textworld.envs.pddl.textgen as templates
    import textworld.logic as logic

    fast_downward.pddl2sas = lru_cache(_GAMES)(fast_downward.pddl2sas)
    game_logic._parse_and_convert = lru_cache(_GAMES)(game_logic._parse_and_convert)
    logic._parse_and_convert = lru_cache(_TEXTS)(logic._parse_and_convert)
    parse = lru_cache(_TEXTS)(templates._parse_and_convert)

    def parse_template(*arguments: Any, **options: Any) -> Any:
        """A copy, since the symbols of a template are given the context they stand in."""
        return deepcopy(parse(*arguments, **options))

    def copy_context(context: dict[str, Any]) -> dict[str, Any]:
        return {**context, "variables": dict(context["variables"]), "mapping": dict(context["mapping"])}

    templates._parse_and_convert = parse_template
    templates.copy_context = copy_context
