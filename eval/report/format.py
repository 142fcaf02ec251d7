"""How numbers are written for people."""

from eval.evaluate import Row
from eval.statistics import Difference, Score

SIGNIFICANT = 0.05


def value(number: float, *, share: bool) -> str:
    """A share in percent, any other number with four digits or, where it is large, as a whole one."""
    return f"{_bare(number, share)}%" if share else _bare(number, share)


def score(score: Score | None, *, share: bool) -> str:
    """A value with its interval; a dash where nothing was observed."""
    if score is None:
        return "–"
    low, high = score.ci95
    return f"{value(score.value, share=share)} ({_bare(low, share)}–{_bare(high, share)})"


def lead(lead: Difference | None, *, share: bool) -> str:
    """A signed difference (of shares, in percentage points) and how sure it is."""
    if lead is None:
        return "–"
    sign = "-" if lead.value < 0 else "+"
    chance = "p<.001" if lead.p < 0.001 else f"p={lead.p:.3f}".replace("=0.", "=.")
    return f"{sign}{_bare(abs(lead.value), share)} {chance}"


def verdict(row: Row, lead: Difference | None) -> str:
    """`better` or `worse` where the first evaluation differs significantly from another, else `even`."""
    if lead is None or lead.p >= SIGNIFICANT or lead.value == 0:
        return "even"
    return "better" if (lead.value > 0) == row.higher_is_better else "worse"


def title(name: str) -> str:
    """A score's name as people write it."""
    return name.replace("_", " ")


def _bare(number: float, share: bool) -> str:
    if share:
        return f"{100 * number:.1f}"
    return f"{number:,.0f}" if number >= 1000 else f"{number:.4g}"
