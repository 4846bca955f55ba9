/** Faults: answers that the server is told to spoil, delay or never give. */

import {html, useState} from './vendor/htm-preact.module.js';
import {change} from './loading.js';
import {Field, Loaded, Panel, filled} from './parts.js';
import {state} from './state.js';

const EFFECTS = {
  status: 'Answer with a status', drop: 'Drop the connection', body: 'Spoil the body', delay: 'Only delay',
};
const BODIES = ['truncated', 'corrupted', 'missing_field', 'wrong_type', 'null'];
const READY = {
  'Next request: 503': {name: '503 once', status: 503, retry_after: 2, times: 1},
  'Everything 2 s slower': {name: 'slow', delay: 2},
  'Next join acts, then drops': {
    name: 'lost answer', operation: 'joinVideoCall', drop: true, after: true, times: 1,
  },
};

const add = (fault) => change('The fault is on', ['faults'], 'POST', 'faults', fault);

export function Faults() {
  const faults = state.faults.data;
  const able = faults?.filter(({left}) => left !== 0).length;
  const note = able ? html`<span class="bad">${able} on</span>` : 'none on';
  return html`
    <${Panel} id="faults" title="Faults" note=${faults && note} open=${false}>
      <${Loaded} of="faults">
        ${faults?.length === 0 && html`
          <p class="empty">The server behaves. Switch a fault on to see what your client does.</p>`}
        <ul class="items">${faults?.map((fault) => html`<${Fault} key=${fault.id} fault=${fault} />`)}</ul>
        ${faults?.length > 0 && html`
          <button class="small" onClick=${() => change('All faults are off', ['faults'], 'DELETE', 'faults')}>
            All faults off
          </button>`}
      <//>
      <div class="buttons" role="group" aria-label="Common faults">
        ${Object.entries(READY).map(([name, fault]) => html`
          <button class="small" key=${name} onClick=${() => add(fault)}>${name}</button>`)}
      </div>
      <${NewFault} />
    <//>`;
}

function Fault({fault}) {
  const {id, name, acted, left} = fault;
  const called = name || `fault ${id}`;
  const remove = () => change(`${called} is off`, ['faults'], 'DELETE', `faults/${id}`);
  return html`
    <li>
      <div>
        <strong class="break">${called}</strong>
        <p class="quiet break">${described(fault)}</p>
        <p class="quiet">acted ${acted}×, ${left === null ? 'until it is off' : `${left} left`}</p>
      </div>
      <button class="small" aria-label=${`Switch off ${called}, fault ${id}`} onClick=${remove}>Off</button>
    </li>`;
}

/** The operations that rules are about, and the handshake of the events. */
function operations() {
  const named = new Set(state.rules.data?.map(({operation}) => operation));
  named.delete('*'); // of the rules about all of them
  return [...named, 'events'];
}

/** What a fault does and to whom. */
function described(fault) {
  const {operation, identity, call, probability, delay, status, error, code, drop, after, body} = fault;
  return [
    status && `answers ${status}`, error && `“${error}”`, code,
    fault.retry_after != null && `Retry-After ${fault.retry_after}`,
    drop && 'drops the connection', body && `spoils the body: ${body}`, after && 'after acting',
    delay && `delays ${[delay].flat().join(' to ')} s`,
    probability != null && probability < 1 && `${Math.round(probability * 100)} %`,
    operation, identity, call && `call ${call}`,
  ].filter(Boolean).join(', ');
}

function NewFault() {
  const [effect, setEffect] = useState('status');
  const send = (event) => {
    event.preventDefault();
    const fault = filled(event.target);
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
      <summary>Another fault</summary>
      <form class="fields" onSubmit=${send}>
        <${Field} label="What happens" wide>
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
        <${Field} label="Percent"><input name="percent" type="number" min="1" max="100" placeholder="100" /><//>
        <${Field} label="Of call"><input name="call" placeholder="any" /><//>
        <${Field} label="Operation" wide>
          <select name="operation">
            <option value="">any</option>
            ${operations().map((name) => html`<option value=${name}>${name}</option>`)}
          </select>
        <//>
        <${Field} label="Of person" wide>
          <select name="identity">
            <option value="">anybody</option>
            ${state.identities.data?.map(({email}) => html`<option value=${email}>${email}</option>`)}
          </select>
        <//>
        ${(effect === 'status' || effect === 'drop') && html`
          <label class="check wide">
            <input type="checkbox" name="after" value="true" /> After the request was acted on
          </label>`}
        <button class="wide main">Switch the fault on</button>
      </form>
    </details>`;
}
