"""The runner's `${{ }}` expressions, as far as the action uses them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

_TOKEN = re.compile(
    r"\s*(?:(?P<op>==|!=|&&|\|\||!|\(|\))|(?P<text>'(?:[^']|'')*')|(?P<name>[A-Za-z_][\w.-]*))"
)
_LITERALS = {"true": True, "false": False, "null": None}
Functions = Mapping[str, Callable[[], bool]]


def interpolate(text: str, contexts: Mapping[str, Any], functions: Functions) -> str:
    """The text with every `${{ expression }}` replaced by its value."""
    return re.sub(
        r"\$\{\{(.*?)\}\}",
        lambda found: to_text(evaluate(found[1], contexts, functions)),
        text,
        flags=re.DOTALL,
    )


def evaluate(expression: str, contexts: Mapping[str, Any], functions: Functions) -> Any:
    return _Parser(expression, contexts, functions).whole()


def to_text(value: Any) -> str:
    if value is None:
        return ""
    return str(value).lower() if isinstance(value, bool) else str(value)


class _Parser:
    def __init__(self, expression: str, contexts: Mapping[str, Any], functions: Functions) -> None:
        self.contexts = contexts
        self.functions = functions
        self.words = _words(expression)

    def whole(self) -> Any:
        value = self.either()
        assert not self.words, f"trailing {self.words}"
        return value

    def either(self) -> Any:
        value = self.both()
        while self.accept("||"):
            other = self.both()
            value = value or other
        return value

    def both(self) -> Any:
        value = self.comparison()
        while self.accept("&&"):
            other = self.comparison()
            value = value and other
        return value

    def comparison(self) -> Any:
        value = self.operand()
        for sign in ("==", "!="):
            if self.accept(sign):
                # Text is compared without regard to case.
                same = to_text(value).lower() == to_text(self.operand()).lower()
                return same == (sign == "==")
        return value

    def operand(self) -> Any:
        word = self.words.pop(0)
        if word == "!":
            return not self.operand()
        if word == "(":
            value = self.either()
            assert self.accept(")")
            return value
        if word.startswith("'"):
            return word[1:-1].replace("''", "'")
        if self.accept("("):
            assert self.accept(")")
            return self.functions[word]()
        return self.look_up(word)

    def look_up(self, name: str) -> Any:
        """A context's value; what is missing is null to the runner, down from the second step."""
        if name in _LITERALS:
            return _LITERALS[name]
        first, *rest = name.split(".")
        value: Any = self.contexts[first]
        for step in rest:
            value = value.get(step) if isinstance(value, Mapping) else None
        return value

    def accept(self, word: str) -> bool:
        if self.words and self.words[0] == word:
            self.words.pop(0)
            return True
        return False


def _words(expression: str) -> list[str]:
    words = []
    at = 0
    expression = expression.strip()
    while at < len(expression):
        found = _TOKEN.match(expression, at)
        assert found, f"cannot read {expression[at:]!r}"
        words.append(found[found.lastgroup or ""])
        at = found.end()
    return words
