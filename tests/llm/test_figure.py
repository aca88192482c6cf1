"""How a number reads in a sentence."""

import pytest

from llm.figure import figure


@pytest.mark.parametrize(
    ("value", "words"), [(0.00283, "0.00283"), (71.14, "71.1"), (3581.2, "3,580"), (999.9, "1,000")]
)
def test_a_figure_has_three_digits_and_no_power_of_ten(value: float, words: str) -> None:
    assert figure(value) == words
