// A service with metrics by prom-client 15.1.3, for the part "scrape":
//   node promclient.js page SERIES             prints its page (testdata/page.txt.gz)
//   node promclient.js cluster WORKERS SERIES  aggregates those of workers, once for each line of
//                                              standard input, and prints how long that took, in ms
'use strict';
const cluster = require('node:cluster');
const readline = require('node:readline');
const { AggregatorRegistry, Counter, Gauge, Histogram, Summary, collectDefaultMetrics, register } = require('prom-client');

// fill makes about so many series, as services have them: six tenths of them histograms.
function fill(series) {
  collectDefaultMetrics();
  const labelNames = ['method', 'route', 'status_code'];
  const duration = new Histogram({ name: 'http_request_duration_seconds', help: 'Duration of HTTP requests in seconds', labelNames });
  const requests = new Counter({ name: 'http_requests_total', help: 'Total number of HTTP requests', labelNames });
  const open = new Gauge({ name: 'queue_jobs', help: 'Jobs that wait in a queue', labelNames: ['queue', 'state'] });
  const size = new Summary({ name: 'http_response_size_bytes', help: 'Size of HTTP responses in bytes', labelNames, percentiles: [0.5, 0.9, 0.99] });
  const methods = ['GET', 'POST', 'PUT', 'DELETE'];
  const codes = ['200', '201', '304', '404', '500'];
  const labels = (i) => ({ method: methods[i % 4], route: `/api/v1/resource${Math.floor(i / 20)}/:id`, status_code: codes[Math.floor(i / 4) % 5] });
  const left = series - 60;
  for (let i = 0; i < left * 0.6 / 14; i++) for (let k = 0; k < 20; k++) duration.observe(labels(i), ((i * 7 + k * 13) % 97) / 37);
  for (let i = 0; i < left * 0.25; i++) requests.inc(labels(i), 1 + (i * 7919) % 100003);
  for (let i = 0; i < left * 0.1; i++) open.set({ queue: `queue${i}`, state: 'waiting' }, (i * 31) % 101);
  for (let i = 0; i < left * 0.05 / 5; i++) for (let k = 0; k < 20; k++) size.observe(labels(i), (i * 131 + k * 997) % 65536);
}

async function aggregate(workers) {
  for (let i = 0; i < workers; i++) cluster.fork();
  let ready = 0;
  await new Promise((resolve) => cluster.on('message', (_, m) => m === 'ready' && ++ready === workers && resolve()));
  const all = new AggregatorRegistry();
  console.log('ready');
  for await (const _ of readline.createInterface({ input: process.stdin })) {
    const began = process.hrtime.bigint();
    await all.clusterMetrics();
    console.log(Number(process.hrtime.bigint() - began) / 1e6);
  }
  process.exit();
}

const [, , what, first, second] = process.argv;
if (what === 'page') {
  fill(Number(first));
  register.metrics().then((page) => process.stdout.write(page));
} else if (cluster.isPrimary) {
  aggregate(Number(first));
} else {
  new AggregatorRegistry();
  fill(Number(second));
  process.send('ready');
}
