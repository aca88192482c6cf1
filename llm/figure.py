"""How a number reads in a sentence for people."""


def figure(value: float) -> str:
    """Three digits, and never a power of ten."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:.3g}" if rounded < 1000 else f"{rounded:,.0f}"
