"""What the file asks for, as frozen values. Everything is resolved: defaults filled in from the schema, durations
in seconds, sizes in bytes, paths absolute, arguments merged. No default stands here, and nobody above sees YAML."""

from collections.abc import Mapping
from pathlib import Path
from typing import Literal

from pipeline.secret import Secret
from pipeline.values import Frozen

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


class Address(Frozen, frozen=True, kw_only=True):
    """One AMQP URL, taken apart. Prints without the password."""

    scheme: Literal["amqp", "amqps"]
    host: str
    port: int
    username: str
    password: Secret
    vhost: str

    def __str__(self) -> str:
        return f"{self.host}:{self.port}"


class Tls(Frozen, frozen=True, kw_only=True):
    ca_file: Path | None
    cert_file: Path | None
    key_file: Path | None
    key_password: Secret | None


class Broker(Frozen, frozen=True, kw_only=True):
    """Where to connect. No addresses means the embedded broker."""

    addresses: tuple[Address, ...]
    version: str
    max_message_size: int  # of a body, in bytes
    connect_timeout: float
    heartbeat: int
    reconnect_initial: float
    reconnect_max: float
    tls: Tls | None

    @property
    def embedded(self) -> bool:
        return not self.addresses


class Binding(Frozen, frozen=True, kw_only=True):
    """From `exchange` to the object that lists it."""

    exchange: str
    routing_key: str
    arguments: Arguments


class Exchange(Frozen, frozen=True, kw_only=True):
    key: str  # the name in the file; `name` is the one on the broker
    name: str
    type: ExchangeType
    durable: bool
    auto_delete: bool
    internal: bool
    arguments: Arguments
    bindings: tuple[Binding, ...]
    declare: Declare


class Queue(Frozen, frozen=True, kw_only=True):
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


class Topology(Frozen, frozen=True, kw_only=True):
    """Model objects in the order in which they are declared, their bindings included."""

    exchanges: tuple[Exchange, ...]
    queues: tuple[Queue, ...]

    @property
    def objects(self) -> tuple[Exchange | Queue, ...]:
        return (*self.exchanges, *self.queues)


class Publish(Frozen, frozen=True, kw_only=True):
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


class IntervalSource(Frozen, frozen=True, kw_only=True):
    every: float
    count: int | None
    body: Value
    headers: Arguments


class FileSource(Frozen, frozen=True, kw_only=True):
    path: Path
    format: FileFormat
    headers: Arguments
    checkpoint: Path | None  # None: nothing is kept


class StdinSource(Frozen, frozen=True, kw_only=True):
    format: Literal["lines", "jsonl"]
    headers: Arguments


class PythonSource(Frozen, frozen=True, kw_only=True):
    generator: str  # package.module:function


Source = IntervalSource | FileSource | StdinSource | PythonSource


class Producer(Frozen, frozen=True, kw_only=True):
    name: str
    source: Source
    publish: Publish
    max_in_flight: int


class Idempotency(Frozen, frozen=True, kw_only=True):
    """A message whose key is done is not handled again."""

    store: KeyStore
    header: str | None  # whose value is the key; None: it is the `message_id`
    path: Path | None  # None: in memory, also where the broker is
    window: float
    max_keys: int
    lease: float


class Retry(Frozen, frozen=True, kw_only=True):
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


class Consumer(Frozen, frozen=True, kw_only=True):
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


class Http(Frozen, frozen=True, kw_only=True):
    """Where health and metrics are served. `host` is an IP address; port 0: the system chooses."""

    host: str
    port: int
    hosts: tuple[str, ...]  # names by which it may be asked


class Log(Frozen, frozen=True, kw_only=True):
    format: LogFormat
    level: LogLevel
    bodies: int | None  # how many bytes of a body are shown; None: none


class Runtime(Frozen, frozen=True, kw_only=True):
    until: Until
    workers: Workers
    loop: Loop
    startup: Startup
    shutdown_timeout: float
    lifespan: str | None
    http: Http | None
    log: Log


class Pipeline(Frozen, frozen=True, kw_only=True):
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
    secrets: tuple[Secret, ...]

    @property
    def folder(self) -> Path:
        return self.path.parent
