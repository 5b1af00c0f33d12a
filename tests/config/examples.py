"""Valid files of every family, for tests that start from something whole."""

FULL = """\
# yaml-language-server: $schema=../schemas/pipeline.schema.json
version: 1
name: billing

x-fast: &fast {prefetch: 100, concurrency: 16}

broker:
  url: ["amqp://app:${PASSWORD}@rabbit-1/shop", "amqp://app:${PASSWORD}@rabbit-2/shop"]
  version: "3.10"
  max_message_size: 64MB
  connect_timeout: 5s
  heartbeat: 30s
  reconnect: {initial: 1s, max: 1m}

defaults:
  declare: assert
  queues: {durable: true}
  consumers: {timeout: 30s}

exchanges:
  orders: {type: topic}
  audit:
    type: fanout
    bindings:
      - {exchange: orders, routing_key: "#"}
  by_header: {type: headers}

queues:
  billing:
    type: quorum
    bindings:
      - {exchange: orders, routing_key: [order.created, order.paid]}
      - exchange: by_header
        arguments: {x-match: any, region: eu}
    dead_letter: billing.failed
  billing.failed:
  invoices: {message_ttl: 1h, max_length: 1000, max_length_bytes: 16MiB, overflow: reject-publish}
  everything: {bindings: [{exchange: audit}]}
  temporary: {auto_delete: true}

producers:
  nightly:
    source: {type: file, path: data/orders.jsonl, format: jsonl}
    publish: {exchange: orders, routing_key: order.created, headers: {origin: nightly, tries: 3}}
  ticks:
    source: {type: interval, every: 200ms, count: 5, body: {hello: [1, 2.5, null, true]}}
    publish: {queue: invoices, delivery_mode: transient, expiration: 10m}
    max_in_flight: 10
  terminal: {source: {type: stdin}, publish: {queue: invoices}}
  generated: {source: "shop.orders:nightly", publish: {exchange: amq.topic}}

consumers:
  charge:
    <<: *fast
    queue: billing
    handler: shop.billing:charge
    publish: {queue: invoices}
    retry: {delays: [5s, 1m, 10m], only: [shop.errors:Transient, TimeoutError]}
  print:
    queue: invoices
    handler: pipeline.handlers:log
    ack: none
    content: text
    arguments: {x-priority: 10}

runtime:
  until: idle
  workers: 2
  loop: asyncio
  shutdown_timeout: 1m
  http: {address: "0.0.0.0:9419", hosts: [metrics.example.org]}
  log: {format: json, level: debug, bodies: "head:200"}
"""

ENVIRONMENT = {"PASSWORD": "hunter-two", "HOME": "/home/app"}
