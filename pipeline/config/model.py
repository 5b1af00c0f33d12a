"""What the file asks for, as frozen values. Everything is resolved: defaults filled in from the schema, durations
in seconds, sizes in bytes, paths absolute, arguments merged. No default stands here, and nobody above sees YAML."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from pipeline.secret import Secret

Ack = Literal["on_success", "manual", "none"]
Content = Literal["json", "text", "bytes", "msgpack"]
Declare = Literal["assert", "check", "skip"]
DeliveryMode = Literal["persistent", "transient"]
ExchangeType = Literal["direct", "fanout", "topic", "headers"]
KeyStore = Literal["memory", "sqlite"]
QueueType = Literal["classic", "quorum", "stream"]
Startup = Literal["fail", "wait"]
Until = Literal["idle", "stopped"]
Workers = int | Literal["auto"]
Loop = Literal["auto", "asyncio", "uvloop"]
LogFormat = Literal["auto", "text", "json"]
LogLevel = Literal["debug", "info", "warning", "error"]
RetryStrategy = Literal["broker", "native", "inline"]
FileFormat = Literal["lines", "jsonl", "csv"]

Scalar = str | int | float | bool | None
Value = Scalar | list["Value"] | dict[str, "Value"]
Arguments = Mapping[str, Value]


@dataclass(frozen=True, kw_only=True)
class Address:
    """One AMQP URL, taken apart. Prints without the password."""

    scheme: Literal["amqp", "amqps"]
    host: str
    port: int
    username: str
    password: Secret
    vhost: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


@dataclass(frozen=True, kw_only=True)
class Tls:
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    key_password: Secret | None


@dataclass(frozen=True, kw_only=True)
class Broker:
    """Where to connect. No addresses means the embedded broker."""

    addresses: tuple[Address, ...]
    version: str
    connect_timeout: float
    heartbeat: int
    reconnect_initial: float
    reconnect_max: float
    tls: Tls | None

    @property
    def embedded(self) -> bool:
        return not self.addresses


@dataclass(frozen=True, kw_only=True)
class Binding:
    """From `exchange` to the object that lists it."""

    exchange: str
    routing_key: str
    arguments: Arguments


@dataclass(frozen=True, kw_only=True)
class Exchange:
    key: str  # the name in the file; `name` is the one on the broker
    name: str
    type: ExchangeType
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Arguments
    bindings: tuple[Binding, ...]
    declare: Declare


@dataclass(frozen=True, kw_only=True)
class Queue:
    """`arguments` holds everything that goes to the broker, the first-class keys' `x-` arguments included."""

    key: str
    name: str
    type: QueueType
    durable: bool
    exclusive: bool
    auto_delete: bool
    arguments: Arguments
    bindings: tuple[Binding, ...]
    dead_letter: str | Literal[False] | None  # a name on the broker; False: failures are dropped; None: `<name>.dlq`
    declare: Declare


@dataclass(frozen=True, kw_only=True)
class Topology:
    """Model objects in the order in which they are declared, their bindings included."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]

    @property
    def objects(self) -> tuple[Exchange | Queue, ...]:
        return (*self.exchanges, *self.queues)


@dataclass(frozen=True, kw_only=True)
class Publish:
    """Where something goes and with which properties. The default exchange is `""`."""

    exchange: str
    routing_key: str
    mandatory: bool
    delivery_mode: DeliveryMode
    headers: Arguments
    content_type: str | None
    content_encoding: str | None
    priority: int | None
    expiration: float | None
    correlation_id: str | None
    reply_to: str | None
    type: str | None
    app_id: str | None


@dataclass(frozen=True, kw_only=True)
class IntervalSource:
    every: float
    count: int | None
    body: Value
    headers: Arguments


@dataclass(frozen=True, kw_only=True)
class FileSource:
    path: Path
    format: FileFormat
    headers: Arguments
    checkpoint: Path | None  # None: nothing is kept


@dataclass(frozen=True, kw_only=True)
class StdinSource:
    format: Literal["lines", "jsonl"]
    headers: Arguments


@dataclass(frozen=True, kw_only=True)
class PythonSource:
    generator: str  # package.module:function


Source = IntervalSource | FileSource | StdinSource | PythonSource


@dataclass(frozen=True, kw_only=True)
class Producer:
    name: str
    source: Source
    publish: Publish
    max_in_flight: int


@dataclass(frozen=True, kw_only=True)
class Idempotency:
    """A message whose key is done is not handled again."""

    store: KeyStore
    header: str | None  # whose value is the key; None: it is the `message_id`
    path: Path | None  # None: in memory, also where the broker is
    window: float
    max_keys: int
    lease: float


@dataclass(frozen=True, kw_only=True)
class Retry:
    """Both forms of `retry`, compiled: so many delays, and one attempt more."""

    delays: tuple[float, ...]
    only: tuple[str, ...]  # exception classes as the file names them; none: whatever is raised
    excluded: tuple[str, ...]  # the key `except`
    strategy: RetryStrategy

    @property
    def attempts(self) -> int:
        return len(self.delays) + 1


def wait_queue(queue: str, delay: float) -> str:
    """What a queue for messages that wait so many seconds is called on the broker. The delay is part of the name: a
    list that changes makes new queues, and leaves those that are there as they are."""
    return f"{queue}.retry.{round(delay * 1000)}ms"


@dataclass(frozen=True, kw_only=True)
class Consumer:
    name: str
    queue: str  # the name on the broker
    handler: str
    ack: Ack
    prefetch: int
    concurrency: int
    timeout: float | None
    retry: Retry | None
    crash_limit: int
    content: Content | None
    exclusive: bool
    arguments: Arguments
    lifespan: str | None
    publish: Publish | None
    idempotency: Idempotency | None


@dataclass(frozen=True, kw_only=True)
class Http:
    """Where health and metrics are served. `host` is an IP address; port 0: the system chooses."""

    host: str
    port: int
    hosts: tuple[str, ...]  # names by which it may be asked


@dataclass(frozen=True, kw_only=True)
class Log:
    format: LogFormat
    level: LogLevel
    bodies: int | None  # how many bytes of a body are shown; None: none


@dataclass(frozen=True, kw_only=True)
class Runtime:
    until: Until
    workers: Workers
    loop: Loop
    startup: Startup
    shutdown_timeout: float
    lifespan: str | None
    http: Http | None
    log: Log


@dataclass(frozen=True, kw_only=True)
class Pipeline:
    """One file."""

    name: str
    path: Path
    broker: Broker
    declare: Declare  # `defaults.declare`: for what piperun adds, such as dead-letter queues
    publish: Publish  # a `publish` that says nothing, for what handlers send by themselves
    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]
    producers: tuple[Producer, ...]
    consumers: tuple[Consumer, ...]
    runtime: Runtime
    secrets: tuple[Secret, ...] = field(repr=False)

    @property
    def folder(self) -> Path:
        return self.path.parent
