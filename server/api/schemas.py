"""The bodies that the API takes and gives, with an example of each for OpenAPI."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field, StringConstraints, create_model, field_validator

from server.api.wire import MAX_ID, PageQuery, documented
from server.storage.log_lines import Level
from shared.states import BotState, DesiredState, PositionState, RunKind

Name = Annotated[
    str, StringConstraints(strip_whitespace=True, min_length=1, max_length=100, pattern=r"^[^\x00-\x1f\x7f]*$")
]
Symbol = Annotated[str, StringConstraints(pattern=r"^[A-Z0-9]{5,20}$")]
Word = Annotated[str, StringConstraints(min_length=1, max_length=64)]
Id = Annotated[int, Field(ge=1, le=MAX_ID, strict=True)]
ApiKey = Annotated[str, StringConstraints(min_length=4, max_length=500, pattern=r"^[\x21-\x7e]+$")]
ApiSecret = Annotated[str, StringConstraints(min_length=4, max_length=5000)]
Tag = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=40)]


class Taken(BaseModel):
    """A body that is taken: unknown fields are refused."""

    model_config = ConfigDict(extra="forbid")


class Given(BaseModel):
    """An object that is given; later versions may add fields."""


def list_of(kind: type[Given], example: dict[str, Any]) -> type[BaseModel]:
    """The schema of a page of *kind*, and the examples of both."""
    documented(kind, example)
    fields: dict[str, Any] = {"items": (list[kind], ...), "next_cursor": (str | None, ...)}  # type: ignore[valid-type]
    page = create_model(f"{kind.__name__}List", __base__=Given, __doc__=f"A page of {kind.__name__}.", **fields)
    return documented(page, {"items": [example], "next_cursor": None})


# Paths and queries


class BotPath(BaseModel):
    bot_id: int = Field(ge=0, le=MAX_ID, description="The bot's id.", json_schema_extra={"example": 3})


class ModelPath(BaseModel):
    model_id: int = Field(ge=0, le=MAX_ID, description="The model's id.", json_schema_extra={"example": 1})


class RowPath(BaseModel):
    row_id: int = Field(ge=0, le=MAX_ID, description="The row's id.", json_schema_extra={"example": 1})


class StrategyPath(BaseModel):
    strategy_id: str = Field(description="The strategy's id.", json_schema_extra={"example": "rsi"})


class VersionPath(BotPath):
    version: int = Field(ge=0, le=MAX_ID, description="The config version.", json_schema_extra={"example": 2})


class OrdersQuery(PageQuery):
    status: PositionState | None = Field(
        None, description="Only positions in this state.", json_schema_extra={"example": "closed"}
    )


class EventsQuery(PageQuery):
    type: Word | None = Field(None, description="Only events of this type.", json_schema_extra={"example": "fill"})


class LogsQuery(PageQuery):
    level: Level = Field(
        Level.DEBUG, description="Lines of this level and above.", json_schema_extra={"example": "warning"}
    )
    search: str = Field(
        "",
        max_length=200,
        description="Only lines that contain this, in any case.",
        json_schema_extra={"example": "eth"},
    )
    after: int | None = Field(
        None, ge=0, le=2**63 - 1, description="Only lines with a higher id.", json_schema_extra={"example": 4711}
    )


class AuditQuery(PageQuery):
    bot_id: int | None = Field(
        None, ge=1, le=MAX_ID, description="Only changes of this bot.", json_schema_extra={"example": 3}
    )
    actor: Word | None = Field(None, description="Only changes by this name.", json_schema_extra={"example": "admin"})
    action: Word | None = Field(None, description="Only this action.", json_schema_extra={"example": "bot.start"})


# Login and tokens


class LoginBody(Taken):
    username: str = Field(max_length=200, examples=["admin"])
    password: str = Field(max_length=1000, examples=["correct horse battery staple"])


class Login(Given):
    access_token: str
    expires_in: int = Field(description="Seconds until the token ends.")
    role: str
    token_type: str


class TokenBody(Taken):
    name: Name = Field(examples=["backup script"])
    role: Literal["viewer", "trader", "admin"] = Field(examples=["viewer"])
    expires_in: int | None = Field(
        None, ge=60, le=315_360_000, strict=True, description="Seconds; empty means never.", examples=[2_592_000]
    )


class Token(Given):
    id: int
    name: str
    owner: str | None = Field(description="Whose it is; empty for the token of this machine's own tools.")
    role: str
    prefix: str
    created_at: str
    expires_at: str | None
    last_used_at: str | None


class NewToken(Token):
    token: str = Field(description="The secret; it is shown this one time.")


class Session(Given):
    id: int
    kind: Literal["login", "page"] = Field(description="login: through the API; page: in a browser.")
    username: str
    program: str = Field(description="How the browser or program names itself.")
    is_this: bool = Field(description="Whether this very request was made in it.")
    created_at: str
    expires_at: str
    last_used_at: str | None


class CredentialChanges(Taken):
    name: Name | None = Field(None, examples=["simulator account 1"])
    api_key: ApiKey | None = Field(None, examples=["vmPUZE6mv9SD5VNHk4HlWFsO"])
    api_secret: ApiSecret | None = Field(None, examples=["NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP"])


class CredentialBody(Taken):
    exchange: Literal["simulator", "binance", "binance_testnet"] = Field(examples=["simulator"])
    name: Name = Field(examples=["simulator account 1"])
    api_key: ApiKey = Field(examples=["vmPUZE6mv9SD5VNHk4HlWFsO"])
    api_secret: ApiSecret = Field(examples=["NhqPtmdSJYdKjVHjA7PZj4Mge3R5YNiP"])


class Credential(Given):
    id: int
    exchange: str
    name: str
    api_key_last4: str
    created_at: str


# Strategies and models


class Parameter(Given):
    name: str
    type: str
    default: Any
    nullable: bool
    minimum: float | None
    maximum: float | None
    choices: list[str] | None
    unit: str | None
    group: str
    applies: str
    help: str
    depends_on: dict[str, list[str]] | None


class Strategy(Given):
    id: str
    name: str
    description: str
    risk_note: str
    intervals: list[str]
    needs_model: bool
    parameters: list[Parameter]


class Model(Given):
    id: int
    name: str
    symbol: str
    sha256: str
    size_bytes: int
    trees: int
    features: list[str]
    schema_version: str
    uploaded_by: str
    created_at: str
    used_by: list[int] = Field(description="Bots whose config names this model.")
    card: dict[str, Any] | None = Field(description="What training wrote beside the model, if it was uploaded too.")


# Bots


class BotFields(Taken):
    """What a bot is made of; ids of strategies, exchanges and modes are looked up by the service."""

    @field_validator("tags", check_fields=False)
    @classmethod
    def _no_tag_twice(cls, tags: list[str] | None) -> list[str] | None:
        return None if tags is None else list(dict.fromkeys(tags))


class NewBot(BotFields):
    name: Name = Field(examples=["eth-scalper"])
    strategy: Word = Field(examples=["rsi"])
    symbol: Symbol = Field(examples=["ETHUSDT"])
    exchange: Word = Field(description="simulator; binance and binance_testnet follow.", examples=["simulator"])
    mode: Word = Field(description="trade: orders at that exchange; paper follows.", examples=["trade"])
    interval: Word | None = Field(None, description="Default: the strategy's first.", examples=["1m"])
    config: dict[str, Any] = Field({}, description="Trading config; what it leaves out gets its default.")
    description: str = Field("", max_length=2000, examples=["Buys dips on the simulator"])
    credential_id: Id | None = Field(None, examples=[1])
    tags: list[Tag] = Field([], max_length=20, examples=[["demo"]])


class BotChanges(BotFields):
    name: Name | None = Field(None, examples=["eth-scalper"])
    strategy: Word | None = Field(None, examples=["rsi"])
    symbol: Symbol | None = Field(None, examples=["ETHUSDT"])
    exchange: Word | None = Field(None, examples=["simulator"])
    mode: Word | None = Field(None, examples=["trade"])
    interval: Word | None = Field(None, examples=["1m"])
    description: str | None = Field(None, max_length=2000, examples=["Buys dips"])
    credential_id: Id | None = Field(None, examples=[1])
    tags: list[Tag] | None = Field(None, max_length=20, examples=[["demo"]])


Reason = Annotated[str, StringConstraints(strip_whitespace=True, min_length=1, max_length=500)]


class ReasonBody(Taken):
    """A body that may be left out; the reason goes into the audit log."""

    reason: Reason | None = Field(None, examples=["maintenance at the exchange"])


class BotStatus(Given):
    id: int
    desired_state: DesiredState
    halted: bool
    halt_reason: str | None = Field(description="Who halted it, and why.")
    status: BotState
    status_reason: str | None
    status_since: int | None = Field(description="UTC ms.")
    pid: int | None
    run_id: str | None
    config_version: int
    applied_config_version: int | None
    started_at: str | None
    heartbeat_at: str | None
    last_decision_at: str | None


class Bot(BotStatus):
    name: str
    description: str
    strategy: str
    symbol: str
    exchange: str
    mode: str
    interval: str
    tags: list[str]
    credential_id: int | None
    created_at: str
    restarts_24h: int
    open_positions: int
    balance: str | None = Field(description="Quote asset of the account, free and locked.")
    pnl_today: str
    pnl_total: str
    rss_mib: float | None


class BotHealth(Given):
    id: int
    status: BotState
    heartbeat_age_ms: int | None
    errors: dict[str, int] = Field(description="Errors of this run by type.")
    breakers: dict[str, str]
    streams: dict[str, str]
    latency_p50_us: float | None
    latency_p99_us: float | None
    loop_lag_ms: float | None
    rss_mib: float | None
    restarts_24h: int


class ControlState(Given):
    desired: DesiredState
    halted: bool = Field(description="The bot's own latch, or the kill switch.")
    halt_reason: str | None
    close_positions: bool = Field(description="The kill switch wants nothing held.")


class OneShot(Given):
    number: int
    verb: str
    args: dict[str, Any]


class Control(Given):
    control: ControlState
    config_version: int
    config: dict[str, Any]
    commands: list[OneShot] = Field(description="One-shot commands that the bot has not acknowledged yet.")


class HomePlace(Taken):
    """The home folder that the launcher reaches, as its machine knows it; the server compares it with its own."""

    boot_id: str = Field(max_length=64)
    pid_namespace: int = Field(ge=0, le=2**63)
    device: int = Field(ge=0, le=2**63)
    inode: int = Field(ge=0, le=2**64)


class RunBody(Taken):
    host: Name | None = Field(None, description="The launcher's name; default: its address.", examples=["study"])
    symbol: Symbol | None = Field(None, description="Refused if the bot trades another.", examples=["ETHUSDT"])
    home: HomePlace | None = Field(None, description="Without it, or if it is not the server's, the run is remote.")
    replaces: str | None = Field(
        None, max_length=40, description="A remote run of the same host that died without a word.", examples=["3.6"]
    )


class Ticket(Given):
    """What `shared/tickets.py` reads: config, control, model, exchange keys, and the run's own token."""

    model_config = ConfigDict(extra="allow")
    run_id: str
    bot_id: int
    generation: int
    kind: RunKind
    strategy: str
    symbol: str
    document: Control
    model: dict[str, Any] | None = Field(description="id, sha256, and the path below this server to download it from.")
    token: str


