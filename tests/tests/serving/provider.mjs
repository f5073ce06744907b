// An OpenID provider of one test: the certified one of npm, with people who log in when the test says so, and a hand that signs whatever
// the test wants signed.
//
//   node provider.mjs MODULES PORT KEY-NAME

import { createServer } from "node:http";
import { createHmac } from "node:crypto";
import { join } from "node:path";
import { pathToFileURL } from "node:url";

const [modules, port, name] = process.argv.slice(2);
const load = (path) => import(pathToFileURL(join(modules, path)).href);
const { default: Provider } = await load("oidc-provider/lib/index.js");
const jose = await load("jose/dist/node/esm/index.js");

const issuer = `http://127.0.0.1:${port}`;
const pair = await jose.generateKeyPair("RS256", { extractable: true });
const jwk = { ...(await jose.exportJWK(pair.privateKey)), kid: name, use: "sig", alg: "RS256" };
const stranger = await jose.generateKeyPair("RS256", { extractable: true });

const GROUPS = { "s-ann": ["starters"], "s-bob": ["agreers"] };
const provider = new Provider(issuer, {
  jwks: { keys: [jwk] },
  clients: [{
    client_id: "squall",
    token_endpoint_auth_method: "none",
    application_type: "native",
    grant_types: ["urn:ietf:params:oauth:grant-type:device_code", "refresh_token"],
    redirect_uris: [],
    response_types: [],
  }],
  claims: { openid: ["sub", "groups", "email"] },
  conformIdTokenClaims: false,
  features: { deviceFlow: { enabled: true }, revocation: { enabled: true }, devInteractions: { enabled: false } },
  // So short that each command needs another.
  ttl: { IdToken: 30, DeviceCode: 120, AccessToken: 30, RefreshToken: 600, Grant: 600 },
  findAccount: (_, sub) => ({
    accountId: sub,
    claims: () => ({ sub, groups: GROUPS[sub] ?? [], email: `${sub.slice(2)}@example.com` }),
  }),
});

// What the provider keeps when a person has logged in and confirmed the code (its actions/authorization/device_user_flow_response.js).
async function confirm(userCode, accountId) {
  const code = await provider.DeviceCode.findByUserCode(userCode.replace("-", ""), { ignoreExpiration: true });
  const scope = "openid offline_access";
  const grant = new provider.Grant({ accountId, clientId: "squall" });
  grant.addOIDCScope(scope);
  const authTime = Math.floor(Date.now() / 1000);
  Object.assign(code, { accountId, grantId: await grant.save(), scope, authTime });
  await code.save();
  return "confirmed";
}

async function sign({ how, header, claims }) {
  const now = Math.floor(Date.now() / 1000);
  const said = { iss: issuer, sub: "s-ann", aud: "squall", iat: now, exp: now + 300, groups: ["starters"], ...claims };
  const head = { alg: "RS256", typ: "JWT", kid: name, ...header };
  const text = (part) => Buffer.from(JSON.stringify(part)).toString("base64url");
  if (how === "none") return `${text({ ...head, alg: "none" })}.${text(said)}.`;
  if (how === "public key as a secret") {
    const message = `${text({ ...head, alg: "HS256" })}.${text(said)}`;
    const pem = await jose.exportSPKI(pair.publicKey);
    return `${message}.${createHmac("sha256", pem).update(message).digest("base64url")}`;
  }
  const key = how === "stranger" ? stranger.privateKey : pair.privateKey;
  return new jose.SignJWT(said).setProtectedHeader(head).sign(key);
}

let asked = 0;
const callback = provider.callback();
createServer(async (request, response) => {
  const url = new URL(request.url, issuer);
  if (url.pathname === "/jwks") asked += 1;
  if (!url.pathname.startsWith("/test/")) return callback(request, response);
  try {
    let body = "";
    for await (const part of request) body += part;
    const said = body ? JSON.parse(body) : {};
    const answers = {
      "/test/confirm": () => confirm(said.code, said.subject),
      "/test/sign": () => sign(said),
      "/test/asked": () => String(asked),
    };
    const text = await answers[url.pathname]();
    response.writeHead(200, { "content-length": Buffer.byteLength(text) }).end(text);
  } catch (error) {
    response.writeHead(500).end(String(error));
  }
}).listen(Number(port), "127.0.0.1");
