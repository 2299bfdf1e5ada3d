"""Taking the steps of a script on the running exchange, each at its moment of market time.

The venue asks when the next step is due and lets it be taken there, between the trades before and after. An order
that the exchange refuses is reported and the run goes on: what the market makes of it is part of the scenario.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from dataclasses import dataclass

from simulator.api.call import Call, Endpoint
from simulator.api.endpoints import ENDPOINTS
from simulator.core.orders import AccountOpened
from simulator.core.rules import ApiError
from simulator.doors.limits import Limits
from simulator.doors.params import Params
from simulator.faults.kinds import Act
from simulator.faults.rules import BadFault
from simulator.faults.switchboard import MARKET, Faults
from simulator.scenario.script import Script
from simulator.scenario.timeline import Begin, CallStep, End, OpenAccount, Timeline
from simulator.store import Moment
from simulator.venue import STEP, Venue

_ENDPOINTS = {endpoint.ws_method: endpoint for endpoint in ENDPOINTS}
_NAMES_ORDER = {"newClientOrderId": "order", "listClientOrderId": "list", "cancelNewClientOrderId": "cancel"}


@dataclass(frozen=True, slots=True)
class _On:
    """A fault that a step has switched on; *number* is its id, 0 while it waits to go on after a restart."""

    begin: Begin
    number: int


class Play:
    """The `Schedule` of a script. *say* is told in a sentence what was refused. Scripted customers have no limits."""

    def __init__(self, script: Script, faults: Faults, say: Callable[[str], None]) -> None:
        self.done = 0
        self._script = script
        self._timeline = Timeline(script)
        self._faults = faults
        self._say = say
        self._limits = Limits(enforced=False)
        self._on: dict[tuple[int, int], _On] = {}
        self._resumed_ms = 0

    def next_ms(self) -> int:
        """Market time of the next step; far away when there is none."""
        return self._timeline.next_ms()

    def step(self, venue: Venue) -> None:
        """Take the next step; *venue* stands at its moment."""
        step = self._timeline.pop()
        self.done += 1
        match step:
            case OpenAccount():
                self._open(venue, step.account)
            case Begin():
                self._begin(step, step.at_ms)
            case End():
                ended = self._on.pop((step.index, step.nth), None)
                if ended is not None:
                    self._faults.remove(ended.number)
            case CallStep():
                self._call(venue, step)

    def resume(self, moment: Moment) -> None:
        """Count the steps up to *moment* as taken. Their faults go on with `rejoin`."""
        self._resumed_ms = moment.time_ms
        while self._was_taken(moment):
            step = self._timeline.pop()
            self.done += 1
            if isinstance(step, Begin) and _stays_on(step):
                self._on[step.index, step.nth] = _On(step, 0)
            elif isinstance(step, End):
                self._on.pop((step.index, step.nth), None)

    def rejoin(self) -> None:
        """Switch on what a script that was resumed had on, each for the time that is left."""
        for on in list(self._on.values()):
            self._begin(on.begin, self._resumed_ms)

    def _was_taken(self, moment: Moment) -> bool:
        at_ms = self._timeline.next_ms()
        if at_ms != moment.time_ms or moment.symbol != STEP:
            return at_ms <= moment.time_ms
        return self.done < moment.number

    def _open(self, venue: Venue, account: AccountOpened) -> None:
        if account.api_key not in venue.exchange.accounts:
            venue.open_account(account)

    def _begin(self, step: Begin, now_ms: int) -> None:
        left_s = None if step.end_ms is None else (step.end_ms - now_ms) / 1000
        try:
            active = self._faults.begin(step.scripted.fault, MARKET, now_ms, left_s)
        except BadFault as error:
            self._say(f"Scenario: {step.scripted.path} {self._at(step.at_ms)} was refused: {error}")
            return
        if _stays_on(step):
            self._on[step.index, step.nth] = _On(step, active.id)

    def _call(self, venue: Venue, step: CallStep) -> None:
        scripted, endpoint = step.scripted, _ENDPOINTS[step.scripted.ws_method]
        params = Params(self._named(step, endpoint))
        try:
            customer = venue.exchange.accounts[scripted.api_key]
            if endpoint.trades and not customer.can_trade:
                raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
            answer = endpoint.handler(Call(venue, self._limits, params, customer))
            assert not inspect.isawaitable(answer)
        except ApiError as error:
            self._say(f"Scenario: {scripted.path} {self._at(step.at_ms)} was refused: {error.code}, {error.msg}")

    def _named(self, step: CallStep, endpoint: Endpoint) -> dict[str, str]:
        """The parameters, with ids that follow from the step where the script gives none."""
        params = dict(step.scripted.params)
        for name, what in _NAMES_ORDER.items():
            if name in (endpoint.params or ()):
                params.setdefault(name, f"{what}-{step.index}-{step.nth}")
        return params

    def _at(self, at_ms: int) -> str:
        return f"at {(at_ms - self._script.start_ms) / 1000:g} s"


def _stays_on(step: Begin) -> bool:
    """Is it on until its time is over or it is cleared? What counts strikes starts and ends with them."""
    fault = step.scripted.fault
    return not isinstance(fault, Act) and (step.end_ms is not None or fault.strikes is None)
