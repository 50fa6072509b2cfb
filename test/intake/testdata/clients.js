// Sends messages with a library for GELF: node clients.js LIBRARY NETWORK PORT STREAM COUNT.
const [library, network, port, stream, count] = process.argv.slice(2)
const fields = n => ({ stream, n, filling: String.fromCharCode(97 + n % 26).repeat(5000), order_id: 42, live: true })

async function gelfPro () {
  const gelf = require('gelf-pro')
  gelf.setConfig({ adapterName: network, adapterOptions: { host: '127.0.0.1', port: Number(port) } })
  for (let n = 1; n <= Number(count); n++) {
    await new Promise((resolve, reject) => gelf.warning('order created', fields(n), err => err ? reject(err) : resolve()))
  }
}

async function log2gelf () {
  const winston = require('winston')
  const Log2gelf = require('winston-log2gelf')
  const transport = new Log2gelf({ protocol: network, host: '127.0.0.1', port: Number(port), service: 'shop' })
  transport.levelToInt = level => ({ error: 3, warn: 4, info: 6 })[level] ?? 7
  const logger = winston.createLogger({ transports: [transport] })
  for (let n = 1; n <= Number(count); n++) {
    logger.warn('order created', fields(n))
    if (n % 20 === 0) await new Promise(resolve => setImmediate(resolve))
  }
  if (network === 'tcp') transport.end()
}

const run = library === 'gelf-pro' ? gelfPro : log2gelf
run().catch(err => { console.error(err); process.exit(1) })
