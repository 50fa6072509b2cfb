'use strict';

// A small shop that logs with Winston as the services of our users do: one JSON
// document per line on standard output, behind the prefix "_jsonrc:".
//
//   node server.js --count N     N numbered lines, as fast as the reader takes them
//   node server.js --rate R      R lines per second, until stopped or --count
//   node server.js --demo        varied events of a shop, 10 to 20 per second (or --rate)
//
// Every line has "stream" (--stream) and "n", counted from 1, so that a reader
// can prove that nothing was lost, doubled or swapped. The exceptions are the
// two kinds of plain lines of --demo. --port serves /health and /metrics on the
// loopback interface. Each option can also come from the environment: SHOP_COUNT,
// SHOP_RATE, SHOP_DEMO=1, SHOP_STREAM, SHOP_PORT. SIGTERM and SIGINT end it after
// the lines that are under way.

const { randomUUID } = require('node:crypto');
const { once } = require('node:events');
const http = require('node:http');
const { setTimeout: sleep } = require('node:timers/promises');
const { parseArgs } = require('node:util');
const prometheus = require('prom-client');
const winston = require('winston');

const { combine, errors, printf, timestamp } = winston.format;

const stopping = new AbortController();

const linesTotal = new prometheus.Counter({
  name: 'shop_log_lines_total',
  help: 'Lines logged, by level.',
  labelNames: ['level'],
});

const requestSeconds = new prometheus.Histogram({
  name: 'http_request_duration_seconds',
  help: 'Time of the requests of --demo.',
  labelNames: ['method', 'status_code'],
});

function parseOptions() {
  const { values } = parseArgs({
    options: {
      count: { type: 'string', default: process.env.SHOP_COUNT },
      rate: { type: 'string', default: process.env.SHOP_RATE },
      demo: { type: 'boolean', default: process.env.SHOP_DEMO === '1' },
      stream: { type: 'string', default: process.env.SHOP_STREAM || 'shop' },
      port: { type: 'string', default: process.env.SHOP_PORT },
    },
  });
  const options = { demo: values.demo, stream: values.stream };
  for (const name of ['count', 'rate', 'port']) {
    if (values[name] === undefined) continue;
    options[name] = Number(values[name]);
    if (!(options[name] >= 0)) throw new Error(`--${name} ${values[name]}: not a number from 0`);
  }
  if (options.rate === 0) throw new Error('--rate 0: nothing would ever be logged');
  if (!options.demo && options.count === undefined && options.rate === undefined) {
    throw new Error('one of --count, --rate and --demo is needed');
  }
  return options;
}

function newLogger(stream) {
  let n = 0;
  return winston.createLogger({
    level: 'silly',
    format: combine(
      errors({ stack: true }),
      winston.format((info) => {
        linesTotal.inc({ level: info.level });
        info.stream = stream;
        info.n = ++n;
        return info;
      })(),
      timestamp(),
      printf((info) => '_jsonrc:' + JSON.stringify(info)),
    ),
    // The transport passes everything on at once, even if the pipe is full;
    // drained() makes up for that.
    transports: [new winston.transports.Stream({ stream: process.stdout, eol: '\n' })],
  });
}

// drained waits until the reader has taken what was logged, if it is behind.
// Without it everything would pile up in memory.
async function drained() {
  if (process.stdout.writableNeedDrain) await once(process.stdout, 'drain');
}

const pick = (list) => list[Math.floor(Math.random() * list.length)];
const between = (low, high) => low + Math.floor(Math.random() * (high - low + 1));

const books = ['Die Verwandlung', 'Pan Tadeusz', '百年の孤独', "L'Étranger", 'Moby-Dick'];
const browsers = [
  'Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0',
  'Mozilla/5.0 (iPhone; CPU iPhone OS 18_5 like Mac OS X) AppleWebKit/605.1.15',
  'curl/8.14.1',
];

// logOrder logs line n of the numbered modes.
function logOrder(logger, n) {
  logger.info(`order A-${1000 + n} accepted for ${(n % 97) + 0.5} EUR`, {
    service: 'checkout',
    orderId: `A-${1000 + n}`,
    user: { id: n % 1000, vip: n % 7 === 0, geo: { country: 'DE', city: 'Köln' } },
    items: [{ sku: `B-${n % 50}`, quantity: (n % 3) + 1 }],
    durationMs: (n % 200) / 4,
  });
}

// pause waits for ms and returns false if the service is to stop.
async function pause(ms) {
  await sleep(ms, undefined, { signal: stopping.signal }).catch(() => {});
  return !stopping.signal.aborted;
}

// newPace returns a function to be called before each line. It waits until the
// line is due, and returns false if the service is to stop.
function newPace(rate) {
  const start = performance.now();
  let n = 0;
  return async () => {
    const wait = rate === undefined ? 0 : start + (n * 1000) / rate - performance.now();
    if (wait > 0 || n % 1000 === 0) { // now and then lets a signal and the HTTP server in
      if (!(await pause(Math.max(0, wait)))) return false;
    }
    n++;
    return !stopping.signal.aborted;
  };
}