class Booked(Given):
    run_id: str
    last_seq: int = Field(description="Number of the last line that is in the rows.")
    replaced_by: str | None = Field(description="The run that took this one's place: end without touching orders.")
    control_tag: str = Field(description="Changes with what GET …/control answers.")


class ConfigDocument(Given):
    model_config = ConfigDict(extra="allow")
    version: int


class ConfigBody(BaseModel):
    """Flat trading config: common fields and the strategy's own, see /api/strategies."""

    model_config = ConfigDict(extra="allow")


class ConfigVersion(Given):
    version: int
    author: str
    created_at: str
    diff: dict[str, Any]
    config: dict[str, Any]


class AuditEntry(Given):
    id: int
    at: str
    actor: str
    via: str = Field(description="web, api, cli, telegram, or system.")
    action: str
    bot_id: int | None
    target: str | None
    before: dict[str, Any] | None
    after: dict[str, Any] | None
    reason: str | None


# Trading


class Order(Given):
    id: int
    bot_id: int
    position_key: int
    symbol: str
    side: str
    status: PositionState
    quantity: str
    entry_price: str | None
    exit_price: str | None
    opened_at: str
    closed_at: str | None
    fees: str
    pnl: str | None = Field(description="Net of fees, in quote.")
    pnl_pct: float | None
    confidence: float | None
    exit_reason: str | None
    entry_logic: str
    exit_logic: str
    config_version: int
    model_id: int | None
    exchange: str
    mode: str
    tags: list[str]
    activated_at: str | None = Field(description="When the first fill came.")
    stop_price: str | None
    target_price: str | None
    exit_deadline_at: str | None = Field(description="When the holding time ends.")
    exiting: str | None = Field(description="Why it is being sold, while it is.")
    dust_quantity: str = Field(description="What was too small to sell, in base.")
    dust_cost: str = Field(description="What that had cost, in quote; not in the PNL.")
    legs: list[dict[str, Any]]


class Fill(Given):
    id: int
    trade_id: int
    order_id: int
    client_order_id: str
    position_key: int
    symbol: str
    side: str
    price: str
    quantity: str
    fee: str
    fee_asset: str
    fee_quote: str | None
    is_maker: bool
    time: int


class Event(Given):
    v: int
    bot_id: int
    run_id: str
    seq: int
    ts: int
    type: str
    data: dict[str, Any]


class LogLine(Given):
    id: int = Field(description="Rises from line to line; follow with `after`.")
    ts: int = Field(description="UTC ms.")
    run_id: str
    type: str = Field(description="Type of the event that the line tells.")
    level: Level
    text: str


class Figures(Given):
    trades: int
    wins: int
    losses: int
    win_rate: float | None
    gross_pnl: str
    pnl: str = Field(description="Net of fees, in quote.")
    fees: str
    profit_factor: float | None
    max_drawdown: str = Field(description="Largest fall of the summed PNL from its peak, in quote.")
    max_drawdown_pct: float | None
    avg_holding_time: float | None = Field(description="Seconds.")


class DayFigures(Figures):
    day: str


class TotalFigures(Figures):
    sharpe: float | None


class Stats(Given):
    bot_id: int
    totals: TotalFigures
    by_day: list[DayFigures]
