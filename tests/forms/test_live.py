"""The forms that ship: known answers, edges, and what the shared suite asks of every form."""

from __future__ import annotations

import hashlib
import random
import struct

import pytest

from forms.errors import BadArgument, BeyondLimit
from forms.live.bignum import BignumCgbn
from forms.live.blake3_tree import Blake3Tree
from forms.live.points import GENERATOR, ORDER, PRIME
from forms.live.radix_sort import RadixSort
from forms.live.secp256k1 import Secp256k1BatchedMul
from forms.live.shake import ShakeFanout
from forms.suite import FormSuite, arguments_of, length_of
from forms.writer import write_datum

U32 = struct.Struct("<I")
DICE = random.Random(7)


def items(call: list[bytes]) -> bytes:
    return b"".join(U32.pack(len(one)) + one for one in call)


def hashing(inputs: list[str], out_bytes: int) -> str:
    return f"(f '({' '.join(f'{chr(34)}{one}{chr(34)}' for one in inputs)}) {out_bytes})"


EDGES = [[], ["00", "deadbeef"], [""], ["61" * 135, "61" * 136, "61" * 137, "61" * 1025], ["00"] * 33]


class TestShake(FormSuite):
    form = ShakeFanout()
    calls = (*[hashing(inputs, out) for inputs in EDGES for out in (1, 32, 137)],)
    larger = (*[hashing(["00"] * count, out) for count, out in ((1, 32), (2, 32), (2, 400), (50, 400))],)

    def frame(self, text: str) -> bytes:
        call = self.form.read_text(arguments_of(text))
        head = struct.pack("<4sIII", b"BSHK", call.out_bytes, len(call.inputs), 0xFFFFFFFF)
        return head + items(list(call.inputs))

    def test_inputs_of_one_length_need_no_lengths(self) -> None:
        frame = struct.pack("<4sIII", b"BSHK", 8, 3, 2) + b"aabbcc"
        assert length_of(self.form, frame) == len(frame)
        digests = self.form.reference(self.form.read_frame(frame)).rows
        assert digests == b"".join(hashlib.shake_256(one).digest(8) for one in (b"aa", b"bb", b"cc"))
        empty = struct.pack("<4sIII", b"BSHK", 8, 3, 0)
        assert self.form.reference(self.form.read_frame(empty)).rows == hashlib.shake_256(b"").digest(8) * 3

    def test_the_published_call(self) -> None:
        call = self.form.read_text(arguments_of('(cuda-shake-fanout \'("00" "deadbeef") 32)'))
        expected = [hashlib.shake_256(bytes.fromhex(one)).hexdigest(32) for one in ("00", "deadbeef")]
        assert self.form.write_text(self.form.reference(call)) == expected

    @pytest.mark.parametrize("out_bytes", [0, 65_537, -1])
    def test_digests_have_a_length_from_1_to_65536(self, out_bytes: int) -> None:
        with pytest.raises(BadArgument):
            self.form.read_text(arguments_of(f'(f \'("00") {out_bytes})'))

    def test_a_head_of_more_rows_than_a_host_can_hold_is_refused_though_each_is_empty(self) -> None:
        with pytest.raises(BeyondLimit, match="make several calls"):
            length_of(self.form, struct.pack("<4sIII", b"BSHK", 1, (1 << 24) + 1, 0))

    def test_a_reply_beyond_the_limit_is_refused_before_anything_is_hashed(self) -> None:
        with pytest.raises(BeyondLimit, match="reply"):
            length_of(self.form, struct.pack("<4sIII", b"BSHK", 65_536, 20, 0), limit=1 << 20)


class TestBlake3(FormSuite):
    form = Blake3Tree()
    calls = (*[hashing(inputs, out) for inputs in EDGES for out in (1, 32, 65)],)
    larger = (*[hashing(["00" * size] * 3, 32) for size in (1, 65, 1025, 5000)],)

    def frame(self, text: str) -> bytes:
        call = self.form.read_text(arguments_of(text))
        return struct.pack("<4sII", b"BSB3", call.out_bytes, len(call.inputs)) + items(list(call.inputs))

    def test_known_answer(self) -> None:
        """The hash of nothing, from BLAKE3's own test vectors."""
        call = self.form.read_text(arguments_of('(f \'("") 32)'))
        digest = "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"
        assert self.form.write_text(self.form.reference(call)) == [digest]


NUMBERS = [DICE.getrandbits(DICE.choice([3, 8, 64])) for _ in range(300)]


