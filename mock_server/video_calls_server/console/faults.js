/** The panel of faults, which delay, refuse, drop or change responses of the server. */

import {html, useState} from './vendor/htm-preact.module.js';
import {Field, Loaded, Panel, formValues} from './components.js';
import {state} from './page-state.js';
import {callControl} from './server-data.js';

const EFFECTS = {
  status: 'Respond with a status', drop: 'Drop the connection', body: 'Change the body', delay: 'Only delay',
};
const BODIES = ['truncated', 'corrupted', 'missing_field', 'wrong_type', 'null'];
const PRESETS = {
  'Next request: 503': {name: '503 once', status: 503, retry_after: 2, times: 1},
  'Everything 2 s slower': {name: 'slow', delay: 2},
  'Next join: response lost': {
    name: 'lost response', operation: 'joinVideoCall', drop: true, after: true, times: 1,
  },
};

const add = (fault) => callControl('Added the fault', ['faults'], 'POST', 'faults', fault);

export function Faults() {
  const faults = state.faults.data;
  const activeCount = faults?.filter(({left}) => left !== 0).length;
  const note = activeCount ? html`<span class="bad">${activeCount} active</span>` : 'none active';
  return html`
    <${Panel} id="faults" title="Faults" note=${faults && note} open=${false}>
      <${Loaded} of="faults">
        ${faults?.length === 0 && html`
          <p class="empty">No faults. Add one to see how your client handles it.</p>`}
        <ul class="items">${faults?.map((fault) => html`<${Fault} key=${fault.id} fault=${fault} />`)}</ul>
        ${faults?.length > 0 && html`
          <button class="small" onClick=${() => callControl('Removed all faults', ['faults'], 'DELETE', 'faults')}>
            Remove all faults
          </button>`}
      <//>
      <div class="buttons" role="group" aria-label="Common faults">
        ${Object.entries(PRESETS).map(([name, fault]) => html`
          <button class="small" key=${name} onClick=${() => add(fault)}>${name}</button>`)}
      </div>
      <${NewFault} />
    <//>`;
}

function Fault({fault}) {
  const {id, name, acted, left} = fault;
  const label = name || `fault ${id}`;
  const remove = () => callControl(`Removed ${label}`, ['faults'], 'DELETE', `faults/${id}`);
  return html`
    <li>
      <div>
        <strong class="break">${label}</strong>
        <p class="quiet break">${describe(fault)}</p>
        <p class="quiet">acted ${acted}×, ${left === null ? 'no limit' : `${left} left`}</p>
      </div>
      <button class="small" aria-label=${`Remove ${label}, fault ${id}`} onClick=${remove}>Remove</button>
    </li>`;
}

/** Return the operations of the contract, and the WebSocket of events. */
function operations() {
  const names = new Set(state.rules.data?.map(({operation}) => operation));
  names.delete('*'); // the rules about all operations
  return [...names, 'events'];
}

/** Return the effect of a fault, and what it acts on. */
function describe(fault) {
  const {operation, identity, call, probability, delay, status, error, code, drop, after, body} = fault;
  return [
    status && `responds ${status}`, error && `“${error}”`, code,
    fault.retry_after != null && `Retry-After ${fault.retry_after}`,
    drop && 'drops the connection', body && `changes the body: ${body}`, after && 'after the operation',
    delay && `delays ${[delay].flat().join(' to ')} s`,
    probability != null && probability < 1 && `${Math.round(probability * 100)} %`,
    operation, identity, call && `call ${call}`,
  ].filter(Boolean).join(', ');
}

function NewFault() {
  const [effect, setEffect] = useState('status');
  const send = (event) => {
    event.preventDefault();
    const fault = formValues(event.target);
    for (const name of ['status', 'retry_after', 'delay', 'times']) {
      if (name in fault) fault[name] = Number(fault[name]);
    }
    if (/^\d+$/.test(fault.call)) fault.call = Number(fault.call);
    if (fault.percent) fault.probability = Number(fault.percent) / 100;
    if (fault.after) fault.after = true;
    if (effect === 'drop') fault.drop = true;
    delete fault.effect;
    delete fault.percent;
    add(fault);
  };
  return html`
    <details>
      <summary>Custom fault</summary>
      <form class="fields" onSubmit=${send}>
        <${Field} label="Effect" wide>
          <select name="effect" value=${effect} onChange=${({target}) => setEffect(target.value)}>
            ${Object.entries(EFFECTS).map(([value, text]) => html`<option value=${value}>${text}</option>`)}
          </select>
        <//>
        ${effect === 'status' && html`
          <${Field} label="Status">
            <input name="status" type="number" min="400" max="599" defaultValue="500" required />
          <//>
          <${Field} label="Retry-After, s"><input name="retry_after" type="number" min="0" max="86400" /><//>`}
        ${effect === 'body' && html`
          <${Field} label="How" wide>
            <select name="body">${BODIES.map((kind) => html`<option value=${kind}>${kind}</option>`)}</select>
          <//>`}
        <${Field} label="Delay, s">
          <input name="delay" type="number" min="0" max="60" step="0.1" required=${effect === 'delay'} />
        <//>
        <${Field} label="Times"><input name="times" type="number" min="1" placeholder="always" /><//>
        <${Field} label="Probability, %"><input name="percent" type="number" min="1" max="100" placeholder="100" /><//>
        <${Field} label="Call"><input name="call" placeholder="any" /><//>
        <${Field} label="Operation" wide>
          <select name="operation">
            <option value="">any</option>
            ${operations().map((name) => html`<option value=${name}>${name}</option>`)}
          </select>
        <//>
        <${Field} label="User" wide>
          <select name="identity">
            <option value="">any</option>
            ${state.identities.data?.map(({email}) => html`<option value=${email}>${email}</option>`)}
          </select>
        <//>
        ${(effect === 'status' || effect === 'drop') && html`
          <label class="check wide">
            <input type="checkbox" name="after" value="true" /> After the request is handled
          </label>`}
        <button class="wide main">Add the fault</button>
      </form>
    </details>`;
}
