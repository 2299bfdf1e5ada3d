"""REST keeps up with a fleet."""

from __future__ import annotations

import http.client
import time
from urllib.parse import urlencode

import psutil

ORDERS = 1000


def test_a_thousand_signed_orders_take_less_than_a_second_of_processor_time(start):
    simulator = start("--unlimited")
    customer = simulator.account(USDT="100000000")
    line = http.client.HTTPConnection("127.0.0.1", simulator.port, timeout=10)
    headers = {"X-MBX-APIKEY": customer.api_key, "Content-Type": "application/x-www-form-urlencoded"}
    server = psutil.Process(simulator.process.pid)
    before = server.cpu_times()

    for _ in range(ORDERS):
        body = urlencode({
            "symbol": "BTCUSDT", "side": "BUY", "type": "MARKET", "quantity": "0.001",
            "timestamp": int(time.time() * 1000),
        })  # fmt: skip
        line.request("POST", "/api/v3/order", f"{body}&signature={customer.sign(body)}", headers)
        reply = line.getresponse()
        text = reply.read()
        assert reply.status == 200, text

    after = server.cpu_times()
    assert after.user + after.system - before.user - before.system < 1.0
