/** The state of the page, in one place. Components read `state` and change it with `set`. */

import {useEffect, useReducer} from './vendor/htm-preact.module.js';

/** The value of a source before it is loaded. */
export const NOT_LOADED = {data: null, error: null};

export const state = {
  // Loaded from the server: {data, error}, of which at least one is null.
  server: NOT_LOADED,
  identities: NOT_LOADED,
  clock: NOT_LOADED,
  calls: NOT_LOADED,
  verdicts: NOT_LOADED,
  faults: NOT_LOADED,
  snapshots: NOT_LOADED,
  namespaces: NOT_LOADED,
  rules: NOT_LOADED,
  // Selected on the page.
  user: null, // e-mail
  callId: null,
  allUsers: false, // whether the calls of all users are shown
  tokens: {}, // by e-mail: a token that replaces the user's own
  issuedToken: null, // the last token that the server issued, with the user's e-mail
  dialog: null, // the name of the open dialog
  // Received.
  response: null, // of the API to the last operation
  events: [], // newest first
  eventsStatus: {state: 'waiting', detail: ''},
  requests: [], // newest first
  requestsStatus: {state: 'waiting', detail: ''},
  requestToOpen: null, // the id of a request that another panel links to
  notice: null, // {text, failed}: the result of the last change through the control API
};

const listeners = new Set();

/** Change the state, and render the page again. */
export function set(changes) {
  Object.assign(state, changes);
  for (const listener of listeners) listener();
}

/** Render this component again after each change. */
export function usePageState() {
  const [, render] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    listeners.add(render);
    return () => listeners.delete(render);
  }, []);
}

/** Return the selected user, or null. */
export const selectedUser = () => state.identities.data?.find(({email}) => email === state.user) ?? null;

/** Return the selected call, or null. */
export const selectedCall = () => state.calls.data?.find(({id}) => id === state.callId) ?? null;

/** Return the token for requests as the selected user. */
export const token = () => state.tokens[state.user] ?? selectedUser()?.token ?? null;
