"""The methods of one channel: what each of them does, in a table at the end, and what is answered. Publishing,
deliveries, declaring and transactions keep their own books. Refuses by raising; who is told, and what is closed,
`connection` decides."""

from collections.abc import Callable
from typing import Any, Protocol

from pipeline.embedded.channels.consuming import Consuming
from pipeline.embedded.channels.declaring import Declaring
from pipeline.embedded.channels.deliveries import Deliveries
from pipeline.embedded.channels.direct_reply import DirectReply
from pipeline.embedded.channels.publishing import Publishing
from pipeline.embedded.channels.session import Line, Session
from pipeline.embedded.channels.transaction import Transaction
from pipeline.embedded.queues.entry import Back
from pipeline.embedded.wire import frames, refusals
from pipeline.embedded.wire.frames import Ack, Basic, Confirm, Exchange, Method, Publish, Tx
from pipeline.embedded.wire.frames import Channel as Methods
from pipeline.embedded.wire.frames import Queue as QueueMethods


class Settling(Protocol):
    """Takes what is settled: `Deliveries`, or a transaction until it is committed."""

    def acknowledge(self, tag: int, *, multiple: bool) -> None: ...

    def hand_back(self, tag: int, *, multiple: bool, requeue: bool, how: Back) -> None: ...


class Channel:
    """One channel from open to close. `receive` takes its frames one by one."""

    def __init__(self, number: int, session: Session) -> None:
        self.session = session
        self.line = Line(number, session)
        self.deliveries = Deliveries(self.line)
        self.direct_reply = DirectReply(self.deliveries)
        self.publishing = Publishing(self.line, self.direct_reply)
        self.declaring = Declaring(self.line)
        self.consuming = Consuming(self.deliveries, self.declaring, self.direct_reply)
        self.transaction: Transaction | None = None
        self._settling: Settling = self.deliveries  # or the transaction
        self._method = b""  # the method that is being worked on, as it came

    def receive(self, kind: int, payload: bytes) -> None:
        if self.publishing.in_content:
            self.publishing.take(kind, payload)
        elif kind != frames.METHOD:
            self._method = b""
            raise refusals.unexpected_frame("expected method frame, got non method frame instead")
        else:
            self._method = payload
            method = frames.decode_method(payload)
            act = _METHODS.get(type(method))
            if act is None:
                raise refusals.unimplemented_method()
            act(self, method)

    @property
    def at(self) -> tuple[int, int]:
        """Class and method id for a close: what the channel is working on."""
        return frames.ids_of(self._method)

    # The end

    def stop_consuming(self) -> None:
        """Nothing comes back to this channel any more."""
        self.direct_reply.end()
        self.deliveries.stop_consuming()

    def end(self) -> None:
        """What is not committed is not published, and what is not settled goes back."""
        self.direct_reply.end()
        if self.transaction is not None:
            self.transaction.rollback()
        self.publishing.end()
        self.deliveries.end()

    # The channel itself

    def _open(self, method: Methods.Open) -> None:
        raise refusals.channel_open_already()

    def _flow(self, method: Methods.Flow) -> None:
        if not method.active:
            raise refusals.not_implemented("active=false")
        self.line.send(Methods.FlowOk(True))

    # Publishing

    def _publish(self, method: Publish) -> None:
        self.publishing.begin(method)

    def _confirm_select(self, method: Confirm.Select) -> None:
        if self.transaction is not None:
            raise refusals.tx_to_confirm()
        self.publishing.confirms = True
        if not method.nowait:
            self.line.send(Confirm.SelectOk())

    def _tx_select(self, method: Tx.Select) -> None:
        if self.publishing.confirms:
            raise refusals.confirm_to_tx()
        if self.transaction is None:
            self.transaction = Transaction(self.publishing, self.deliveries)
            self.publishing.transaction = self._settling = self.transaction
        self.line.send(Tx.SelectOk())

    def _tx_commit(self, method: Tx.Commit) -> None:
        if self.transaction is None:
            raise refusals.not_transactional()
        self.transaction.commit()

    def _tx_rollback(self, method: Tx.Rollback) -> None:
        if self.transaction is None:
            raise refusals.not_transactional()
        self.transaction.rollback()
        self.line.send(Tx.RollbackOk())

    # Settling

    def _ack(self, method: Ack) -> None:
        self._settling.acknowledge(method.delivery_tag, multiple=method.multiple)

    def _nack(self, method: Basic.Nack) -> None:
        tag, multiple, requeue = method.delivery_tag or 0, bool(method.multiple), bool(method.requeue)
        self._settling.hand_back(tag, multiple=multiple, requeue=requeue, how=Back.HANDED_BACK)

    def _reject(self, method: Basic.Reject) -> None:
        tag, requeue = method.delivery_tag or 0, bool(method.requeue)
        self._settling.hand_back(tag, multiple=False, requeue=requeue, how=Back.REJECTED)

    def _recover(self, method: Basic.Recover | Basic.RecoverAsync) -> None:
        """All deliveries of this channel go back; what is delivered next may go to anyone."""
        if not method.requeue:
            raise refusals.not_implemented("requeue=false")
        if isinstance(method, Basic.Recover):
            self.line.send(Basic.RecoverOk())
        self.deliveries.hand_back(0, multiple=True, requeue=True, how=Back.HANDED_BACK)


def _declaring(act: Callable[[Declaring, Any], None]) -> Callable[[Channel, Any], None]:
    return lambda channel, method: act(channel.declaring, method)


def _consuming(act: Callable[[Consuming, Any], None]) -> Callable[[Channel, Any], None]:
    return lambda channel, method: act(channel.consuming, method)


_METHODS: dict[type[Method], Callable[[Channel, Any], None]] = {
    Methods.Open: Channel._open,
    Methods.Flow: Channel._flow,
    Exchange.Declare: _declaring(Declaring.exchange_declare),
    Exchange.Delete: _declaring(Declaring.exchange_delete),
    Exchange.Bind: _declaring(Declaring.exchange_bind),
    Exchange.Unbind: _declaring(Declaring.exchange_unbind),
    QueueMethods.Declare: _declaring(Declaring.queue_declare),
    QueueMethods.Bind: _declaring(Declaring.queue_bind),
    QueueMethods.Unbind: _declaring(Declaring.queue_unbind),
    QueueMethods.Purge: _declaring(Declaring.queue_purge),
    QueueMethods.Delete: _declaring(Declaring.queue_delete),
    Basic.Qos: _consuming(Consuming.qos),
    Basic.Consume: _consuming(Consuming.consume),
    Basic.Cancel: _consuming(Consuming.cancel),
    Publish: Channel._publish,
    Basic.Get: _consuming(Consuming.get),
    Ack: Channel._ack,
    Basic.Nack: Channel._nack,
    Basic.Reject: Channel._reject,
    Basic.Recover: Channel._recover,
    Basic.RecoverAsync: Channel._recover,
    Confirm.Select: Channel._confirm_select,
    Tx.Select: Channel._tx_select,
    Tx.Commit: Channel._tx_commit,
    Tx.Rollback: Channel._tx_rollback,
}
