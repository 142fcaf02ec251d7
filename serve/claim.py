"""`resonance keys claim`: what belongs to no known key, and to whom it is given."""

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from pathlib import Path
from typing import TypeVar

from rich.table import Table
from sqlalchemy.engine import make_url

from serve.console import show_table
from serve.owners import KeysError
from serve.storage.database import default_url
from serve.storage.errors import StoreUnavailable
from serve.storage.ownership import Amount, Holding, holdings, move
from serve.storage.store import Store

NOBODY = ""  # the owner of what was written without keys
T = TypeVar("T")


def show_unclaimed(url: str | None, names: Mapping[str, str]) -> None:
    """Print what no known owner has; `names` are the known owners' by id."""
    unclaimed = [holding for holding in _use(url, holdings) if holding.owner not in names]
    if not unclaimed:
        print("Everything that is stored belongs to an owner with a name or a key.")
        return
    table = Table("from", "conversations", "messages", "votes", "latest", "written")
    for holding in unclaimed:
        table.add_row(*_row(holding))
    show_table(table)
    print("`resonance keys claim NAME [from=OWNER]` gives it to NAME.")


def claim(url: str | None, names: Mapping[str, str], name: str, source: str | None) -> None:
    """Give what `source` has (a name, an id, or None: nobody) to the owner of that name, and print how much it was."""
    ids = {known: id for id, known in names.items()}
    if name not in ids:
        raise KeysError(
            f"There is no owner {name!r}; there are: {', '.join(sorted(ids)) or 'none'}. `resonance keys add {name}` "
            "makes one."
        )
    giver = NOBODY if source is None else ids.get(source, source)
    if giver == ids[name]:
        raise KeysError(f"What {source} has is {name}'s already.")
    if source is not None:
        known = [holding.owner for holding in _use(url, holdings)]
        if giver not in known:
            raise KeysError(
                f"Nothing that is stored belongs to {source!r}; `resonance keys claim` lists what there is."
            )
    moved = _use(url, lambda store: move(store, giver, ids[name]))
    what = "were written without keys" if source is None else f"belonged to {source}"
    if moved:
        print(f"{name} has {_counted(moved)} now that {what}.")
    else:
        print(f"There is nothing to claim: no conversations and no votes {what}.")


def _row(holding: Holding) -> tuple[str, ...]:
    amount = holding.amount
    latest = "" if holding.latest is None else f"{holding.latest:%Y-%m-%d %H:%M}"
    written = "without keys" if holding.owner == NOBODY else "with a key that is not known any more"
    counts = (amount.conversations, amount.messages, amount.votes)
    return (holding.owner or "(nobody)", *map(str, counts), latest, written)


def _counted(amount: Amount) -> str:
    words = [
        f"{count} {word if count == 1 else word + 's'}"
        for count, word in (
            (amount.conversations, "conversation"), (amount.messages, "message"), (amount.votes, "vote"),
        )
    ]  # fmt: skip
    return f"{words[0]} with {words[1]} and {words[2]}"


def _use(url: str | None, use: Callable[[Store], Awaitable[T]]) -> T:
    """Use a database that exists. Raises KeysError when it cannot be reached."""
    logging.getLogger("resonance").addHandler(logging.NullHandler())  # why it fails stands in the error
    store = Store(url or default_url())
    path = store.url.database if store.url.get_backend_name() == "sqlite" else None
    if path and not Path(path).is_file():
        raise KeysError(f"There is no database at {path}; store.url=URL says which one the server uses.")

    async def run() -> T:
        try:
            return await use(store)
        finally:
            await store.close()

    try:
        return asyncio.run(run())
    except StoreUnavailable as error:
        where = make_url(store.url).render_as_string(hide_password=True)
        raise KeysError(f"The database {where} cannot be used: {error}.") from error
