/** All that the page knows, in one place. Views read `state`; whoever changes it says so with `set`. */

import {useEffect, useReducer} from './vendor/htm-preact.module.js';

/** What a source is before it was fetched: `data` or `error` comes to be something. */
export const NOTHING = {data: null, error: null};

export const state = {
  // What was fetched: {data, error}, either of them null.
  server: NOTHING,
  identities: NOTHING,
  clock: NOTHING,
  calls: NOTHING,
  verdicts: NOTHING,
  faults: NOTHING,
  snapshots: NOTHING,
  namespaces: NOTHING,
  rules: NOTHING,
  // What was chosen.
  person: null, // e-mail
  call: null, // id
  everyone: false, // whether the calls of all people are shown
  tokens: {}, // by e-mail: a token to act with instead of the person's own
  made: null, // the token made last, with its person's e-mail
  dialog: null, // the name of the open dialog
  // What happened.
  answer: null, // of the API, to the last thing that a person did
  events: [], // newest first
  eventsLink: {state: 'waiting', detail: ''},
  requests: [], // newest first
  requestsLink: {state: 'waiting', detail: ''},
  opened: null, // the id of the request that something else on the page points to
  notice: null, // {text, failed}: how the last change by the control API went
};

const listeners = new Set();

/** Change what the page knows, and show it. */
export function set(changes) {
  Object.assign(state, changes);
  for (const listener of listeners) listener();
}

/** Render this component again whenever something was set. */
export function useEverything() {
  const [, again] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    listeners.add(again);
    return () => listeners.delete(again);
  }, []);
}

/** The person picked, or null. */
export const person = () => state.identities.data?.find(({email}) => email === state.person) ?? null;

/** The call picked, or null. */
export const call = () => state.calls.data?.find(({id}) => id === state.call) ?? null;

/** The token to act with as the person picked. */
export const token = () => state.tokens[state.person] ?? person()?.token ?? null;
