// What ../stopwatch.py does, for programs in JavaScript: counts messages, and says at the last one what passed since
// the first that is timed.
'use strict';

const { readFileSync } = require('fs');

const TICKS_A_SECOND = 100; // on every Linux that Node runs on

const task = {
  url: process.env.BENCH_URL,
  kind: process.env.BENCH_KIND,
  in: process.env.BENCH_IN,
  out: process.env.BENCH_OUT,
  messages: Number(process.env.BENCH_MESSAGES),
  skip: Number(process.env.BENCH_SKIP),
  prefetch: Number(process.env.BENCH_PREFETCH),
  body: Number(process.env.BENCH_BODY),
  persistent: process.env.BENCH_PERSISTENT === '1',
  inFlight: Number(process.env.BENCH_IN_FLIGHT),
  latency: process.env.BENCH_LATENCY === '1',
};

let count = 0;
let first;
const latencies = [];

function tick(body) {
  count += 1;
  if (task.latency && body) latencies.push(process.hrtime.bigint() - body.readBigUInt64BE(0));
  if (count === task.skip) first = moment();
  if (count !== task.messages) return false;
  report(moment());
  return true;
}

function moment() {
  const used = process.cpuUsage();
  return { at: Number(process.hrtime.bigint()) / 1e9, cpu: (used.user + used.system) / 1e6, node: nodeCpu() };
}

function report(last) {
  const timed = latencies.slice(task.skip).map((each) => Number(each) / 1e6);
  const bench = {
    messages: count - task.skip,
    first: first.at,
    last: last.at,
    cpu_seconds: last.cpu - first.cpu,
    node_cpu_seconds: last.node - first.node,
    peak_mib: status('VmHWM'),
    latencies: timed.sort((one, other) => one - other),
  };
  console.log(JSON.stringify({ bench }));
}

function nodeCpu() {
  const stat = read(`/proc/${process.env.BENCH_NODE_PID}/stat`);
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return stat ? (Number(fields[11]) + Number(fields[12])) / TICKS_A_SECOND : 0;
}

function status(field) {
  const found = new RegExp(`^${field}:\\s+(\\d+)`, 'm').exec(read('/proc/self/status'));
  return found ? Number(found[1]) / 1024 : 0;
}

function read(path) {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return '';
  }
}

module.exports = { task, tick };
