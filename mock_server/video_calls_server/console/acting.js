/** The API's operations as the person picked, each with its answer kept to be shown. */

import {api, control} from './http.js';
import {load, look, refresh} from './loading.js';
import {set, state, token} from './state.js';

const OPERATIONS = {
  list: {title: 'List', method: 'GET', path: () => 'video-calls/'},
  create: {title: 'Schedule', method: 'POST', path: () => 'video-calls/'},
  get: {title: 'Get', method: 'GET', path: (id) => `video-calls/${id}/`},
  join: {title: 'Join', method: 'POST', path: (id) => `video-calls/${id}/join/`},
  end: {title: 'End', method: 'POST', path: (id) => `video-calls/${id}/end/`},
  cancel: {title: 'Cancel', method: 'POST', path: (id) => `video-calls/${id}/cancel/`},
};

export const title = (operation) => OPERATIONS[operation].title;

/** Ask the API for something as the person picked. Gives the answer, which the page shows too. */
export async function act(operation, id, body) {
  const {method, path, title: name} = OPERATIONS[operation];
  const what = id === undefined ? name : `${name} call ${id}`;
  const asked = {title: what, method, path: path(id), email: state.person};
  set({answer: {...asked, pending: true}, notice: null});
  let answer;
  try {
    answer = {...asked, ...(await api(method, path(id), token(), body))};
  } catch (error) {
    answer = {...asked, failure: error.message}; // the connection was dropped, or the server is gone
  }
  set({answer});
  if (answer.status === 401 && !state.tokens[state.person]) load('identities'); // with fresh tokens
  if (operation === 'create' && answer.status === 201) look(answer.json.id);
  if (operation === 'join' && answer.status === 200) inspect(answer);
  refresh();
  if (answer.fault) load('faults');
  return answer;
}

/** Have the token of a join decoded, to be shown with its answer. */
async function inspect(answer) {
  const {token: text, channel_name, uid} = answer.json ?? {};
  const decoded = await control('POST', 'agora/inspect', {token: text, channel_name, uid})
    .catch((error) => ({error: error.message}));
  if (state.answer === answer) set({answer: {...answer, decoded}});
}
