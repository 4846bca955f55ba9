/** Loads the data of the page from the control API, and changes it there. */

import {control, controlResponse, expiryOf, parseJson} from './http.js';
import {NOT_LOADED, set, state} from './page-state.js';
import {MINUTE} from './time.js';

const USER_KEY = `video-calls-user:${location.pathname}`; // in the storage of this tab, so each tab has its own user
const identity = () => `identity=${encodeURIComponent(state.user)}`;
const SOURCES = {
  server: () => 'server',
  identities: () => 'identities',
  clock: () => 'clock',
  calls: () => (state.allUsers || !state.user ? 'calls' : `calls?${identity()}`),
  verdicts: () => `calls/${state.callId}/verdicts?${identity()}`,
  faults: () => 'faults',
  snapshots: () => 'snapshots',
  namespaces: () => 'namespaces',
  rules: () => 'rules',
};

const latest = {}; // by source: the last request, because responses can arrive in another order

/** Load a source. The page shows the old data until the new data arrives. */
export async function load(name) {
  if (name === 'verdicts' && (state.callId === null || !state.user)) return set({verdicts: NOT_LOADED});
  const request = (latest[name] = Symbol(name));
  try {
    const data = await control('GET', SOURCES[name]());
    if (name === 'clock') data.readAt = performance.now();
    if (latest[name] === request) set({[name]: {data, error: null}});
  } catch (error) {
    if (error.status === 401) set({dialog: 'key'});
    if (latest[name] === request) set({[name]: {data: state[name].data, error}});
  }
}

/** Load all sources. */
export async function loadAll() {
  await load('server');
  if (state.server.error) return;
  const title = state.server.data.namespace;
  document.title = `${title ? `${title} - ` : ''}Video Calls console`;
  await Promise.all([load('identities'), load('clock'), load('rules')]);
  selectInitialUser();
  await Promise.all(['calls', 'faults', 'snapshots', 'namespaces', 'verdicts'].map(load));
}

function selectInitialUser() {
  const users = state.identities.data ?? [];
  const email = state.user ?? sessionStorage.getItem(USER_KEY);
  const user = users.find((each) => each.email === email) ?? users.find(({active}) => active) ?? users[0];
  set({user: user?.email ?? null});
}

/** Act as another user. */
export function selectUser(email) {
  sessionStorage.setItem(USER_KEY, email);
  set({user: email, calls: state.allUsers ? state.calls : NOT_LOADED, verdicts: NOT_LOADED});
  load('calls');
  load('verdicts');
}

/** Select a call, or none. */
export function selectCall(id) {
  set({callId: id, verdicts: NOT_LOADED});
  load('verdicts');
}

let timer = null;

/** Load the calls again, once for several changes in a row. */
export function refresh() {
  timer ??= setTimeout(() => {
    timer = null;
    load('calls');
    load('verdicts');
  }, 120);
}

/** Call the control API, show a notice, and load the changed sources. Return whether it succeeded. */
export async function callControl(message, changes, method, path, content) {
  try {
    const body = await control(method, path, content);
    set({notice: {text: typeof message === 'function' ? message(body) : message, failed: false}});
    await Promise.all(changes.map(load));
    return true;
  } catch (error) {
    if (error.status === 401) set({dialog: 'key'});
    set({notice: {text: error.message, failed: true}});
    return false;
  }
}

export const ALL_STATE = ['identities', 'clock', 'calls', 'verdicts', 'faults', 'snapshots', 'namespaces'];

/** Save a document of the control API as a file. */
export async function download(path, filename) {
  try {
    const blob = await (await controlResponse('GET', path)).blob();
    const url = URL.createObjectURL(blob);
    Object.assign(document.createElement('a'), {href: url, download: filename}).click();
    setTimeout(() => URL.revokeObjectURL(url), MINUTE);
  } catch (error) {
    set({notice: {text: error.message, failed: true}});
  }
}

/** Replace the state by that of a file. */
export async function importFile(file) {
  const document = parseJson(await file.text());
  if (document === null) return set({notice: {text: `${file.name} is not JSON`, failed: true}});
  return callControl(`Imported ${file.name}`, ALL_STATE, 'PUT', 'state', document);
}

/** Poll what changes without an event: the clock, the counts of faults, and tokens that expire. */
export function poll() {
  const reload = () => {
    if (document.hidden || !state.server.data) return;
    load('clock');
    load('faults');
    const firstExpiry = Math.min(...(state.identities.data ?? []).map(({token}) => expiryOf(token) ?? Infinity));
    if (firstExpiry < Date.now() + 2 * MINUTE) load('identities');
  };
  const timer = setInterval(reload, 5000);
  document.addEventListener('visibilitychange', reload);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', reload);
  };
}
