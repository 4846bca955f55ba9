/** What the server tells by itself: the events of the person picked, and the requests of everybody. */

import {control, controlResponse, eventsAddress, parsed} from './http.js';
import {load, loadAll, refresh} from './loading.js';
import {set, state, token} from './state.js';

const KEPT = 200; // events, and requests
const FIRST_DELAY = 500;
const LONGEST_DELAY = 10_000;

/** Waits between attempts, longer each time. */
class Backoff {
  delay = FIRST_DELAY;

  next() {
    const delay = this.delay * (0.75 + Math.random() / 2);
    this.delay = Math.min(this.delay * 2, LONGEST_DELAY);
    return delay;
  }

  succeeded() {
    this.delay = FIRST_DELAY;
  }
}

const seconds = (delay) => `again in ${Math.max(1, Math.round(delay / 1000))} s`;

/** Follow the events of the person picked, until the function that is given back is called. */
export function followEvents() {
  const backoff = new Backoff();
  let lastId = null;
  let socket = null;
  let timer = null;
  let stopped = false;
  set({events: []});

  function connect() {
    if (!token()) return set({eventsLink: {state: 'off', detail: 'no token'}});
    set({eventsLink: {state: 'waiting', detail: ''}});
    socket = new WebSocket(eventsAddress(lastId), ['bearer', token()]);
    socket.onopen = () => {
      set({eventsLink: {state: 'on', detail: ''}});
      refresh(); // whatever happened before the connection began
    };
    socket.onmessage = ({data}) => {
      backoff.succeeded();
      const event = parsed(data);
      lastId = event.id;
      set({events: [event, ...state.events].slice(0, KEPT)});
      refresh();
    };
    socket.onclose = ({code, reason}) => {
      if (!stopped) again(code, reason);
    };
  }

  async function again(code, reason) {
    if (code === 4400 || code === 4410) lastId = null;
    const delay = code === 4410 || code === 4402 ? 0 : backoff.next();
    const why = `closed with ${code}${reason ? `, ${reason}` : ''}`;
    set({eventsLink: {state: 'off', detail: `${why}; ${seconds(delay)}`}});
    if (code === 4410) await loadAll();
    if (code === 4401 || code === 4402) await load('identities'); // with fresh tokens
    if (!stopped) timer = setTimeout(connect, delay);
  }

  connect();
  return () => {
    stopped = true;
    clearTimeout(timer);
    socket?.close();
  };
}

/** Follow the log of requests, until the function that is given back is called. */
export function followRequests() {
  const backoff = new Backoff();
  const aborted = new AbortController();
  let arrived = [];

  /** Show what arrived, at once for many that come together. */
  function show() {
    const known = new Map(state.requests.map((exchange) => [exchange.id, exchange]));
    for (const exchange of arrived) known.set(exchange.id, exchange);
    if (arrived.some(({method, status}) => method !== 'GET' && (status === null || status < 400))) refresh();
    if (arrived.some(({fault}) => fault)) load('faults');
    arrived = [];
    set({requests: [...known.values()].sort((a, b) => b.id - a.id).slice(0, KEPT)});
  }

  function add(exchange) {
    if (arrived.push(exchange) === 1) setTimeout(show, 50);
  }

  async function follow() {
    const response = await controlResponse('GET', 'requests/stream', {signal: aborted.signal});
    set({requestsLink: {state: 'on', detail: ''}});
    backoff.succeeded();
    set({requests: await control('GET', `requests?limit=${KEPT}`)});
    for await (const text of lines(response.body)) {
      if (text.startsWith('data:')) add(JSON.parse(text.slice(5)));
    }
  }

  async function keepFollowing() {
    while (!aborted.signal.aborted) {
      let reason = 'the server ended it';
      await follow().catch((error) => {
        reason = error.message;
      });
      if (aborted.signal.aborted) return;
      const delay = backoff.next();
      set({requestsLink: {state: 'off', detail: `${reason}; ${seconds(delay)}`}});
      await new Promise((resolve) => setTimeout(resolve, delay));
    }
  }

  keepFollowing();
  return () => aborted.abort();
}

/** The lines of a stream of bytes. */
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
