"""Byte-level byte-pair encoding as GPT-2 has it, small enough to read: trained here, run by llama.cpp.

Words are split the way llama.cpp does for `tokenizer.ggml.pre = gpt-2`, and a token is written with GPT-2's
printable stand-ins for bytes, since GGUF stores tokens so. Special tokens are matched before anything else.
"""

from __future__ import annotations

import itertools
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import cached_property

Pair = tuple[str, str]

CONTRACTION = re.compile(r"'(?:s|t|re|ve|m|ll|d)")


def _byte_letters() -> dict[int, str]:
    """GPT-2's table: printable Latin-1 bytes stand for themselves, the others for letters from U+0100 on."""
    printable = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    rest = [byte for byte in range(256) if byte not in printable]
    return {byte: chr(byte) for byte in printable} | {byte: chr(256 + place) for place, byte in enumerate(rest)}


BYTE_LETTERS = _byte_letters()
LETTER_BYTES = {letter: byte for byte, letter in BYTE_LETTERS.items()}


@dataclass(frozen=True)
class Tokenizer:
    """A vocabulary in id order (special tokens, bytes, merged pieces) and its merges in order of rank."""

    specials: tuple[str, ...]
    merges: tuple[Pair, ...]

    @cached_property
    def tokens(self) -> tuple[str, ...]:
        return (*self.specials, *BYTE_LETTERS.values(), *(left + right for left, right in self.merges))

    @cached_property
    def ids(self) -> dict[str, int]:
        return {token: number for number, token in enumerate(self.tokens)}

    @cached_property
    def _ranks(self) -> dict[Pair, int]:
        return {pair: rank for rank, pair in enumerate(self.merges)}

    @cached_property
    def _special_pattern(self) -> re.Pattern[str]:
        return re.compile("(" + "|".join(map(re.escape, self.specials)) + ")")

    def encode(self, text: str) -> list[int]:
        """Token ids of `text`, special tokens in it recognised."""
        numbers: list[int] = []
        for part in self._special_pattern.split(text):
            if part in self.specials:
                numbers.append(self.ids[part])
            else:
                for word in split_words(part):
                    numbers += (self.ids[piece] for piece in self._pieces(word))
        return numbers

    def decode(self, numbers: Iterable[int]) -> str:
        """The text of `numbers`; special tokens are written out, broken UTF-8 is replaced."""
        data = bytearray()
        for number in numbers:
            token = self.tokens[number]
            data += token.encode() if token in self.specials else bytes(LETTER_BYTES[letter] for letter in token)
        return data.decode("utf-8", errors="replace")

    def _pieces(self, word: str) -> tuple[str, ...]:
        pieces = letters_of(word)
        while len(pieces) > 1:
            best = min(itertools.pairwise(pieces), key=lambda pair: self._ranks.get(pair, len(self.merges)))
            if best not in self._ranks:
                break
            pieces = join_pair(pieces, best)
        return pieces


def train(texts: Iterable[str], specials: tuple[str, ...], size: int) -> Tokenizer:
    """Learn a vocabulary of `size` tokens. Equal counts fall to the pair that sorts first, so training repeats."""
    words = Counter(letters_of(word) for text in texts for word in split_words(text))
    merges: list[Pair] = []
    while len(specials) + len(BYTE_LETTERS) + len(merges) < size:
        pairs = _count_pairs(words)
        if not pairs:
            raise ValueError(f"the texts are too short for {size} tokens")
        best = min(pairs, key=lambda pair: (-pairs[pair], pair))
        merges.append(best)
        words = _join_in_all(words, best)
    return Tokenizer(specials, tuple(merges))


def letters_of(word: str) -> tuple[str, ...]:
    """The bytes of `word`, each as its stand-in letter."""
    return tuple(BYTE_LETTERS[byte] for byte in word.encode())


def join_pair(pieces: tuple[str, ...], pair: Pair) -> tuple[str, ...]:
    """Join every `pair` in `pieces`, from the left."""
    joined: list[str] = []
    place = 0
    while place < len(pieces):
        if pieces[place : place + 2] == pair:
            joined.append(pair[0] + pair[1])
            place += 2
        else:
            joined.append(pieces[place])
            place += 1
    return tuple(joined)


def split_words(text: str) -> Iterator[str]:
    """Split `text` as GPT-2's pattern does: contractions, ` ?letters`, ` ?digits`, ` ?others`, then white space."""
    place = 0
    while place < len(text):
        end = _word_end(text, place)
        yield text[place:end]
        place = end


def _word_end(text: str, start: int) -> int:
    contraction = CONTRACTION.match(text, start)
    if contraction:
        return contraction.end()
    # One plain space may lead a word; any other white space stands alone.
    first = start + 1 if text[start] == " " and start + 1 < len(text) else start
    if not text[first].isspace():
        return _run_end(text, first)
    end = _run_end(text, start)
    # The last white space before a word is left to that word (`\s+(?!\S)`), unless it is the only one.
    return end - 1 if end < len(text) and end - start > 1 else end


def _run_end(text: str, start: int) -> int:
    kind = _kind(text[start])
    end = start
    while end < len(text) and _kind(text[end]) == kind:
        end += 1
    return end


def _kind(letter: str) -> str:
    category = "Z" if letter.isspace() else unicodedata.category(letter)[0]
    return category if category in "LNZ" else "other"


def _count_pairs(words: Counter[tuple[str, ...]]) -> Counter[Pair]:
    pairs: Counter[Pair] = Counter()
    for pieces, count in words.items():
        for pair in itertools.pairwise(pieces):
            pairs[pair] += count
    return pairs


def _join_in_all(words: Counter[tuple[str, ...]], pair: Pair) -> Counter[tuple[str, ...]]:
    joined: Counter[tuple[str, ...]] = Counter()
    for pieces, count in words.items():
        joined[join_pair(pieces, pair) if pair[0] in pieces else pieces] += count
    return joined
