/** Runs the operations of the API as the selected user, and stores the response for the page. */

import {api, control} from './http.js';
import {set, state, token} from './page-state.js';
import {load, refresh, selectCall} from './server-data.js';

const OPERATIONS = {
  list: {title: 'List', method: 'GET', path: () => 'video-calls/'},
  create: {title: 'Schedule', method: 'POST', path: () => 'video-calls/'},
  get: {title: 'Get', method: 'GET', path: (id) => `video-calls/${id}/`},
  join: {title: 'Join', method: 'POST', path: (id) => `video-calls/${id}/join/`},
  end: {title: 'End', method: 'POST', path: (id) => `video-calls/${id}/end/`},
  cancel: {title: 'Cancel', method: 'POST', path: (id) => `video-calls/${id}/cancel/`},
};

export const operationTitle = (operation) => OPERATIONS[operation].title;

/** Run an operation as the selected user. Return its response, which the page shows too. */
export async function runOperation(operation, id, body) {
  const {method, path, title: name} = OPERATIONS[operation];
  const label = id === undefined ? name : `${name} call ${id}`;
  const request = {title: label, method, path: path(id), email: state.user};
  set({response: {...request, pending: true}, notice: null});
  let response;
  try {
    response = {...request, ...(await api(method, path(id), token(), body))};
  } catch (error) {
    response = {...request, failure: error.message}; // the connection was dropped, or the server has stopped
  }
  set({response});
  if (response.status === 401 && !state.tokens[state.user]) load('identities'); // for new tokens
  if (operation === 'create' && response.status === 201) selectCall(response.json.id);
  if (operation === 'join' && response.status === 200) inspectToken(response);
  refresh();
  if (response.fault) load('faults');
  return response;
}

/** Let the server decode the Agora token of a join. */
async function inspectToken(response) {
  const {token: text, channel_name, uid} = response.json ?? {};
  const decoded = await control('POST', 'agora/inspect', {token: text, channel_name, uid})
    .catch((error) => ({error: error.message}));
  if (state.response === response) set({response: {...response, decoded}});
}
