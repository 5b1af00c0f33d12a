"""What somebody can do about a connection that could not be made: a way out for the sentences of `faults`. Pure; who
shows it is not known here."""

import re
from collections.abc import Sequence

from pipeline.config.model import Address

# What a sentence says, and the way out; the first that fits. A sentence that holds its own way out has none here.
_CURES: tuple[tuple[str, str], ...] = (
    (r"nothing listens there", "start RabbitMQ there, or correct host and port: amqp is on 5672, amqps on 5671"),
    (r"name not found", "correct the host in the URL, or ask that machine: getent hosts {host}"),
    (r"certificate cannot be trusted", "broker: {{tls: {{ca_file: ...}}}} names who signed it; it must be for {host}"),
    (r"TLS with .* failed", "RabbitMQ's log has the other half; a broker that wants a certificate: tls.cert_file"),
    (r"login refused", "rabbitmqctl authenticate_user {user} tries the password; guest may come from there only"),
    (r"vhost .* does not exist", "rabbitmqctl add_vhost {vhost}, or correct the end of the URL: amqp://host/vhost"),
    (r"may not use vhost", "rabbitmqctl set_permissions -p {vhost} {user} ...: `piperun doctor FILE --rights`"),
    (r"not an AMQP 0-9-1 server", "correct the port: amqp is on 5672, amqps on 5671, 15672 is for browsers"),
    (r"no answer from", "the host may be down, or a firewall in between; `connect_timeout` waits longer"),
)


def ways_out(sentence: str, addresses: Sequence[Address]) -> list[str]:
    """What to try when a connection to these could not be made, and why not stands in `sentence`; each thing once."""
    at = addresses[0]
    found = []
    for part in sentence.split("; "):
        cure = next((cure for said, cure in _CURES if re.search(said, part)), None)
        if cure is not None:
            found.append(cure.format(host=at.host, user=at.username, vhost=at.vhost))
    return list(dict.fromkeys(found))