class TestRadixSort(FormSuite):
    form = RadixSort()
    calls = (
        *[
            f"(f '({' '.join(map(str, values))}){order}"
            for values in ([], [3, 1, 2], [0, 2**64 - 1, 2**63, 5, 5], NUMBERS)
            for order in (")", " ascending)", " descending)", " argsort)")
        ],
    )
    larger = (*[f"(f '({'1 ' * count}))" for count in (1, 2, 100)],)

    def frame(self, text: str) -> bytes:
        call = self.form.read_text(arguments_of(text))
        return struct.pack("<4sIQ", b"BSRT", call.order, len(call.numbers) // 8) + call.numbers

    @pytest.mark.parametrize(
        ("order", "expected"),
        [("", "(1 2 3)"), (" descending", "(3 2 1)"), (" argsort", "(1 2 0)"), (" ascending", "(1 2 3)")],
    )
    def test_orders(self, order: str, expected: str) -> None:
        call = self.form.read_text(arguments_of(f"(cuda-radix-sort '(3 1 2){order})"))
        assert write_datum(self.form.write_text(self.form.reference(call))) == expected

    def test_equals_keep_their_order_and_large_numbers_their_bits(self) -> None:
        call = self.form.read_text(arguments_of("(f '(5 1 5 1) argsort)"))
        assert self.form.write_text(self.form.reference(call)) == [1, 3, 0, 2]
        numbers = sorted(NUMBERS, reverse=True)
        call = self.form.read_text(arguments_of(f"(f '({' '.join(map(str, NUMBERS))}) descending)"))
        assert self.form.write_text(self.form.reference(call)) == numbers

    @pytest.mark.parametrize("number", ["-1", str(2**64), "1.0", "#t", '"1"', "x"])
    def test_other_numbers_are_refused(self, number: str) -> None:
        with pytest.raises(BadArgument):
            self.form.read_text(arguments_of(f"(f '(1 {number}))"))

    def test_an_unknown_order_is_refused_by_the_head(self) -> None:
        with pytest.raises(BadArgument):
            length_of(self.form, struct.pack("<4sIQ", b"BSRT", 3, 0))


WORDS = ("add", "sub", "mul", "mod-add", "mod-sub", "mod-mul", "mod-sqr", "mod-pow", "mod-inv")


def bignum(word: str, bits: int, modulus: int, a: list[int], b: list[int]) -> str:
    first, second = (" ".join(f'"{one:x}"' for one in many) for many in (a, b))
    return f"(cuda-bignum-cgbn {word} {bits} \"{modulus:x}\" '({first}) '({second}))"


FULL = 2**96 - 1


class TestBignum(FormSuite):
    form = BignumCgbn()
    calls = (
        *[
            bignum(word, 96, modulus, [0, 1, FULL, 12345], [FULL, 0, FULL, 678])
            for word in WORDS
            for modulus in (1, 2, 97, 2**95 + 12, FULL)
        ]
        + [bignum("mod-mul", 64, 7, [], [])],
    )
    larger = (
        *[bignum("mod-mul", bits, 97, [1] * count, [1] * count) for bits, count in ((64, 1), (64, 2), (4096, 2))],
    )

    def frame(self, text: str) -> bytes:
        call = self.form.read_text(arguments_of(text))
        numbers = (call.modulus, *call.a, *call.b)
        head = struct.pack("<4sIII", b"BCGB", call.operation, call.bits, len(call.a))
        return head + b"".join(one.to_bytes(call.bits // 8, "little") for one in numbers)

    def test_exact(self) -> None:
        a, b = [DICE.getrandbits(256) for _ in range(20)], [DICE.getrandbits(256) for _ in range(20)]
        wide = 2**256
        for modulus in (2**256 - 189, 2**255 + 2, 1):
            expected = {
                "add": [(x + y) % wide for x, y in zip(a, b, strict=True)],
                "sub": [(x - y) % wide for x, y in zip(a, b, strict=True)],
                "mul": [x * y % wide for x, y in zip(a, b, strict=True)],
                "mod-add": [(x + y) % modulus for x, y in zip(a, b, strict=True)],
                "mod-sub": [(x - y) % modulus for x, y in zip(a, b, strict=True)],
                "mod-mul": [x * y % modulus for x, y in zip(a, b, strict=True)],
                "mod-sqr": [x * x % modulus for x in a],
                "mod-pow": [pow(x, y, modulus) for x, y in zip(a, b, strict=True)],
            }
            for word, values in expected.items():
                call = self.form.read_text(arguments_of(bignum(word, 256, modulus, a, b)))
                assert list(self.form.reference(call)) == values, (word, modulus)

    def test_inverses_exist_or_are_0(self) -> None:
        call = self.form.read_text(arguments_of(bignum("mod-inv", 64, 12, [5, 4, 0, 17], [0] * 4)))
        assert list(self.form.reference(call)) == [5, 0, 0, 5]

    def test_unary_operations_need_no_second_list_and_numbers_come_out_in_full_width(self) -> None:
        call = self.form.read_text(arguments_of('(f mod-sqr 64 "61" \'("3"))'))
        assert self.form.write_text(self.form.reference(call)) == ["0000000000000009"]

    @pytest.mark.parametrize("bits", [0, 32, 63, 65, 4128, 4112])
    def test_widths(self, bits: int) -> None:
        with pytest.raises(BadArgument):
            self.form.read_text(arguments_of(bignum("add", bits, 1, [1], [1])))
        with pytest.raises(BadArgument):
            length_of(self.form, struct.pack("<4sIII", b"BCGB", 0, bits, 1) + bytes(4096))

    @pytest.mark.parametrize("word", WORDS[3:])
    def test_modulus_0_is_an_error_where_it_counts(self, word: str) -> None:
        with pytest.raises(BadArgument, match="modulus"):
            self.form.read_text(arguments_of(bignum(word, 64, 0, [1], [1])))
        self.form.read_text(arguments_of(bignum("mul", 64, 0, [1], [1])))

    def test_numbers_that_are_too_wide_and_lists_of_two_lengths_are_refused(self) -> None:
        for a, b in (([2**64], [1]), ([1], [1, 2])):
            with pytest.raises(BadArgument):
                self.form.read_text(arguments_of(bignum("add", 64, 1, a, b)))


def points(scalars: list[int], base: str = '"g"') -> str:
    return f"(cuda-secp256k1-batched-mul '({' '.join(f'{chr(34)}{one:x}{chr(34)}' for one in scalars)}) {base})"


DOUBLE = (
    0xC6047F9441ED7D6D3045406E95C07CD85C778E4B8CEF3CA7ABAC09B95C709EE5,
    0x1AE168FEA63DC339A3C58419466CEAEEF7F632653266D0E1236431A950CFE52A,
)
"""Twice the generator."""
AT_DOUBLE = f'("{DOUBLE[0]:x}" "{DOUBLE[1]:x}")'


class TestSecp256k1(FormSuite):
    form = Secp256k1BatchedMul()
    calls = (
        *[
            points(scalars, base)
            for scalars in ([], [0, 1, 2, ORDER - 1], [ORDER, ORDER + 1, 2**255])
            for base in ('"g"', AT_DOUBLE)
        ],
    )
    larger = (*[points([1] * count) for count in (1, 2, 9)],)

    def frame(self, text: str) -> bytes:
        call = self.form.read_text(arguments_of(text))
        assert call.base is not None
        numbers = ((0, 0) if call.base == GENERATOR else call.base) + tuple(call.scalars)
        return struct.pack("<4sI", b"BSCP", len(call.scalars)) + b"".join(one.to_bytes(32, "little") for one in numbers)

    def test_known_multiples(self) -> None:
        call = self.form.read_text(arguments_of(points([0, 1, 2, ORDER - 1, ORDER, ORDER + 2])))
        minus = (GENERATOR[0], PRIME - GENERATOR[1])
        assert list(self.form.reference(call)) == [None, GENERATOR, DOUBLE, minus, None, DOUBLE]

    def test_infinity_as_text(self) -> None:
        call = self.form.read_text(arguments_of(points([0, 1])))
        said = self.form.write_text(self.form.reference(call))
        assert said == [[], [f"{GENERATOR[0]:064x}", f"{GENERATOR[1]:064x}"]]
        at_infinity = self.form.read_text(arguments_of(points([1, 2], "()")))
        assert self.form.write_text(self.form.reference(at_infinity)) == [[], []]

    @pytest.mark.parametrize("base", [(1, 1), (PRIME, 0), (GENERATOR[0], GENERATOR[1] + 1), (2**256 - 1, 2**256 - 1)])
    def test_what_is_no_point_is_refused(self, base: tuple[int, int]) -> None:
        with pytest.raises(BadArgument):
            self.form.read_text(arguments_of(points([1], f'("{base[0]:x}" "{base[1]:x}")')))
        frame = struct.pack("<4sI", b"BSCP", 1) + b"".join(one.to_bytes(32, "little") for one in (*base, 1))
        with pytest.raises(BadArgument):
            self.form.read_frame(frame)
