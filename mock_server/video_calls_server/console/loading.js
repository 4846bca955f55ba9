/** What the page shows is fetched here, and fetched again when something tells that it changed. */

import {control, controlResponse, expiryOf, parsed} from './http.js';
import {MINUTE} from './time.js';
import {NOTHING, set, state} from './state.js';

const CHOICE = `video-calls-person:${location.pathname}`; // of this tab, so that two tabs can be two people
const identity = () => `identity=${encodeURIComponent(state.person)}`;
const SOURCES = {
  server: () => 'server',
  identities: () => 'identities',
  clock: () => 'clock',
  calls: () => (state.everyone || !state.person ? 'calls' : `calls?${identity()}`),
  verdicts: () => `calls/${state.call}/verdicts?${identity()}`,
  faults: () => 'faults',
  snapshots: () => 'snapshots',
  namespaces: () => 'namespaces',
  rules: () => 'rules',
};

const latest = {}; // by source: the last request, for an earlier one may answer later

/** Fetch something; what was there stays to be seen until its successor is there. */
export async function load(name) {
  if (name === 'verdicts' && (state.call === null || !state.person)) return set({verdicts: NOTHING});
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

/** Everything, from the beginning. */
export async function loadAll() {
  await load('server');
  if (state.server.error) return;
  const title = state.server.data.namespace;
  document.title = `${title ? `${title} - ` : ''}Video Calls console`;
  await Promise.all([load('identities'), load('clock'), load('rules')]);
  choosePerson();
  await Promise.all(['calls', 'faults', 'snapshots', 'namespaces', 'verdicts'].map(load));
}

function choosePerson() {
  const people = state.identities.data ?? [];
  const wanted = state.person ?? sessionStorage.getItem(CHOICE);
  const found = people.find(({email}) => email === wanted) ?? people.find(({active}) => active) ?? people[0];
  set({person: found?.email ?? null});
}

/** Act as another person from now on. */
export function pick(email) {
  sessionStorage.setItem(CHOICE, email);
  set({person: email, calls: state.everyone ? state.calls : NOTHING, verdicts: NOTHING});
  load('calls');
  load('verdicts');
}

/** Look at a call, or at none. */
export function look(id) {
  set({call: id, verdicts: NOTHING});
  load('verdicts');
}

let soon = null;

/** Fetch the calls again, once for many changes at a time. */
export function refresh() {
  soon ??= setTimeout(() => {
    soon = null;
    load('calls');
    load('verdicts');
  }, 120);
}

/**
 * Do something by the control API, say how it went, and fetch again what it changes.
 * Gives whether it succeeded.
 */
export async function change(done, changes, method, path, body) {
  try {
    const answer = await control(method, path, body);
    set({notice: {text: typeof done === 'function' ? done(answer) : done, failed: false}});
    await Promise.all(changes.map(load));
    return true;
  } catch (error) {
    if (error.status === 401) set({dialog: 'key'});
    set({notice: {text: error.message, failed: true}});
    return false;
  }
}

export const WORLD = ['identities', 'clock', 'calls', 'verdicts', 'faults', 'snapshots', 'namespaces'];

/** A document of the control API as a file to keep. */
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

/** Put the state of a kept file in place of the present one. */
export async function restoreFile(file) {
  const kept = parsed(await file.text());
  if (kept === null) return set({notice: {text: `${file.name} is no JSON`, failed: true}});
  return change(`The state is that of ${file.name}`, WORLD, 'PUT', 'state', kept);
}

/** Look after what changes without anybody telling: the clock, faults that wear out, tokens that expire. */
export function keepFresh() {
  const lookAgain = () => {
    if (document.hidden || !state.server.data) return;
    load('clock');
    load('faults');
    const soonest = Math.min(...(state.identities.data ?? []).map(({token}) => expiryOf(token) ?? Infinity));
    if (soonest < Date.now() + 2 * MINUTE) load('identities');
  };
  const timer = setInterval(lookAgain, 5000);
  document.addEventListener('visibilitychange', lookAgain);
  return () => {
    clearInterval(timer);
    document.removeEventListener('visibilitychange', lookAgain);
  };
}
