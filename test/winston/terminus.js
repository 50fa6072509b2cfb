'use strict';

// A worker of a service with @godaddy/terminus, for the tests of healthd:
//   node terminus.js PORT
// It is down, as its database would be, while the file /run/down-PORT exists.

const fs = require('node:fs');
const http = require('node:http');
const { createTerminus, HealthCheckError } = require('@godaddy/terminus');

const port = Number(process.argv[2]);
const server = http.createServer((_request, response) => response.end('hello\n'));

createTerminus(server, {
  signals: ['SIGTERM'],
  healthChecks: {
    '/health': async () => {
      if (fs.existsSync(`/run/down-${port}`)) {
        throw new HealthCheckError('healthcheck failed', { database: { status: 'down' } });
      }
      return { database: { status: 'up' } };
    },
  },
});
server.listen(port, '127.0.0.1', () => console.log(`worker on ${port}`));
