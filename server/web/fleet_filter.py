"""Which bots the fleet page shows and in which order. All of it stands in the URL: every choice is a link."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from urllib.parse import urlencode

from server.web.shell import place_of
from shared.states import BotState, DesiredState

Bot = Mapping[str, Any]
STATES = {"": "All", "running": "Running", "attention": "Needs attention", "stopped": "Stopped"}
SORTS = ("state", "name", "position", "today", "total", "decision", "heartbeat", "restarts", "cpu")
PLACES = {"live": "Live", "testnet": "Testnet", "paper": "Paper", "simulator": "Simulator"}


@dataclass(frozen=True, slots=True, kw_only=True)
class FleetQuery:
    """What the URL asks for. *sort* is a column, with a leading ``-`` from the top down; *select* shows a phone the
    boxes to tick."""

    state: str = ""
    place: str = ""
    strategy: str = ""
    tag: str = ""
    q: str = ""
    sort: str = ""
    select: str = ""

    def url(self, **changes: str) -> str:
        """The page with some of it changed."""
        then = replace(self, **changes)
        given = {name: getattr(then, name) for name in FIELDS if getattr(then, name)}
        return f"/?{urlencode(given)}" if given else "/"

    @property
    def is_narrowed(self) -> bool:
        """Whether some bots may be left out."""
        return bool(self.state or self.place or self.strategy or self.tag or self.q)


FIELDS = ("state", "place", "strategy", "tag", "q", "sort", "select")


def fleet_query(given: Callable[[str, str], str]) -> FleetQuery:
    """Read it from *given*, which answers ``(name, default)``."""
    values = {name: given(name, "")[:200] for name in FIELDS}
    if values["state"] not in STATES:
        values["state"] = ""
    if values["place"] not in PLACES:
        values["place"] = ""
    values["select"] = "1" if values["select"] else ""
    if values["sort"].removeprefix("-") not in SORTS:
        values["sort"] = ""
    return FleetQuery(**values)


@dataclass(frozen=True, slots=True, kw_only=True)
class Chip:
    """A link that filters, with how many bots it leads to."""

    label: str
    url: str
    count: int
    is_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Menu:
    """A filter with many values, folded. *chosen* is the label of the one in force."""

    name: str
    label: str
    chosen: str
    chips: tuple[Chip, ...]


def needs_attention(bot: Bot, silent: frozenset[int] | set[int]) -> bool:
    """Whether somebody should look: in error, silent, halted, or a pause that nobody asked for."""
    unasked = bot["status"] == BotState.PAUSED and bot["desired_state"] == DesiredState.RUNNING
    return bot["status"] == BotState.ERROR or bot["id"] in silent or bot["halted"] or unasked


def chosen(bots: Sequence[Bot], query: FleetQuery, silent: set[int]) -> list[Bot]:
    """The bots that *query* asks for, in the order in which they came."""
    return [bot for bot in bots if _fits(bot, query, silent)]


def _fits(bot: Bot, query: FleetQuery, silent: set[int], *, any_state: bool = False) -> bool:
    words = query.q.lower().split()
    text = " ".join([bot["name"], bot["symbol"], bot["strategy"], *bot["tags"], f"#{bot['id']}"]).lower()
    return (
        (any_state or _in_state(bot, query.state, silent))
        and query.place in ("", place_of(bot["exchange"], bot["mode"]))
        and query.strategy in ("", bot["strategy"])
        and (not query.tag or query.tag in bot["tags"])
        and all(word in text for word in words)
    )


def _in_state(bot: Bot, state: str, silent: set[int]) -> bool:
    if state == "attention":
        return needs_attention(bot, silent)
    if state == "running":
        return bot["status"] == BotState.RUNNING and bot["id"] not in silent
    return not state or bot["status"] == state


def state_chips(bots: Sequence[Bot], query: FleetQuery, silent: set[int]) -> list[Chip]:
    """One chip per state, counted under the other filters."""
    others = [bot for bot in bots if _fits(bot, query, silent, any_state=True)]
    return [
        Chip(
            label=label,
            url=query.url(state=state),
            count=sum(_in_state(bot, state, silent) for bot in others),
            is_current=query.state == state,
        )
        for state, label in STATES.items()
    ]


def menus(bots: Sequence[Bot], query: FleetQuery, strategies: Mapping[str, str]) -> list[Menu]:
    """The filters for where a bot trades, its strategy and its tags; one that leaves no choice is left out."""
    places = Counter(place_of(bot["exchange"], bot["mode"]) for bot in bots)
    by_strategy, tags = Counter(bot["strategy"] for bot in bots), Counter(tag for bot in bots for tag in bot["tags"])
    made = [
        _menu("place", "Mode", query, [(p, label, places[p]) for p, label in PLACES.items() if p in places]),
        _menu("strategy", "Strategy", query, [(s, strategies.get(s, s), n) for s, n in sorted(by_strategy.items())]),
        _menu("tag", "Tag", query, [(tag, tag, n) for tag, n in sorted(tags.items())]),
    ]
    return [menu for menu in made if len(menu.chips) > 2 or menu.chosen]


def _menu(name: str, label: str, query: FleetQuery, values: list[tuple[str, str, int]]) -> Menu:
    now = getattr(query, name)
    chips = [Chip(label="All", url=query.url(**{name: ""}), count=0, is_current=not now)]
    chips += [
        Chip(label=text, url=query.url(**{name: value}), count=n, is_current=now == value) for value, text, n in values
    ]
    text = next((text for value, text, _ in values if value == now), now)
    return Menu(name=name, label=label, chosen=text, chips=tuple(chips))
