"""The fuzz targets over their corpus, and over variants of it, the same in every run; ``make fuzz`` goes further."""

from __future__ import annotations

import logging
import os
import random
from importlib import import_module

import pytest

from .fuzz import CORPUS, TARGETS, fields, read_corpus

#: How many variants of the corpus are tried: a few seconds' worth.
VARIANTS = {"credential": 15_000, "jwt": 5_000, "scopes": 1_000, "shortcut": 2_000, "stored": 10_000, "text": 25_000}
#: One in so many variants is tried: fewer where they are tried on every mutant.
SHARE = 20 if "MUTANT_UNDER_TEST" in os.environ else 1
LONGEST = 400


def variant(chance: random.Random, corpus: list[bytes], words: list[bytes]) -> bytes:
    """Some input of the corpus with a few changes of the kinds that libFuzzer makes."""
    data = bytearray(chance.choice(corpus))
    for _ in range(chance.choice((1, 1, 2, 3, 5))):
        begin = chance.randint(0, len(data))
        end = min(len(data), begin + chance.choice((0, 0, 1, 2, 8, 40)))
        match chance.randrange(4):
            case 0:
                data[begin:end] = b""
            case 1:
                data[begin:end] = chance.choice(words)
            case 2:
                data[begin:end] = chance.randbytes(1)
            case 3:
                other = chance.choice(corpus)
                cut = chance.randint(0, len(other))
                data[begin:end] = other[cut : cut + chance.choice((1, 5, 50))]
    return bytes(data[:LONGEST])


@pytest.mark.parametrize("target", TARGETS)
def test_two_opinions_agree_on_whatever_is_sent(target: str, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.CRITICAL, logger="tokenguard")  # no line about each refusal
    module = import_module(f"tests.fuzz.{target}")
    corpus, words = read_corpus(target), [word.encode() for word in module.DICTIONARY]
    chance = random.Random(target)
    for data in corpus + [variant(chance, corpus, words) for _ in range(VARIANTS[target] // SHARE)]:
        try:
            module.test_one_input(data)
        except Exception as error:
            error.add_note(f"the input was {data[:LONGEST]!r}")
            raise


def test_the_corpus_is_small_and_holds_no_token() -> None:
    files = sorted(CORPUS.iterdir())
    assert [path.stem for path in files] == sorted(TARGETS)
    assert sum(path.stat().st_size for path in files) < 200_000
    for target in TARGETS:
        assert not any(b"tg_" in data and len(data.partition(b"tg_")[2]) > 90 for data in read_corpus(target))


def test_every_byte_is_one_that_a_target_can_take() -> None:
    assert "".join(fields(bytes(range(256)), 300)).encode("utf-8", "surrogateescape") == bytes(range(256)).replace(
        b"|", b""
    )
