// A reader of event streams that does what browsers do (WHATWG HTML, 9.2): it
// comes back by itself with Last-Event-ID, after the time that the server said.
import http from 'node:http';

export class EventSource {
  constructor(url, { headers = {}, agent, lastEventId = '' } = {}) {
    Object.assign(this, { url, headers, agent, lastEventId, retry: 1000, closed: false, onmessage: () => {}, onopen: () => {}, onerror: () => {} });
    this.connect();
  }

  connect() {
    const headers = { Accept: 'text/event-stream', 'Cache-Control': 'no-store', ...this.headers };
    if (this.lastEventId) headers['Last-Event-ID'] = this.lastEventId;
    this.request = http.get(this.url, { headers, agent: this.agent }, (response) => {
      if (response.statusCode !== 200 || !/^text\/event-stream/.test(response.headers['content-type'] ?? '')) {
        this.closed = true;
        this.onerror(new Error(`status ${response.statusCode}`));
        response.destroy();
        return;
      }
      this.onopen(response);
      this.parse(response);
      response.on('error', () => {});
      response.on('close', () => this.reconnect());
    });
    this.request.on('error', () => this.reconnect());
  }

  reconnect() {
    if (this.closed || this.timer) return;
    this.onerror(new Error('connection lost'));
    this.timer = setTimeout(() => {
      this.timer = undefined;
      if (!this.closed) this.connect();
    }, this.retry);
  }

  parse(response) {
    let rest = '';
    let data = [];
    let id = this.lastEventId;
    response.setEncoding('utf8');
    response.on('data', (chunk) => {
      const lines = (rest + chunk).split('\n');
      rest = lines.pop();
      for (const line of lines) {
        if (line === '') {
          this.lastEventId = id;
          if (data.length > 0) this.onmessage({ data: data.join('\n'), lastEventId: id });
          data = [];
          continue;
        }
        const [, field, value] = /^([^:]*):? ?(.*)$/.exec(line);
        if (field === 'data') data.push(value);
        if (field === 'id') id = value;
        if (field === 'retry') this.retry = Number(value);
      }
    });
  }

  close() {
    this.closed = true;
    clearTimeout(this.timer);
    this.request.destroy();
  }
}
