// Scores are what tests of several servers publish: numbers, by which is seen what
// came, what did not, and in which order.
import assert from 'node:assert/strict';
import { Proxy } from '../replay/proxy.mjs';
import { numbers } from '../replay/checker.mjs';
import { backend } from './clients.mjs';
import { pause, Recorder, within } from './wait.mjs';

// says waits until a node has logged something.
export async function says(node, text) {
  const said = async () => {
    while (!node.log?.some((line) => text.test(line))) await pause(20);
  };
  await within(said(), `${node.name ?? 'a server'} to say ${text}`, 60_000).catch((error) => {
    throw new Error(`${error.message}; it said:\n${node.log.join('\n')}`);
  });
}

// refuses expects a node not to start, with a line that says why.
export async function refuses(node, text) {
  await node.launch();
  await assert.rejects(within(node.started, 'the node to refuse', 60_000), text);
}

export async function publish(node, channel, from, to, params) {
  for (const n of numbers(from, to)) await backend(node).trigger(channel, 'score', { n }, params);
}

// record keeps the numbers that come on a channel, and what is told of who is back.
export function record(channel) {
  const scores = new Recorder('score');
  const outcomes = new Recorder('outcome');
  channel.bind('score', ({ n }) => scores.push(n));
  for (const event of ['reecho:resumed', 'reecho:gap']) channel.bind(event, (data) => outcomes.push({ event, ...data }));
  return { scores, outcomes };
}

// history reads a page of what a node has of a channel.
export async function history(node, channel, params = {}) {
  const answer = await backend(node).get({ path: `/channels/${channel}/events`, params: { limit: 1000, ...params } });
  return (await answer.json()).events;
}

export const dataOf = (events) => events.map(({ data }) => JSON.parse(data).n);

// log reads the numbers of all that a node has of a channel.
export async function log(node, channel) {
  const all = [];
  for (;;) {
    const page = await history(node, channel, all.length > 0 ? { after: all.at(-1).position } : {});
    if (page.length === 0) return dataOf(all);
    all.push(...page);
  }
}

// travels is a client behind a proxy that is aimed at one node after the other.
export async function travels(t, nodes) {
  const proxy = await Proxy.start(t, nodes[0].port);
  // move breaks the connection, does some work, and lets the client in elsewhere.
  const move = async (to, work) => {
    proxy.hold();
    for (const link of proxy.links) link.reset();
    await work();
    proxy.target = nodes[to].port;
    proxy.release();
  };
  return { proxy, move };
}
