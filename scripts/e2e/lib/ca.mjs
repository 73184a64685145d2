// Node reads extra certificate authorities from the environment, once, at its
// start; libraries that make their own connections take them from the global
// agent and from tls.createSecureContext.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import tls from 'node:tls';

const trusted = [];
let patched = false;

// trustCA trusts CAs (PEM) for everything in this process. It has to be called before
// what uses it is loaded, also if no CA is there yet.
export function trustCA(...authorities) {
  trusted.push(...authorities);
  if (trusted.length > 0) https.globalAgent.options.ca = trusted;
  if (patched) return;
  patched = true;
  const create = tls.createSecureContext;
  tls.createSecureContext = (options) => {
    const context = create(options);
    for (const ca of trusted) context.context.addCACert(ca);
    return context;
  };
}

// setGlobalCA trusts the CA in a file for everything in this process, then loads
// what uses it.
export function setGlobalCA(file, load) {
  trustCA(readFileSync(file));
  return load();
}
