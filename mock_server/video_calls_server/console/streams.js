/** The streams of the server: the events of the selected user, and the request log. */

import {control, controlResponse, eventsUrl, parseJson} from './http.js';
import {set, state, token} from './page-state.js';
import {load, loadAll, refresh} from './server-data.js';

const MAX_ENTRIES = 200; // of events, and of requests
const MIN_DELAY = 500;
const MAX_DELAY = 10_000;

/** The delays between attempts, each longer than the one before. */
class Backoff {
  delay = MIN_DELAY;

  next() {
    const delay = this.delay * (0.75 + Math.random() / 2);
    this.delay = Math.min(this.delay * 2, MAX_DELAY);
    return delay;
  }

  reset() {
    this.delay = MIN_DELAY;
  }
}

const retryText = (delay) => `retry in ${Math.max(1, Math.round(delay / 1000))} s`;

/** Stream the events of the selected user. Return a function that stops it. */
export function streamEvents() {
  const backoff = new Backoff();
  let lastId = null;
  let socket = null;
  let timer = null;
  let stopped = false;
  set({events: []});

  function connect() {
    if (!token()) return set({eventsStatus: {state: 'off', detail: 'no token'}});
    set({eventsStatus: {state: 'waiting', detail: ''}});
    socket = new WebSocket(eventsUrl(lastId), ['bearer', token()]);
    socket.onopen = () => {
      set({eventsStatus: {state: 'on', detail: ''}});
      refresh(); // for changes before the connection was open
    };
    socket.onmessage = ({data}) => {
      backoff.reset();
      const event = parseJson(data);
      lastId = event.id;
      set({events: [event, ...state.events].slice(0, MAX_ENTRIES)});
      refresh();
    };
    socket.onclose = ({code, reason}) => {
      if (!stopped) reconnect(code, reason);
    };
  }

  async function reconnect(code, reason) {
    if (code === 4400 || code === 4410) lastId = null;
    const delay = code === 4410 || code === 4402 ? 0 : backoff.next();
    const why = `closed with ${code}${reason ? `, ${reason}` : ''}`;
    set({eventsStatus: {state: 'off', detail: `${why}; ${retryText(delay)}`}});
    if (code === 4410) await loadAll();
    if (code === 4401 || code === 4402) await load('identities'); // for new tokens
    if (!stopped) timer = setTimeout(connect, delay);
  }

  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket?.close();
  };
}

/** Stream the request log. Return a function that stops it. */
export function streamRequests() {
  const backoff = new Backoff();
  const aborted = new AbortController();
  let pending = [];

  /** Render several new exchanges at once. */
  function render() {
    const byId = new Map(state.requests.map((exchange) => [exchange.id, exchange]));
    for (const exchange of pending) byId.set(exchange.id, exchange);
    if (pending.some(({method, status}) => method !== 'GET' && (status === null || status < 400))) refresh();
    if (pending.some(({fault}) => fault)) load('faults');
    pending = [];
    set({requests: [...byId.values()].sort((a, b) => b.id - a.id).slice(0, MAX_ENTRIES)});
  }

  function add(exchange) {
    if (pending.push(exchange) === 1) setTimeout(render, 50);
  }

  async function readStream() {
    const response = await controlResponse('GET', 'requests/stream', {signal: aborted.signal});
    set({requestsStatus: {state: 'on', detail: ''}});
    backoff.reset();
    set({requests: await control('GET', `requests?limit=${MAX_ENTRIES}`)});
    for await (const text of lines(response.body)) {
      if (text.startsWith('data:')) add(JSON.parse(text.slice(5)));
    }
  }

  async function reconnectForever() {
    while (!aborted.signal.aborted) {
      let reason = 'the server closed the stream';
      await readStream().catch((error) => {
        reason = error.message;
      });
      if (aborted.signal.aborted) return;
      const delay = backoff.next();
      set({requestsStatus: {state: 'off', detail: `${reason}; ${retryText(delay)}`}});
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  reconnectForever();
  return () => aborted.abort();
}

/** Yield the lines of a stream of bytes. */
async function* lines(stream) {
  const reader = stream.pipeThrough(new TextDecoderStream()).getReader();
  let rest = '';
  for (;;) {
    const {done, value} = await reader.read();
    if (done) return;
    const complete = (rest + value).split(/\r?\n/);
    rest = complete.pop();
    yield* complete;
  }
}
