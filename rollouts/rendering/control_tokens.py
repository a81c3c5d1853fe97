"""Encodes prompts in which only their format writes control tokens.

A tokenizer reads "<|im_end|>" as the end of a message, whoever wrote it. So an environment could
end its own message and begin an answer. What is said is therefore quoted before a format or a chat
template sees it, and its "<|im_end|>" then becomes the tokens of ordinary text.
"""

import json
import re
import secrets
from collections.abc import Collection, Mapping
from typing import Any

_BYTE = re.compile(r"<0x[0-9A-Fa-f]{2}>")
"""The token of a byte, such as `<0x0A>`."""
_TAG = re.compile(r"[<\[({|].*\w.*[>\])}|]", re.DOTALL)
"""A word in brackets. Templates also write words, signs and white space, which control nothing."""


class PromptEncoder:
    """Encodes text; control tokens in its quoted parts are ordinary text.

    Control tokens are the special tokens, the end of an action, and tags that the template writes,
    such as "<think>". Further added tokens are words like others, for example runs of spaces.

        encoder = PromptEncoder(tokenizer, template="<|im_start|>user ...")
        encoder.encode("<|im_start|>user\n" + encoder.quote(observation) + "<|im_end|>\n")
    """

    def __init__(self, tokenizer: Any, *, template: str = "", end: str = "") -> None:
        """Find the control tokens.

        Args:
            tokenizer: of transformers, or one without added tokens that can `encode`.
            template: the text of the chat template; empty if the format has none.
            end: the token that the template writes after an action.
        """
        self._tokenizer = tokenizer
        self._ids = _added_tokens(tokenizer)
        self._controls = _control_tokens(tokenizer, self._ids, template, end)
        self._control_ids = {self._ids[name] for name in self._controls}
        longer = (name for name in self._ids if any(c in name for c in self._controls))
        self._found = _any_of({*self._controls, *longer})
        # Nobody can guess these numbers. Digits pass through templates and normalizers unchanged.
        self._quote_key, self._name_key = (str(secrets.randbits(128)) for _ in range(2))
        self._quoted = re.compile(rf"\[{self._quote_key}:(\d+)\]")
        self._renamed: Any = None

    def quote(self, said: str, *, keep: Collection[str] = ()) -> str:
        """Return `said` with a number in the place of each control token's name.

        Args:
            keep: names that stay, because the format asks for them.
        """
        numbers = {
            name: f"[{self._quote_key}:{n}]"
            for n, name in enumerate(self._controls)
            if name not in keep
        }
        return self._replace_controls(said, numbers)

    def encode(self, text: str) -> tuple[int, ...]:
        """Return the ids of a text whose control tokens outside of quotes are the format's."""
        if self._quote_key not in text:
            ids = self._tokenizer.encode(text, add_special_tokens=False)
            written = [self._ids[name] for name in self._found.findall(text)]
            # A normalizer may make a control token out of other letters, and a Unigram model finds
            # one without reading it as an added token. So the result is compared.
            if self._controls_of(ids) == self._controls_of(written):
                return tuple(ids)
        if getattr(self._tokenizer, "backend_tokenizer", None) is None:
            return self._encode_segments(text)
        return self._encode_renamed(text)

    def _controls_of(self, ids: list[int]) -> list[int]:
        return [i for i in ids if i in self._control_ids]

    def _replace_controls(self, text: str, by: Mapping[str, str]) -> str:
        return self._found.sub(lambda found: by.get(found[0], found[0]), text)

    def _unquote(self, text: str) -> str:
        return self._quoted.sub(lambda found: self._controls[int(found[1])], text)

    def _encode_renamed(self, text: str) -> tuple[int, ...]:
        """Encode with the same tokenizer, whose control tokens have names that nobody can guess.

        All at once, so that ordinary text has the tokens that it always has.
        """
        names = {name: f"[{self._name_key}:{self._ids[name]}]" for name in self._controls}
        if self._renamed is None:
            self._renamed = _rename(self._tokenizer.backend_tokenizer, names)
        told = self._unquote(self._replace_controls(text, names))
        return tuple(self._renamed.encode(told, add_special_tokens=False).ids)

    def _encode_segments(self, text: str) -> tuple[int, ...]:
        """Encode the segments between added tokens, as a tokenizer written in Python does."""
        ids: list[int] = []
        at = 0
        for found in _any_of(self._ids).finditer(text):
            ids += [*self._encode_ordinary(text[at : found.start()]), self._ids[found[0]]]
            at = found.end()
        return (*ids, *self._encode_ordinary(text[at:]))

    def _encode_ordinary(self, segment: str) -> list[int]:
        if not segment:
            return []
        ids: list[int] = self._tokenizer.encode(
            self._unquote(segment), add_special_tokens=False, split_special_tokens=True
        )
        return ids


def _any_of(names: Collection[str]) -> re.Pattern[str]:
    # A tokenizer prefers the longest of the tokens that begin at the same place.
    longest_first = sorted(names, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, longest_first)) or r"(?!)")


def _added_tokens(tokenizer: Any) -> dict[str, int]:
    """Every token that the tokenizer finds in a text before its model reads it, with its id."""
    added: dict[str, int] = dict(getattr(tokenizer, "get_added_vocab", dict)())
    for name in getattr(tokenizer, "all_special_tokens", ()):
        added.setdefault(name, tokenizer.convert_tokens_to_ids(name))
    return {name: int(i) for name, i in added.items() if name}


def _control_tokens(
    tokenizer: Any, added: Mapping[str, int], template: str, end: str
) -> tuple[str, ...]:
    special = {end, *getattr(tokenizer, "all_special_tokens", ())}
    for token in getattr(tokenizer, "added_tokens_decoder", {}).values():
        if token.special:
            special.add(token.content)

    def is_control(name: str) -> bool:
        # A model may spell unknown letters in bytes, whatever their tokens are declared as.
        if _BYTE.fullmatch(name):
            return False
        return name in special or (name in template and _TAG.fullmatch(name) is not None)

    return tuple(filter(is_control, added))


def _rename(tokenizer: Any, names: Mapping[str, str]) -> Any:
    """Return a copy of a `tokenizers.Tokenizer` in which some tokens have other names.

    Their ids stay.
    """
    from tokenizers import Tokenizer

    def new(name: str) -> str:
        return names.get(name, name)

    table = json.loads(tokenizer.to_str())
    for token in table["added_tokens"]:
        token["content"] = new(token["content"])
    model = table["model"]
    if isinstance(model["vocab"], dict):
        model["vocab"] = {new(piece): i for piece, i in model["vocab"].items()}
    else:
        model["vocab"] = [[new(piece), score] for piece, score in model["vocab"]]
    if model.get("unk_token") is not None:
        model["unk_token"] = new(model["unk_token"])
    # A merge that builds a control token's name would look for the old name.
    merges = (tuple(m.split(" ")) if isinstance(m, str) else m for m in model.get("merges", ()))
    kept = [m for m in merges if names.keys().isdisjoint((*m, "".join(m)))]
    if "merges" in model:
        model["merges"] = kept
    # These add tokens around a text or fill it up, and neither is wanted here.
    table |= {"post_processor": None, "truncation": None, "padding": None}
    return Tokenizer.from_str(json.dumps(table))
