/**
 * Requests to this server. Every address is relative to the page, so that the console of a namespace
 * stays in its namespace.
 */

const KEY = 'video-calls-control-key';

/** An answer of the control API that is no success; `message` is the server's own text. */
export class Refusal extends Error {
  constructor(status, body) {
    super(body?.error ?? `The server answered ${status}`);
    this.status = status;
  }
}

/** The control key lives as long as the tab. */
export const keepKey = (key) => sessionStorage.setItem(KEY, key);

/** The address of something on this server, as an absolute URL. */
export const address = (path) => new URL(path, document.baseURI).href;

/** The address of the WebSocket of events. */
export function eventsAddress(lastId) {
  const url = new URL('api/v1/video/events/', document.baseURI);
  url.protocol = url.protocol.replace('http', 'ws');
  if (lastId !== null) url.searchParams.set('last_event_id', lastId);
  return url.href;
}

/** A request to the control API; the caller reads the response. */
export async function controlResponse(method, path, {body, signal} = {}) {
  const headers = {};
  const key = sessionStorage.getItem(KEY);
  if (key !== null) headers['Video-Calls-Control-Key'] = key;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const response = await fetch(address(`_control/${path}`), {
    method, headers, signal, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store',
  });
  if (!response.ok) throw new Refusal(response.status, parsed(await response.text()));
  return response;
}

/** A request to the control API; gives the body, or null where there is none. */
export async function control(method, path, body) {
  return parsed(await (await controlResponse(method, path, {body})).text());
}

/** A request to the API itself, with a person's token; whatever is answered is an answer. */
export async function api(method, path, token, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers['Content-Type'] = 'application/json';
  const begun = performance.now();
  const response = await fetch(address(`api/v1/video/${path}`), {
    method, headers, body: body === undefined ? undefined : JSON.stringify(body), cache: 'no-store',
  });
  const text = await response.text();
  return {
    status: response.status,
    reason: response.statusText,
    requestId: response.headers.get('X-Request-ID'),
    fault: response.headers.get('Video-Calls-Fault'),
    ms: performance.now() - begun,
    text,
    json: parsed(text),
  };
}

/** What a JSON text says, or null where it is none. */
export function parsed(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** When a JWT expires, in milliseconds; null where it does not say. */
export function expiryOf(token) {
  const payload = token?.split('.')[1]?.replace(/-/g, '+').replace(/_/g, '/');
  try {
    const {exp} = JSON.parse(atob(payload));
    return typeof exp === 'number' ? exp * 1000 : null;
  } catch {
    return null;
  }
}
