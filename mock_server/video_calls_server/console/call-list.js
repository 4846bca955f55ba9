/** The panel of calls: a timeline, a table, and the form of a new call. */

import {html, useEffect, useState} from './vendor/htm-preact.module.js';
import {Dialog, Field, Loaded, Panel, Status, formValues, shortId} from './components.js';
import {operationTitle, runOperation} from './operations.js';
import {selectedUser, set, state} from './page-state.js';
import {callControl, load, refresh, selectCall} from './server-data.js';
import {DAY, MINUTE, Time, duration, inputTime, inputValue, relativeTime, serverNow, useNow} from './time.js';
import {Timeline} from './timeline.js';

export function CallList() {
  const calls = state.calls.data;
  useEffect(refreshAtNextOpening, [calls, state.clock.data]);
  const showAll = ({target}) => {
    set({allUsers: target.checked});
    load('calls');
  };
  return html`
    <${Panel} id="calls" title="Calls" note=${calls && countText(calls)} open>
      <div class="bar-of-buttons">
        <button class="main" onClick=${() => set({dialog: 'schedule'})}>Schedule a call</button>
        <label class="check">
          <input type="checkbox" checked=${state.allUsers} onChange=${showAll} /> Calls of all users
        </label>
      </div>
      <${Loaded} of="calls">
        ${calls?.length === 0 ? html`<${Empty} />` : html`<${Timeline} /><${Table} />`}
      <//>
      ${state.dialog === 'schedule' && html`<${Schedule} />`}
    <//>`;
}

/** Refresh when the next join window opens, because other actions are allowed then. */
function refreshAtNextOpening() {
  const now = serverNow();
  const openings = (state.calls.data ?? []).map((call) => Date.parse(call.join_opens_at) - now);
  const next = Math.min(...openings.filter((wait) => wait > 0));
  if (!state.clock.data?.running || next > DAY) return undefined;
  const timer = setTimeout(refresh, next + 50);
  return () => clearTimeout(timer);
}

const countText = (calls) => (calls.length >= 500 ? 'latest 500' : calls.length);

function Empty() {
  return html`
    <p class="empty">
      ${state.allUsers ? 'No calls yet.' : 'This user has no calls yet.'} Schedule one, or${' '}
      <button class="small" onClick=${() => addSampleCalls(20)}>add 20 sample calls</button>
    </p>`;
}

export const addSampleCalls = (count) => callControl(
  ({count: added}) => `Added ${added} sample calls`, ['calls', 'verdicts'], 'POST', 'state/calls', {count},
);

function Table() {
  return html`
    <div class="table" role="region" aria-label="Table of calls" tabindex="0">
      <table>
        <caption class="hidden">Calls, latest first</caption>
        <thead>
          <tr>
            <th scope="col">Call</th><th scope="col">Scheduled</th><th scope="col">Participants</th>
            <th scope="col">Status</th><th scope="col">Actions</th>
          </tr>
        </thead>
        <tbody>${state.calls.data.map((call) => html`<${Row} key=${call.id} call=${call} />`)}</tbody>
      </table>
    </div>`;
}

function Row({call}) {
  const selected = call.id === state.callId;
  return html`
    <tr class=${selected ? 'selected' : ''}>
      <th scope="row">
        <button
          class="small" aria-pressed=${selected} aria-label=${`Call ${call.id}`} title=${call.id}
          onClick=${() => selectCall(selected ? null : call.id)}
        >${shortId(call.id)}</button>
      </th>
      <td><${Time} at=${call.scheduled_time} /></td>
      <td>
        <div class="break">${call.doctor_details.user.full_name}</div>
        <div class="quiet break">with ${call.patient_details.user.full_name}</div>
      </td>
      <td><${Status} of=${call.status} /><div class="quiet"><${TimeInfo} call=${call} /></div></td>
      <td>
        <div class="buttons">
          ${call.allowed.map((operation) => html`
            <button
              class="small" key=${operation} aria-label=${`${operationTitle(operation)} call ${call.id}`}
              onClick=${() => { selectCall(call.id); runOperation(operation, call.id); }}
            >${operationTitle(operation)}</button>`)}
        </div>
      </td>
    </tr>`;
}

/** How long a call lasts or has lasted, or when it can be joined. */
export function TimeInfo({call}) {
  const now = useNow();
  const started = Date.parse(call.started_at);
  if (call.status === 'completed') return html`lasted ${duration(Date.parse(call.ended_at) - started)}`;
  if (call.status === 'cancelled') return null;
  if (call.status === 'ongoing') {
    const present = call.present.length ? `, ${call.present.join(' and ')} present` : '';
    return html`for ${duration(now - started)}${present}`;
  }
  const opens = Date.parse(call.join_opens_at);
  if (now < opens) return html`join opens ${relativeTime(opens - now)}`;
  return call.allowed.includes('join') ? html`<strong>join is open</strong>` : null;
}

/** The form of a new call of the selected user. */
function Schedule() {
  const users = state.identities.data;
  const [time, setTime] = useState(() => inputValue(nextMinute(20)));
  const [error, setError] = useState(null);
  const send = async (event, close) => {
    event.preventDefault();
    const {doctor, patient} = formValues(event.target);
    const idOf = (role, text) => users.find((user) => String(user[role]?.id) === text)[role].id; // a number or a UUID
    const body = {doctor: idOf('doctor', doctor), patient: idOf('patient', patient), scheduled_time: inputTime(time)};
    const response = await runOperation('create', undefined, body);
    if (response.status === 201) close();
    else setError(response.json?.error ?? response.failure ?? `The server responded with status ${response.status}`);
  };
  const options = (role) => {
    const candidates = users.filter((user) => user[role]);
    const first = candidates.includes(selectedUser()) ? selectedUser() : candidates[0];
    return candidates.map((user) => html`
      <option value=${user[role].id} selected=${user === first}>
        ${shortId(user[role].id)}: ${user.full_name || user.email}${user.active ? '' : ' (inactive)'}
      </option>`);
  };
  return html`
    <${Dialog} title="Schedule a call">
      ${(close) => html`
        <form onSubmit=${(event) => send(event, close)}>
          <p class="quiet break">As ${state.user}</p>
          <div class="fields">
            <${Field} label="Doctor" wide><select name="doctor" required>${options('doctor')}</select><//>
            <${Field} label="Patient" wide><select name="patient" required>${options('patient')}</select><//>
            <${Field} label="Time in your time zone" wide>
              <input type="datetime-local" value=${time} onInput=${({target}) => setTime(target.value)} required />
            <//>
          </div>
          <div class="buttons" role="group" aria-label="Time from now">
            ${[5, 20, 60, 24 * 60].map((minutes) => html`
              <button type="button" class="small" onClick=${() => setTime(inputValue(nextMinute(minutes)))}>
                ${relativeTime(minutes * MINUTE)}
              </button>`)}
          </div>
          ${error && html`<p class="failed" role="alert">${error}</p>`}
          <div class="buttons">
            <button class="main">Schedule</button>
            <button type="button" onClick=${close}>Cancel</button>
          </div>
        </form>`}
    <//>`;
}

/** Return the first whole minute at least this many minutes ahead. */
const nextMinute = (minutes) => Math.ceil((serverNow() + minutes * MINUTE) / MINUTE) * MINUTE;
