/** The panel of the state: snapshots, export, import, reset and sample calls. */

import {html} from './vendor/htm-preact.module.js';
import {addSampleCalls} from './call-list.js';
import {Confirm, Field, Loaded, Panel, formValues} from './components.js';
import {set, state} from './page-state.js';
import {ALL_STATE, callControl, download, importFile} from './server-data.js';
import {Time} from './time.js';

export function Snapshots() {
  const add = (event) => {
    event.preventDefault();
    addSampleCalls(Number(formValues(event.target).count));
  };
  return html`
    <${Panel} id="snapshots" title="State and snapshots" note=${state.snapshots.data?.length || null} open=${false}>
      <h3>Snapshots</h3>
      <${SnapshotList} />
      <h3>Whole state</h3>
      <div class="buttons">
        <button class="small" onClick=${() => download('state', 'video-calls-state.json')}>Export</button>
        <${Import} />
        <button class="small" onClick=${() => set({dialog: 'reset'})}>Reset…</button>
      </div>
      <form class="inline" onSubmit=${add}>
        <${Field} label="Number of calls">
          <input name="count" type="number" min="1" max="1000" defaultValue="20" required />
        <//>
        <button>Add sample calls</button>
      </form>
      ${state.dialog === 'reset' && html`<${Reset} />`}
    <//>`;
}

/** The field for the name of a snapshot or a namespace. */
export function NameField() {
  return html`
    <${Field} label="Name">
      <input
        name="name" required maxlength="64" pattern="[A-Za-z0-9._\\-]+" title="Letters, digits, dots, dashes"
        autocomplete="off"
      />
    <//>`;
}

function SnapshotList() {
  const save = async (event) => {
    event.preventDefault();
    const form = event.target;
    const {name} = formValues(form);
    const saved = await callControl(`Saved as ${name}`, ['snapshots'], 'PUT', `snapshots/${encodeURIComponent(name)}`);
    if (saved) form.reset();
  };
  return html`
    <${Loaded} of="snapshots">
      ${state.snapshots.data?.length === 0 && html`<p class="empty">No snapshots yet.</p>`}
      <ul class="snapshots">${state.snapshots.data?.map((snapshot) => html`<${Snapshot} key=${snapshot.name} snapshot=${snapshot} />`)}</ul>
    <//>
    <form class="inline" onSubmit=${save}>
      <${NameField} />
      <button>Save a snapshot</button>
    </form>`;
}

function Snapshot({snapshot}) {
  const {name, saved_at: at, calls} = snapshot;
  const path = `snapshots/${encodeURIComponent(name)}`;
  const actions = {
    Restore: () => callControl(`Restored ${name}`, ALL_STATE, 'POST', `${path}/restore`),
    Download: () => download(path, `${name}.json`),
    Delete: () => callControl(`Deleted ${name}`, ['snapshots'], 'DELETE', path),
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
    if (target.files.length) await importFile(target.files[0]);
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
  const text = 'This restores the users, calls, events, faults and clock of the start. '
    + 'Save a snapshot first if you need the current state.';
  const reset = () => callControl('Reset the state', ALL_STATE, 'POST', 'state/reset');
  return html`<${Confirm} title="Reset the state?" text=${text} action="Reset" onConfirm=${reset} />`;
}
