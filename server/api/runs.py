"""Manual launches: the ticket of a run that a person starts, and the reports of one on another host."""

from __future__ import annotations

import json

from flask import Response, abort, current_app, jsonify, request
from pydantic import TypeAdapter, ValidationError

from server.api import examples  # noqa: F401  (attaches the examples)
from server.api.schemas import Booked, BotPath, RunBody, Ticket
from server.api.wire import WrongContentType, blueprint, caller, check_text, engine, refuse_invalid
from server.security.roles import Role, needs
from server.storage import remote_runs
from server.storage.engine import write
from server.storage.ledger import payload_of
from server.storage.queries import bot_row
from server.supervisor.manual_runs import Launch, Place, open_manual_run
from shared.errors import FlotillaError, Forbidden, Refused
from shared.events import MAX_LINE_BYTES, Envelope, decode_line
from shared.tickets import RunTicket

api = blueprint("runs", "Launching a bot by hand")

MAX_LINES = 2000
SIMULATOR = "simulator"
_LINE_TYPES = ("application/x-ndjson", "application/jsonl", "application/json", "text/plain")
_RUN_BODY = {
    "required": False,
    "content": {
        "application/json": {
            "schema": RunBody.model_json_schema(),
            "example": {"host": "study", "symbol": "ETHUSDT"},
        }
    },
}
_LINES_BODY = {
    "required": True,
    "content": {
        "application/x-ndjson": {
            "schema": {"type": "string", "description": "Events of one run, each on a line of its own."},
            "example": '{"v":1,"bot_id":3,"run_id":"3.7","seq":17,"ts":1795185128000,"type":"ready","data":'
            '{"reconciled_orders":0,"open_positions":0,"seconds":1.2}}\n',
        }
    },
}


@api.post(
    "/api/bots/<int(max=2147483647):bot_id>/runs",
    responses={201: Ticket},
    openapi_extensions={"requestBody": _RUN_BODY},
)
@needs(Role.TRADER)
def open_run(path: BotPath) -> tuple[Response, int]:
    """Take a run ticket: all that `bots/trading_bot.py` needs to run this bot. It is wanted running from then on.

    It holds the exchange's keys in clear, so that of a bot at a real exchange is for admins.
    """
    body = _run_body()
    flotilla = current_app.extensions["flotilla"]
    launch = Launch(
        host=body.host or request.remote_addr or "an unknown host",
        author=caller().author,
        place=Place(**body.home.model_dump()) if body.home is not None else None,
        replaces=body.replaces,
        symbol=body.symbol,
    )
    with write(engine()) as connection:
        exchange = bot_row(connection, path.bot_id).exchange
        if exchange != SIMULATOR and caller().role != Role.ADMIN:
            raise Forbidden(
                f"A run ticket holds the keys of {exchange} in clear, so taking it needs the role admin; "
                f"{caller().name} has the role {caller().role}. Press start to have the supervisor run the bot."
            )
        ticket = open_manual_run(connection, flotilla.settings, flotilla.vault, path.bot_id, launch)
    document = TypeAdapter(RunTicket).dump_python(ticket, mode="json")
    return jsonify({"run_id": ticket.run_id} | document), 201


@api.post(
    "/api/trading/bots/<int(max=2147483647):bot_id>/events",
    responses={200: Booked},
    openapi_extensions={"requestBody": _LINES_BODY},
)
@needs(Role.ADMIN, own_bot=True)
def post_events(path: BotPath) -> Response:
    """Book the JSON lines of a remote run, in the order of their numbers. Sending a line again changes nothing.

    A run's token reports that run, and what earlier ones left in the same spool; never a later one.
    """
    own = caller().run_id
    if own is None:
        raise Forbidden("Only a bot reports what it did, with the token of its run ticket.")
    lines = _lines(path.bot_id)
    run_id = lines[0][1].run_id
    if remote_runs.generation_of(run_id) > remote_runs.generation_of(own):
        raise Forbidden(f"This token is run {own}'s, and {run_id} is a later one, which reports with its own.")
    with write(engine()) as connection:
        return jsonify(remote_runs.book(connection, path.bot_id, run_id, lines))


def _run_body() -> RunBody:
    if not request.get_data():
        return RunBody.model_validate({})
    try:
        return RunBody.model_validate(request.get_json())
    except ValidationError as error:
        refuse_invalid(error)


def _lines(bot_id: int) -> list[tuple[int, Envelope]]:
    if request.mimetype not in _LINE_TYPES:
        raise WrongContentType(f"Send JSON lines with the header Content-Type: {_LINE_TYPES[0]}.")
    found: list[tuple[int, Envelope]] = []
    for number, line in enumerate(request.get_data().split(b"\n"), 1):
        if not line.strip():
            continue
        if len(found) >= MAX_LINES:
            abort(413)
        try:
            found.append((number, _envelope(line, bot_id, found[0][1].run_id if found else None)))
        except (ValueError, RecursionError, FlotillaError) as error:
            reason = str(error).splitlines()[0][:300]
            raise Refused("A line cannot be read; nothing was booked.", fields={f"line {number}": reason}) from None
    if not found:
        raise Refused("There are no lines.", fields={"line 1": "is required"})
    return found


def _envelope(line: bytes, bot_id: int, run_id: str | None) -> Envelope:
    if len(line) > MAX_LINE_BYTES:
        raise ValueError(f"longer than {MAX_LINE_BYTES} bytes")
    check_text(json.loads(line))
    envelope = decode_line(line)
    bot, _, generation = envelope.run_id.partition(".")
    is_run = generation.isascii() and generation.isdecimal() and len(generation) < 10
    if envelope.bot_id != bot_id or bot != str(bot_id) or not is_run:
        raise ValueError(f"belongs to run {envelope.run_id[:40]} of bot {envelope.bot_id}, not to bot {bot_id}")
    if run_id not in (None, envelope.run_id):
        raise ValueError(f"belongs to run {envelope.run_id}, the lines before it to run {run_id}; send them apart")
    if not 1 <= envelope.seq < 2**53 or not 0 <= envelope.ts < 2**53:
        raise ValueError("seq and ts must be whole numbers above zero")
    _check_payload(envelope)
    return envelope


def _check_payload(envelope: Envelope) -> None:
    try:
        payload_of(envelope)
    except ValidationError as error:
        wrong = ", ".join(".".join(map(str, e["loc"])) for e in error.errors()[:5])
        raise ValueError(f"data of type {envelope.type}: missing or wrong: {wrong}") from None
