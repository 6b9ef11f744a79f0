"""Fill-in-the-middle: arrangements worked out by hand, and what the choice depends on."""

from __future__ import annotations

import random

from codellm_dag.tokens.fim import FimIds, arrange, choose_order, cut, document_rng

IDS = FimIds(prefix=100, middle=101, suffix=102)


class _Fixed(random.Random):
    """Gives the named numbers for `randint`, in turn."""

    def __init__(self, *numbers: int) -> None:
        super().__init__(0)
        self.numbers = list(numbers)

    def randint(self, a: int, b: int) -> int:
        number = self.numbers.pop(0)
        assert a <= number <= b
        return number


def test_cut_points_are_sorted_and_between_characters() -> None:
    assert cut("return x", _Fixed(7, 3)) == ("ret", "urn ", "x")


def test_cut_may_leave_parts_empty() -> None:
    assert cut("ab", _Fixed(2, 2)) == ("ab", "", "")
    assert cut("ab", _Fixed(0, 2)) == ("", "ab", "")


def test_psm_and_spm() -> None:
    assert arrange([1, 2], [3], [4, 5], "psm", IDS) == [100, 1, 2, 102, 4, 5, 101, 3]
    assert arrange([1, 2], [3], [4, 5], "spm", IDS) == [100, 102, 4, 5, 101, 1, 2, 3]


def test_rates() -> None:
    assert {choose_order(random.Random(n), 0.0, 0.5) for n in range(50)} == {None}
    assert {choose_order(random.Random(n), 1.0, 0.0) for n in range(50)} == {"psm"}
    assert {choose_order(random.Random(n), 1.0, 1.0) for n in range(50)} == {"spm"}
    drawn = [choose_order(random.Random(n), 0.3, 0.5) for n in range(2000)]
    assert 0.25 < sum(order is not None for order in drawn) / 2000 < 0.35


def test_choice_depends_on_seed_and_document_only() -> None:
    assert document_rng(1, "a").random() == document_rng(1, "a").random()
    numbers = {document_rng(seed, name).random() for seed in (1, 2) for name in ("a", "b")}
    assert len(numbers) == 4
