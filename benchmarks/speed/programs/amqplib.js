// amqplib with its promises for setting up and its callbacks for messages, as in its tutorials.
'use strict';

const amqp = require('amqplib');
const { task, tick } = require('./stopwatch.js');

async function main() {
  const connection = await amqp.connect(task.url);
  const channel = task.kind === 'consume' ? await connection.createChannel() : await connection.createConfirmChannel();
  await new Promise((over, failed) => {
    connection.on('error', failed);
    channel.on('error', failed);
    if (task.kind === 'publish') publish(channel, over, failed);
    else consume(channel, over, failed).catch(failed);
  });
  await channel.close();
  await connection.close();
}

async function consume(channel, over, failed) {
  function handle(message) {
    const last = tick(message.content);
    if (task.prefetch) channel.ack(message);
    if (last) over();
  }

  function forward(message) {
    channel.sendToQueue(task.out, message.content, options(), (error) => {
      if (error) return failed(error);
      channel.ack(message);
      if (tick()) over();
    });
  }

  if (task.prefetch) await channel.prefetch(task.prefetch);
  await channel.consume(task.in, task.kind === 'pipe' ? forward : handle, { noAck: !task.prefetch });
}

function publish(channel, over, failed) {
  const body = Buffer.alloc(task.body, 'x');
  let sent = 0;

  function confirmed(error) {
    if (error) return failed(error);
    if (tick()) over();
    else if (sent < task.messages) send();
  }

  function send() {
    sent += 1;
    channel.sendToQueue(task.out, body, options(), confirmed);
  }

  while (sent < Math.min(task.inFlight, task.messages)) send();
}

function options() {
  return { persistent: task.persistent, mandatory: true };
}

main().catch((error) => {
  console.error(error);
  process.exit(1);
});
