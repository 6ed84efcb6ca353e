"""`$(VAR)` in values, commands and arguments, by the rules of Kubernetes: one pass, unknown names stay as written."""

import re
from collections.abc import Mapping

# A dollar sign means something only before another one or before a closed pair of parentheses.
_DOLLAR = re.compile(r"\$(?:(\$)|\(([^)]*)\))")


def expand(text: str, *scopes: Mapping[str, str]) -> str:
    """`text` with each `$(NAME)` replaced by the first scope that has NAME. `$$` is a dollar sign, so `$$(NAME)`
    stays literal; what comes in is not expanded again."""

    def replacement(found: re.Match[str]) -> str:
        if found[1]:
            return "$"
        for scope in scopes:
            if found[2] in scope:
                return scope[found[2]]
        return found[0]

    return _DOLLAR.sub(replacement, text)
