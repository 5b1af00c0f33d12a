// rascal with a configuration of a publication and a subscription, as in its documentation. Publications go through its
// pool of confirm channels.
'use strict';

const { BrokerAsPromised, withDefaultConfig } = require('rascal');
const { task, tick } = require('./stopwatch.js');

const config = withDefaultConfig({
  vhosts: {
    '/': {
      connection: task.url,
      queues: { [task.in]: { assert: false, check: false }, [task.out]: { assert: false, check: false } },
      publications: { out: { queue: task.out, options: { persistent: task.persistent, mandatory: true } } },
      subscriptions: { in: { queue: task.in, prefetch: task.prefetch || 0, options: { noAck: !task.prefetch } } },
    },
  },
});

async function main() {
  const broker = await BrokerAsPromised.create(config);
  await new Promise((over, failed) => {
    broker.on('error', failed);
    if (task.kind === 'publish') publish(broker, over, failed);
    else consume(broker, over, failed).catch(failed);
  });
  await broker.shutdown();
}

async function consume(broker, over, failed) {
  function handle(message, content, ackOrNack) {
    const last = tick(content);
    if (task.prefetch) ackOrNack();
    if (last) over();
  }

  async function forward(message, content, ackOrNack) {
    const publication = await broker.publish('out', content);
    publication.on('success', () => {
      ackOrNack();
      if (tick()) over();
    });
    publication.on('error', failed);
  }

  const subscription = await broker.subscribe('in');
  subscription.on('message', task.kind === 'pipe' ? forward : handle).on('error', failed);
}

function publish(broker, over, failed) {
  const body = Buffer.alloc(task.body, 'x');
  let sent = 0;

  async function send() {
    sent += 1;
    const publication = await broker.publish('out', body);
    publication.on('success', () => {
      if (tick()) over();
      else if (sent < task.messages) send().catch(failed);
    });
    publication.on('error', failed);
  }

  while (sent < Math.min(task.inFlight, task.messages)) send().catch(failed);
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
