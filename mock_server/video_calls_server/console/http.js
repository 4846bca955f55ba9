/** Requests to this server. All URLs are relative to the page, and so stay in its namespace. */

const KEY = 'video-calls-control-key';

/** An error response of the control API; `message` is the server's own text. */
export class Refusal extends Error {
  constructor(status, body) {
    super(body?.error ?? `The server responded with status ${status}`);
    this.status = status;
  }
}

/** Store the control key until the tab is closed. */
export const saveKey = (key) => sessionStorage.setItem(KEY, key);

/** Return the absolute URL of a path on this server. */
export const absoluteUrl = (path) => new URL(path, document.baseURI).href;

/** Return the URL of the WebSocket of events. */
export function eventsUrl(lastId) {
  const url = new URL('api/v1/video/events/', document.baseURI);
  url.protocol = url.protocol.replace('http', 'ws');
  if (lastId !== null) url.searchParams.set('last_event_id', lastId);
  return url.href;
}

function send(method, path, headers, body, signal) {
  const json = body === undefined ? {} : {'Content-Type': 'application/json'};
  return fetch(absoluteUrl(path), {
    method, headers: {...headers, ...json}, body: JSON.stringify(body), signal, cache: 'no-store',
  });
}

/** Send a request to the control API. Return the response, of which the caller reads the body. */
export async function controlResponse(method, path, {body, signal} = {}) {
  const key = sessionStorage.getItem(KEY);
  const headers = key === null ? {} : {'Video-Calls-Control-Key': key};
  const response = await send(method, `_control/${path}`, headers, body, signal);
  if (!response.ok) throw new Refusal(response.status, parseJson(await response.text()));
  return response;
}

/** Send a request to the control API. Return the JSON body, or null if there is none. */
export async function control(method, path, body) {
  return parseJson(await (await controlResponse(method, path, {body})).text());
}

/** Send a request to the API with a user's token. Return the response, whatever its status. */
export async function api(method, path, token, body) {
  const start = performance.now();
  const headers = token ? {Authorization: `Bearer ${token}`} : {};
  const response = await send(method, `api/v1/video/${path}`, headers, body);
  const text = await response.text();
  return {
    status: response.status,
    reason: response.statusText,
    requestId: response.headers.get('X-Request-ID'),
    fault: response.headers.get('Video-Calls-Fault'),
    ms: performance.now() - start,
    text,
    json: parseJson(text),
  };
}

/** Return the value of a JSON text, or null if it is not JSON. */
export function parseJson(text) {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

/** Return when a JWT expires, in milliseconds, or null if it does not say. */
export function expiryOf(token) {
  const payload = token?.split('.')[1]?.replace(/-/g, '+').replace(/_/g, '/');
  try {
    const {exp} = JSON.parse(atob(payload));
    return typeof exp === 'number' ? exp * 1000 : null;
  } catch {
    return null;
  }
}
