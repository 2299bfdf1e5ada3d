"""The way in for every call: parameters, key, signature, time and limits, then the handler.

Shared by REST and the websocket API, which differ only in how a call is written and what text is signed.
"""

from __future__ import annotations

import inspect
from collections.abc import Mapping

from simulator.api.call import Answer, Call, Endpoint
from simulator.core.accounts import Account
from simulator.core.orders import Filled, Order, OrderFact, OrderPlaced
from simulator.core.rules import ApiError
from simulator.doors.limits import Limits
from simulator.doors.params import Params, check_time
from simulator.doors.signing import check_signature, invalid_signature
from simulator.venue import Listener, Venue


class Door(Listener):
    """Lets calls in to one venue, or raises `ApiError`. Counts the unfilled orders of each account."""

    def __init__(self, venue: Venue, limits: Limits) -> None:
        self.venue = venue
        self.limits = limits

    def on_fact(self, fact: OrderFact, order: Order) -> None:
        """+1 for an accepted order; its first fill takes 1 off as taker, 5 as maker."""
        number = 0
        if isinstance(fact, OrderPlaced):
            number = 1
        elif isinstance(fact, Filled) and len(order.fills) == 1:
            number = -5 if fact.is_maker else -1
        if number:
            self.limits.count_orders(order.placed.api_key, number, self.venue.wall())

    async def call(
        self,
        endpoint: Endpoint,
        values: Mapping[str, str],
        address: str,
        api_key: str | None,
        signed_text: bytes | None,
        session: Account | None = None,
    ) -> Answer:
        """Run one endpoint for whoever is at *address*; *session* is who logged on there before."""
        params, now = Params(values), self.venue.wall()
        weight = endpoint.cost(params)
        self.limits.spend_weight(address, weight, now)
        customer = self.customer(params, api_key, signed_text, session) if endpoint.signed else None
        if customer is not None and endpoint.trades and not customer.can_trade:
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        if endpoint.params is not None:
            params.known_only(endpoint.params)
        answer = endpoint.handler(Call(self.venue, self.limits, params, customer))
        if inspect.isawaitable(answer):
            answer = await answer
        if endpoint.free:
            self.limits.give_back_weight(address, weight, now)
        return answer

    def customer(
        self, params: Params, api_key: str | None, signed_text: bytes | None, session: Account | None = None
    ) -> Account:
        """The account whose key signed the call, just now. With neither key nor signature it is that of *session*."""
        if session is not None and api_key is None and "signature" not in params:
            check_time(params, self.venue.api_ms())
            return session
        if not api_key or not api_key.isascii() or not api_key.isalnum() or len(api_key) != 64:
            raise ApiError(-2014, "API-key format invalid.", 401)
        customer = self.venue.exchange.accounts.get(api_key)
        if customer is None:
            raise ApiError(-2015, "Invalid API-key, IP, or permissions for action.", 401)
        signature = params.required("signature")
        check_time(params, self.venue.api_ms())
        if signed_text is None:
            raise invalid_signature()
        check_signature(customer.key_kind, customer.api_secret, signed_text, signature)
        return customer
