/** The state as a whole: snapshots, files of it, example calls, the way back to the start; and namespaces. */

import {html} from './vendor/htm-preact.module.js';
import {seedCalls} from './calls.js';
import {address} from './http.js';
import {WORLD, change, download, restoreFile} from './loading.js';
import {Confirm, Field, Loaded, Panel, filled} from './parts.js';
import {set, state} from './state.js';
import {Time, duration} from './time.js';

export function World() {
  const seed = (event) => {
    event.preventDefault();
    seedCalls(Number(filled(event.target).count));
  };
  return html`
    <${Panel} id="world" title="State and snapshots" note=${state.snapshots.data?.length || null} open=${false}>
      <h3>Snapshots</h3>
      <${Snapshots} />
      <h3>All of it</h3>
      <div class="buttons">
        <button class="small" onClick=${() => download('state', 'video-calls-state.json')}>Export</button>
        <${Import} />
        <button class="small" onClick=${() => set({dialog: 'reset'})}>Reset…</button>
      </div>
      <form class="inline" onSubmit=${seed}>
        <${Field} label="Example calls">
          <input name="count" type="number" min="1" max="1000" defaultValue="20" required />
        <//>
        <button>Add example calls</button>
      </form>
      ${state.dialog === 'reset' && html`<${Reset} />`}
    <//>`;
}

/** The field for the name of a snapshot or a namespace. */
function Name() {
  return html`
    <${Field} label="Name">
      <input
        name="name" required maxlength="64" pattern="[A-Za-z0-9._\\-]+" title="Letters, digits, dots, dashes"
        autocomplete="off"
      />
    <//>`;
}

function Snapshots() {
  const save = async (event) => {
    event.preventDefault();
    const form = event.target;
    const {name} = filled(form);
    const saved = await change(`Saved as ${name}`, ['snapshots'], 'PUT', `snapshots/${encodeURIComponent(name)}`);
    if (saved) form.reset();
  };
  return html`
    <${Loaded} of="snapshots">
      ${state.snapshots.data?.length === 0 && html`<p class="empty">No snapshot yet. Save one to come back to.</p>`}
      <ul class="items">${state.snapshots.data?.map((one) => html`<${Snapshot} key=${one.name} one=${one} />`)}</ul>
    <//>
    <form class="inline" onSubmit=${save}>
      <${Name} />
      <button>Save a snapshot</button>
    </form>`;
}

function Snapshot({one}) {
  const {name, saved_at: at, calls} = one;
  const path = `snapshots/${encodeURIComponent(name)}`;
  const actions = {
    Restore: () => change(`Restored ${name}`, WORLD, 'POST', `${path}/restore`),
    Download: () => download(path, `${name}.json`),
    Delete: () => change(`Deleted ${name}`, ['snapshots'], 'DELETE', path),
  };
  return html`
    <li>
      <div>
        <strong class="break">${name}</strong>
        <p class="quiet">${calls} calls, <${Time} at=${at} /></p>
      </div>
      <div class="buttons">
        ${Object.entries(actions).map(([action, run]) => html`
          <button class="small" key=${action} aria-label=${`${action} ${name}`} onClick=${run}>${action}</button>`)}
      </div>
    </li>`;
}

function Import() {
  const read = async ({target}) => {
    if (target.files.length) await restoreFile(target.files[0]);
    target.value = '';
  };
  return html`
    <label class="button small">
      Import
      <input
        class="hidden" type="file" accept="application/json,.json" aria-label="Import the state from a file"
        onChange=${read}
      />
    </label>`;
}

function Reset() {
  const text = 'People, calls, events, faults and the clock go back to what they were at the start. '
    + 'Save a snapshot first to come back.';
  const reset = () => change('Everything is as at the start', WORLD, 'POST', 'state/reset');
  return html`<${Confirm} title="Reset the state?" text=${text} action="Reset" onConfirm=${reset} />`;
}

export function Namespaces() {
  const here = state.server.data.namespace;
  const root = here ? '../../' : './';
  const home = (name) => address(name ? `${root}_ns/${encodeURIComponent(name)}/` : root);
  const note = html`<span class="break">here: ${here || 'default'}</span>`;
  const open = async (event) => {
    event.preventDefault();
    const {name} = filled(event.target);
    // This request has the control key, which a new namespace needs; the browser opens a page without it.
    const server = `../${root}_ns/${encodeURIComponent(name)}/_control/server`;
    if (await change(`Namespace ${name} is ready`, [], 'GET', server)) location.href = home(name);
  };
  return html`
    <${Panel} id="namespaces" title="Namespaces" note=${note} open=${false}>
      <p class="quiet">Each has people, calls, clock and faults of its own, so that tests can run side by side.</p>
      <${Loaded} of="namespaces">
        <ul class="items">
          ${state.namespaces.data?.map((one) => html`
            <${Namespace} key=${one.name} one=${one} here=${here} home=${home} />`)}
        </ul>
      <//>
      <form class="inline" onSubmit=${open}>
        <${Name} />
        <button>Open the namespace</button>
      </form>
    <//>`;
}

function Namespace({one, here, home}) {
  const {name, calls, idle_seconds: idle} = one;
  const shown = name || 'default';
  const drop = () => change(
    `Namespace ${name} is gone`, ['namespaces'], 'DELETE', `namespaces/${encodeURIComponent(name)}`,
  );
  return html`
    <li>
      <div class="break">
        ${name === here ? html`<strong>${shown}</strong>` : html`<a href=${home(name)}>${shown}</a>`}
        <p class="quiet">${calls} calls, idle for ${duration(idle * 1000)}</p>
      </div>
      ${name && name !== here && html`
        <button class="small" aria-label=${`Delete namespace ${name}`} onClick=${drop}>Delete</button>`}
    </li>`;
}
