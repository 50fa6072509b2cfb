// Sends messages with gelf-pro: node send.js ADAPTER PORT COUNT.
const gelf = require('gelf-pro')

const [adapterName, port, count] = [process.argv[2], Number(process.argv[3]), Number(process.argv[4])]
gelf.setConfig({ fields: { service: 'shop' }, adapterName, adapterOptions: { host: '127.0.0.1', port } })

async function main () {
  for (let i = 0; i < count; i++) {
    const text = i % 2 ? 'short' : 'é'.repeat(5000) + Math.random() // the second kind comes in chunks
    await new Promise((resolve, reject) => {
      gelf.error(`message ${i}`, { order_id: 42, text }, err => err ? reject(err) : resolve())
    })
  }
}

main().catch(err => { console.error(err); process.exit(1) })
