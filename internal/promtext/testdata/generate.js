// Writes the pages of this directory, by prom-client 15.1.3:
//   NODE_PATH=../../../test/winston/node_modules node generate.js
'use strict';
const fs = require('fs');
const client = require('prom-client');

async function page(file, contentType, fill) {
  const registry = new client.Registry(contentType);
  await fill(registry, contentType === client.Registry.OPENMETRICS_CONTENT_TYPE);
  fs.writeFileSync(file, await registry.metrics());
}

function fill(worker) {
  return async (registry, exemplars) => {
    const registers = [registry];
    client.collectDefaultMetrics({ register: registry });
    const duration = new client.Histogram({
      name: 'http_request_duration_seconds', help: 'How long a request took,\nin "seconds"', labelNames: ['method', 'route', 'code'],
      buckets: [0.01, 0.1, 1], registers, enableExemplars: exemplars,
    });
    const requests = new client.Counter({
      name: 'http_requests_total', help: 'Requests.', labelNames: ['method', 'route', 'code'], registers, enableExemplars: exemplars,
    });
    for (const [method, route, code, seconds] of [['GET', '/', 200, 0.004], ['GET', '/item/:id', 200, 0.0421], ['POST', '/cart "x" \\ ü\n', 500, 2.5]]) {
      const labels = { method, route, code };
      for (let i = 0; i <= worker; i++) {
        if (exemplars) {
          duration.observe({ labels, value: seconds, exemplarLabels: { trace_id: 'a # {b' } });
          requests.inc({ labels, value: 1, exemplarLabels: { trace_id: '4bf92f3577b34da6' } });
        } else {
          duration.observe(labels, seconds);
          requests.inc(labels);
        }
      }
    }
    const queue = new client.Gauge({ name: 'queue_jobs', help: 'Jobs that wait.', labelNames: ['queue'], registers });
    queue.set({ queue: 'mail' }, 3 + worker);
    queue.set({ queue: 'pdf' }, -1.5e-7);
    const odd = new client.Gauge({ name: 'odd_values', help: 'Values that are none.', labelNames: ['kind'], registers });
    odd.set({ kind: 'nan' }, NaN);
    odd.set({ kind: 'infinite' }, Infinity);
    odd.set({ kind: 'negative' }, -Infinity);
    odd.set({ kind: 'great' }, 1.7976931348623157e308);
    const size = new client.Summary({ name: 'response_bytes', help: 'Sizes of responses.', labelNames: ['route'], percentiles: [0.5, 0.99], registers });
    for (let i = 0; i < 100; i++) size.observe({ route: '/' }, i * 10);
    new client.Counter({ name: 'jobs_failed_total', help: 'Never yet.', labelNames: ['queue'], registers });
    const taken = new client.Gauge({ name: 'taken_labels', help: 'Has labels of ours.', labelNames: ['app', 'worker', 'job'], registers });
    taken.set({ app: 'theirs', worker: '99', job: 'mail' }, 1);
  };
}

(async () => {
  const { PROMETHEUS_CONTENT_TYPE: text, OPENMETRICS_CONTENT_TYPE: open } = client.Registry;
  for (const worker of [1, 2]) {
    await page(`worker${worker}.txt`, text, fill(worker));
    await page(`worker${worker}.om`, open, fill(worker));
  }
  await page('empty.txt', text, async () => {});
})().catch(err => { console.error(err); process.exit(1); });
