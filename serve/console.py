"""Tables of the commands."""

from rich.console import Console
from rich.table import Table

WIDE = 150  # columns


def show_table(table: Table) -> None:
    """Print a table; where nobody looks at a terminal, its lines are not broken."""
    console = Console()
    if not console.is_terminal:
        console = Console(width=WIDE)
    console.print(table, markup=False)
