"""How numbers are written for people."""

from eval.evaluation import Row
from eval.measure import Difference, Score

SIGNIFICANT = 0.05


def value(number: float, *, share: bool) -> str:
    """A share in percent, any other number with four digits."""
    return f"{100 * number:.1f}%" if share else f"{number:.4g}"


def score(score: Score | None, *, share: bool) -> str:
    """A value with its interval; a dash where nothing was observed."""
    if score is None:
        return "–"
    low, high = score.ci95
    spread = f"{100 * low:.1f}–{100 * high:.1f}" if share else f"{low:.4g}–{high:.4g}"
    return f"{value(score.value, share=share)} ({spread})"


def lead(lead: Difference | None, *, share: bool) -> str:
    """A signed difference (of shares, in percentage points) and how sure it is."""
    if lead is None:
        return "–"
    number = f"{100 * lead.value:+.1f}" if share else f"{lead.value:+.4g}"
    return f"{number} {'p<.001' if lead.p < 0.001 else f'p={lead.p:.3f}'.replace('=0.', '=.')}"


def verdict(row: Row, lead: Difference | None) -> str:
    """`better` or `worse` where the first evaluation differs significantly from another, else `even`."""
    if lead is None or lead.p >= SIGNIFICANT or lead.value == 0:
        return "even"
    return "better" if (lead.value > 0) == row.higher_is_better else "worse"


def title(name: str) -> str:
    """A score's name as people write it."""
    return name.replace("_", " ")
