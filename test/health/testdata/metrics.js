// A worker with metrics, which does jobs and goes wrong as it is told: metrics.js PORT
'use strict';
const http = require('node:http');
const client = require('prom-client');

client.collectDefaultMetrics();
const jobs = new client.Counter({ name: 'jobs_total', help: 'Jobs that were done', labelNames: ['kind'] });
const seconds = new client.Histogram({ name: 'job_duration_seconds', help: 'How long a job took', buckets: [0.1, 1] });
const open = new client.Gauge({ name: 'open_connections', help: 'Connections that are open' });
const sizes = new client.Summary({ name: 'job_size_bytes', help: 'How large a job was', percentiles: [0.5, 0.99] });
jobs.inc({ kind: 'mail' }, 0);
open.set(2);
let fault = '';

async function answer(request, response) {
  const url = new URL(request.url, 'http://worker');
  switch (url.pathname) {
    case '/do':
      for (let n = Number(url.searchParams.get('jobs')); n > 0; n--) {
        jobs.inc({ kind: 'mail' });
        seconds.observe(0.5);
        sizes.observe(100);
      }
      break;
    case '/fault':
      fault = url.searchParams.get('is');
      break;
    case '/metrics':
      if (fault === 'hung') return;
      response.setHeader('Content-Type', client.register.contentType);
      response.write(await client.register.metrics());
      if (fault === 'poison') response.write('broken{ 1\n');
  }
  response.end();
}

http.createServer(answer).listen(Number(process.argv[2]), '127.0.0.1');
