// Node reads extra certificate authorities from the environment, once, at its
// start; libraries that make their own connections take them from the global
// agent and from tls.createSecureContext.
import { readFileSync } from 'node:fs';
import https from 'node:https';
import tls from 'node:tls';

// setGlobalCA trusts the CA in a file for everything in this process, then loads
// what uses it.
export function setGlobalCA(file, load) {
  const ca = readFileSync(file);
  https.globalAgent.options.ca = ca;
  const create = tls.createSecureContext;
  tls.createSecureContext = (options) => {
    const context = create(options);
    context.context.addCACert(ca);
    return context;
  };
  return load();
}