async function runNumbered(logger, { count = Infinity, rate }) {
  const due = newPace(rate);
  for (let n = 1; n <= count && (await due()); n++) {
    logOrder(logger, n);
    await drained();
  }
}

function httpRequest(logger) {
  const statusCode = pick([200, 200, 200, 201, 304, 404, 500]);
  const method = statusCode === 201 ? 'POST' : 'GET';
  const url = pick(['/books', '/books/42?lang=de', '/cart', '/checkout', '/search?q=caf%C3%A9']);
  const responseTime = between(1, 900);
  requestSeconds.observe({ method, status_code: statusCode }, responseTime / 1000);
  logger.http(`${method} ${url} ${statusCode}`, {
    requestId: randomUUID(),
    req: { method, url, headers: { host: 'shop.example.com', 'user-agent': pick(browsers) } },
    res: { statusCode, bytes: between(120, 48_000) },
    responseTime,
  });
}

function orderPlaced(logger) {
  const title = pick(books);
  logger.info(`order placed: ${title}`, {
    orderId: `A-${between(1000, 9999)}`,
    amount: between(500, 9900) / 100,
    currency: 'EUR',
    express: Math.random() < 0.3,
    coupon: null,
    customer: { id: between(1, 5000), name: pick(['Zoë', 'Łukasz', 'Ana', '大輔']), address: { country: pick(['DE', 'PL', 'JP']) } },
    items: [{ title, quantity: between(1, 3) }],
    tags: ['shop', 'order'],
  });
}

function slowQuery(logger) {
  logger.warn('slow query', {
    db: { statement: 'SELECT *\n  FROM books\n WHERE title ILIKE $1', durationMs: between(1000, 4000), rows: between(0, 900) },
    pool: { idle: between(0, 3), waiting: between(1, 20) },
  });
}

function paymentFailed(logger) {
  const cause = Object.assign(new Error('connect ECONNREFUSED 10.0.3.17:8443'), { code: 'ECONNREFUSED', errno: -111 });
  const err = new Error('card processor does not answer', { cause });
  logger.error('payment failed:', Object.assign(err, { code: 'PAYMENT_GATEWAY', attempt: between(1, 5), retryable: true }));
}

function stockMismatch(logger) {
  logger.error('stock does not match the warehouse:\n  shop      12\n  warehouse 9\ncounting again', { sku: `B-${between(1, 50)}`, difference: 3 });
}

function cacheLookup(logger) {
  logger.debug('cache lookup', { key: `book:${between(1, 999)}`, hit: Math.random() < 0.8, ttl: between(0, 3600) });
}

function plainLine() {
  console.log('mailer: 250 2.0.0 Ok: queued as %s', between(1e9, 9e9).toString(16).toUpperCase());
}

function plainTrace() {
  console.error(new RangeError('template "receipt" is nested too deep').stack);
}

// The kinds of events of the demo and how often each comes, in percent.
const events = [
  [45, httpRequest],
  [22, orderPlaced],
  [12, cacheLookup],
  [8, slowQuery],
  [5, paymentFailed],
  [3, stockMismatch],
  [4, plainLine],
  [1, plainTrace],
];

async function runDemo(logger, { count = Infinity, rate }) {
  const due = rate === undefined ? () => pause(between(50, 100)) : newPace(rate);
  logger.info('shop is open', { pid: process.pid, node: process.version });
  for (let n = 2; n <= count && (await due()); n++) {
    let roll = Math.random() * 100;
    const [, event] = events.find(([share]) => (roll -= share) < 0);
    event(logger);
    await drained();
  }
  if (stopping.signal.aborted) logger.info('shop is closed', { reason: stopping.signal.reason });
}

// serve answers /health and /metrics until the server is closed.
async function serve(port) {
  prometheus.collectDefaultMetrics();
  const server = http.createServer(async (req, res) => {
    if (req.url === '/health') {
      res.setHeader('Content-Type', 'application/json');
      res.end(JSON.stringify({ status: 'ok', uptime: process.uptime() }) + '\n');
    } else if (req.url === '/metrics') {
      res.setHeader('Content-Type', prometheus.register.contentType);
      res.end(await prometheus.register.metrics());
    } else {
      res.statusCode = 404;
      res.end('not found\n');
    }
  });
  server.listen(port, '127.0.0.1');
  await once(server, 'listening');
  return server;
}

async function main() {
  let options;
  try {
    options = parseOptions();
  } catch (err) {
    console.error(`server.js: ${err.message}`);
    process.exitCode = 2;
    return;
  }
  for (const signal of ['SIGTERM', 'SIGINT']) process.once(signal, () => stopping.abort(signal));
  // A reader that went away: nothing that is still to be said can be said.
  process.stdout.on('error', () => process.exit(1));

  const logger = newLogger(options.stream);
  const server = options.port === undefined ? undefined : await serve(options.port);
  await (options.demo ? runDemo(logger, options) : runNumbered(logger, options));

  logger.end();
  await once(logger, 'finish');
  if (server) {
    server.close();
    server.closeAllConnections();
  }
  // No process.exit: Node ends when standard output has taken everything.
}

main();
