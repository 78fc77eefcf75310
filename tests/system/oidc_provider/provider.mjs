// A real OpenID provider on a free port of the loopback, over TLS, for tests.
//
//   node provider.mjs FOLDER CERTIFICATE KEY AUDIENCE CLAIMS
//
// FOLDER holds node_modules. CLAIMS is JSON: by client id, the claims that its access tokens carry besides the usual
// ones. A client's secret is its id and "-secret"; its tokens are JSON Web Tokens (RFC 9068) for AUDIENCE.
// Prints its port. A line "rotate" on standard input makes a new signing key, keeps the one before published, drops the
// one before that, and prints the new key's id. Ends with standard input.

import { generateKeyPairSync } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { createServer } from 'node:https';
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const [folder, certificate, key, audience, claimsText] = process.argv.slice(2);
console.info = console.error; // Its advice must not stand between the lines that tests read.
const { resolve } = createRequire(join(folder, 'package.json'));
const { Provider } = await import(pathToFileURL(resolve('oidc-provider')));
const claims = JSON.parse(claimsText);

let made = 0;

function signingKey() {
  const { privateKey } = generateKeyPairSync('ec', { namedCurve: 'P-256' });
  made += 1;
  return { ...privateKey.export({ format: 'jwk' }), kid: `key-${made}`, alg: 'ES256', use: 'sig' };
}

// As many providers do, this one also publishes a key that names no algorithm: it must not disturb the others.
function unnamedKey() {
  const { privateKey } = generateKeyPairSync('rsa', { modulusLength: 2048 });
  return { ...privateKey.export({ format: 'jwk' }), kid: 'unnamed', use: 'sig' };
}

function clientOf(id) {
  return {
    client_id: id,
    client_secret: `${id}-secret`,
    grant_types: ['client_credentials'],
    response_types: [],
    redirect_uris: [],
  };
}

function resourceServer() {
  return {
    scope: '',
    audience,
    accessTokenFormat: 'jwt',
    jwt: { sign: { alg: 'ES256' } },
  };
}

// The provider signs with the first key that fits, and publishes all.
function handlerOf(issuer, keys) {
  const provider = new Provider(issuer, {
    clients: Object.keys(claims).map(clientOf),
    extraTokenClaims: (_, token) => claims[token.clientId],
    features: {
      clientCredentials: { enabled: true },
      devInteractions: { enabled: false },
      resourceIndicators: { enabled: true, getResourceServerInfo: resourceServer },
    },
    jwks: { keys: [...keys, unnamed] },
    ttl: { ClientCredentials: 300 },
  });
  return provider.callback();
}

const server = createServer({ cert: readFileSync(certificate), key: readFileSync(key) });
const unnamed = unnamedKey();
let keys = [signingKey()];
let handler;

server.on('request', (request, response) => handler(request, response));
server.listen(0, '127.0.0.1', () => {
  const { port } = server.address();
  const issuer = `https://127.0.0.1:${port}`;
  handler = handlerOf(issuer, keys);
  console.log(port);

  const lines = createInterface({ input: process.stdin });
  lines.on('line', (line) => {
    if (line === 'rotate') {
      keys = [signingKey(), keys[0]];
      handler = handlerOf(issuer, keys);
      console.log(keys[0].kid);
    }
  });
  lines.on('close', () => process.exit(0));
});
