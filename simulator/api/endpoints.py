"""The table of all endpoints, which REST and the websocket API share."""

from __future__ import annotations

from simulator.api import market_data, order_lists, orders
from simulator.api.call import Endpoint

ENDPOINTS: tuple[Endpoint, ...] = (*market_data.ENDPOINTS, *orders.ENDPOINTS, *order_lists.ENDPOINTS)
