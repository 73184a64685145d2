// Clients as they should be, who must notice nothing of what others do.
import assert from 'node:assert/strict';
import { randomUUID } from 'node:crypto';
import { withReplay } from '../../../replay/client/replay.mjs';
import { backend, client, connected, subscribed } from './clients.mjs';
import { EventSource } from '../replay/eventsource.mjs';
import { Proxy } from '../replay/proxy.mjs';
import { app } from './server.mjs';
import { Recorder, within } from './wait.mjs';

const CHANNELS = ['match.1', 'private-chat.1', 'presence-lobby'];

// PAGE is how many channels one page subscribes to at once.
const PAGE = 150;

// Crowd is n clients on a public, a private and a presence channel, with
// somebody who publishes to all of them, a stream, and two who lose their
// connection now and then: one with the plugin, one with a session.
export class Crowd {
  static async start(t, server, n) {
    const crowd = new Crowd();
    Object.assign(crowd, { t, server, hub: backend(server), people: [], complaints: [], returners: [], published: 0, publishing: false, received: new Recorder('event of the stream') });
    for (let i = 0; i < n; i++) await crowd.add(`user-${i}`);
    crowd.stream = new EventSource(`http://127.0.0.1:${server.port}/app/${app.key}/events?channel=match.1`);
    t.after(() => crowd.stream.close());
    await new Promise((resolve) => { crowd.stream.onopen = resolve; });
    crowd.stream.onmessage = ({ data }) => {
      const { event, data: text } = JSON.parse(data);
      if (event === 'n') crowd.received.push(JSON.parse(text).n);
    };
    crowd.stream.onerror = (error) => crowd.complaints.push(`the stream: ${error.message}`);
    crowd.proxy = await Proxy.start(t, server.port);
    await crowd.addReturner('plugin', { plugin: withReplay });
    await crowd.addReturner('session', { wsPath: `/session/${randomUUID()}` });
    return crowd;
  }

  // addReturner brings one who loses its connection in lose. With a session, what
  // came in the last moment before may come again.
  async addReturner(id, options) {
    const pusher = client(this.t, this.proxy, options);
    await within(connected(pusher), `${id} to connect`);
    const returner = { id, again: id === 'session', back: new Recorder(`return of ${id}`), got: {} };
    await Promise.all(CHANNELS.slice(0, 2).map(async (name) => {
      const got = returner.got[name] = new Recorder(`event on ${name} of ${id}`);
      const channel = await subscribed(pusher, name);
      channel.bind('n', ({ n }) => got.push(n));
      channel.bind('reecho:resumed', () => returner.back.push(name));
      channel.bind('reecho:gap', ({ reason }) => {
        this.complaints.push(`${id} missed events on ${name}: ${reason}`);
        returner.back.push(name);
      });
    }));
    this.returners.push(returner);
  }

  // lose cuts the connections of the returners, and waits until they are back on
  // all of their channels.
  async lose() {
    const back = this.returners.map((returner) => {
      const before = returner.back.items.length;
      return returner.back.count(before + Object.keys(returner.got).length);
    });
    for (const link of this.proxy.links) link.reset();
    await Promise.all(back);
  }

  // midst is what happens in the midst of an attack: somebody comes, with a
  // large page, somebody whispers, others lose their connection.
  async midst() {
    await Promise.all([this.add('newcomer').then(() => this.openPage()), this.lose()]);
    await this.whisper();
  }

  // openPage has the newest client subscribe to all the channels of a large page
  // at once.
  async openPage() {
    const { id, pusher } = this.people.at(-1);
    const channels = Array.from({ length: PAGE }, (_, i) => subscribed(pusher, `page.${i}`));
    await within(Promise.all(channels), `${id} to be on ${PAGE} channels`);
  }

  // whisper has the first client whisper, and waits until all others heard it.
  async whisper() {
    const [speaker, ...others] = this.people;
    const heard = others.map(({ id, channels }) => within(new Promise((resolve) => {
      channels['private-chat.1'].bind('client-w', resolve);
    }), `${id} to hear the whisper`));
    assert.ok(speaker.channels['private-chat.1'].trigger('client-w', {}));
    await Promise.all(heard);
  }

  // add brings one more client, as a page would.
  async add(id) {
    const pusher = client(this.t, this.server, { user: { id, info: { name: id } } });
    const person = { id, pusher, got: {}, channels: {} };
    pusher.connection.bind('state_change', ({ current }) => {
      if (current !== 'connected' && current !== 'connecting') this.complaints.push(`${id} is ${current}`);
    });
    pusher.connection.bind('error', (error) => this.complaints.push(`${id}: ${JSON.stringify(error)}`));
    await within(connected(pusher), `${id} to connect`);
    for (const name of CHANNELS) {
      person.got[name] = new Recorder(`event on ${name} of ${id}`);
      pusher.subscribe(name).bind('n', ({ n }) => person.got[name].push(n));
      person.channels[name] = await subscribed(pusher, name);
    }
    // The event under way now may have come too early.
    person.first = this.publishing ? this.published + 1 : 0;
    this.people.push(person);
    return person;
  }

  // publish publishes until stop is called, and returns that.
  publish() {
    let stopped = false;
    this.publishing = true;
    const done = (async () => {
      while (!stopped) {
        try {
          await this.hub.trigger(CHANNELS, 'n', { n: this.published });
          this.published++;
        } catch (error) {
          this.complaints.push(`publish: ${error.message}`);
        }
        await new Promise((resolve) => { setTimeout(resolve, 20); });
      }
    })();
    return async () => {
      stopped = true;
      await done;
    };
  }

  // check waits until everybody has everything and asserts that nobody noticed
  // anything.
  async check() {
    assert.deepEqual(this.complaints, []);
    const all = Array.from({ length: this.published }, (_, n) => n);
    for (const person of this.people) {
      for (const name of CHANNELS) {
        const got = await person.got[name].until((items) => items.at(-1) === this.published - 1 && items);
        assert.deepEqual(got.filter((n) => n >= person.first), all.slice(person.first), `${person.id} on ${name}`);
      }
      const { members } = person.channels['presence-lobby'];
      const match = person.channels['match.1'];
      await this.becomes(() => members.count === this.people.length, () => `${person.id} to see ${this.people.length} members: ${Object.keys(members.members)}`);
      // The stream counts too.
      const watching = this.people.length + this.returners.length + 1;
      await this.becomes(() => match.subscriptionCount === watching, () => `${person.id} to be told of ${watching} subscribers: ${match.subscriptionCount}`);
    }
    for (const { id, again, got } of this.returners) {
      for (const [name, recorder] of Object.entries(got)) {
        const items = await recorder.until((items) => items.at(-1) === this.published - 1 && items);
        assert.deepEqual(again ? [...new Set(items)] : items, all, `${id} on ${name}`);
      }
    }
    assert.deepEqual(await this.received.until((items) => items.at(-1) === this.published - 1 && items), all, 'the stream');
    assert.deepEqual(this.complaints, []);
  }

  async becomes(test, what) {
    for (let turn = 0; !test(); turn++) {
      assert.ok(turn < 400, `gave up waiting for ${what()}`);
      await new Promise((resolve) => { setTimeout(resolve, 50); });
    }
  }
}
