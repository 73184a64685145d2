// Clients as they should be, who must notice nothing of what others do.
import assert from 'node:assert/strict';
import { backend, client, connected, subscribed } from './clients.mjs';
import { EventSource } from '../replay/eventsource.mjs';
import { app } from './server.mjs';
import { Recorder, within } from './wait.mjs';

const CHANNELS = ['match.1', 'private-chat.1', 'presence-lobby'];

// Crowd is n clients on a public, a private and a presence channel, with
// somebody who publishes to all of them, and a stream.
export class Crowd {
  static async start(t, server, n) {
    const crowd = new Crowd();
    Object.assign(crowd, { t, server, hub: backend(server), people: [], complaints: [], published: 0, publishing: false, received: new Recorder('event of the stream') });
    for (let i = 0; i < n; i++) await crowd.add(`user-${i}`);
    crowd.stream = new EventSource(`http://127.0.0.1:${server.port}/app/${app.key}/events?channel=match.1`);
    t.after(() => crowd.stream.close());
    await new Promise((resolve) => { crowd.stream.onopen = resolve; });
    crowd.stream.onmessage = ({ data }) => {
      const { event, data: text } = JSON.parse(data);
      if (event === 'n') crowd.received.push(JSON.parse(text).n);
    };
    crowd.stream.onerror = (error) => crowd.complaints.push(`the stream: ${error.message}`);
    return crowd;
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
      const watching = this.people.length + 1;
      await this.becomes(() => match.subscriptionCount === watching, () => `${person.id} to be told of ${watching} subscribers: ${match.subscriptionCount}`);
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
