/** The calls of the person picked, in time and as a table, and scheduling another. */

import {html, useEffect, useState} from './vendor/htm-preact.module.js';
import {act, title} from './acting.js';
import {change, load, look, refresh} from './loading.js';
import {Dialog, Field, Loaded, Panel, Status, filled, short} from './parts.js';
import {person, set, state} from './state.js';
import {Timeline} from './timeline.js';
import {DAY, MINUTE, Time, away, duration, inputTime, inputValue, serverNow, useNow} from './time.js';

export function Calls() {
  const calls = state.calls.data;
  useEffect(refreshAtNextOpening, [calls, state.clock.data]);
  const showAll = ({target}) => {
    set({everyone: target.checked});
    load('calls');
  };
  return html`
    <${Panel} id="calls" title="Calls" note=${calls && counted(calls)} open>
      <div class="bar-of-buttons">
        <button class="main" onClick=${() => set({dialog: 'schedule'})}>Schedule a call</button>
        <label class="check">
          <input type="checkbox" checked=${state.everyone} onChange=${showAll} /> Calls of everyone
        </label>
      </div>
      <${Loaded} of="calls">
        ${calls?.length === 0 ? html`<${Empty} />` : html`<${Timeline} /><${Table} />`}
      <//>
      ${state.dialog === 'schedule' && html`<${Schedule} />`}
    <//>`;
}

/** Ask the server again when the next join window opens: it then allows other actions. */
function refreshAtNextOpening() {
  const now = serverNow();
  const openings = (state.calls.data ?? []).map((one) => Date.parse(one.join_opens_at) - now);
  const next = Math.min(...openings.filter((wait) => wait > 0));
  if (!state.clock.data?.running || next > DAY) return undefined;
  const timer = setTimeout(refresh, next + 50);
  return () => clearTimeout(timer);
}

const counted = (calls) => (calls.length >= 500 ? 'the newest 500' : calls.length);

function Empty() {
  return html`
    <p class="empty">
      ${state.everyone ? 'There are' : 'This person has'} no calls yet. Schedule one, or${' '}
      <button class="small" onClick=${() => seedCalls(20)}>add 20 example calls</button>
    </p>`;
}

export const seedCalls = (count) => change(
  (added) => `${added.count} example calls are added`, ['calls', 'verdicts'], 'POST', 'state/calls', {count},
);

function Table() {
  return html`
    <div class="table" role="region" aria-label="Table of calls" tabindex="0">
      <table>
        <caption class="hidden">Calls, latest first</caption>
        <thead>
          <tr>
            <th scope="col">Call</th><th scope="col">Scheduled</th><th scope="col">Doctor and patient</th>
            <th scope="col">Status</th><th scope="col">Actions</th>
          </tr>
        </thead>
        <tbody>${state.calls.data.map((one) => html`<${Row} key=${one.id} one=${one} />`)}</tbody>
      </table>
    </div>`;
}

function Row({one}) {
  const picked = one.id === state.call;
  return html`
    <tr class=${picked ? 'picked' : ''}>
      <th scope="row">
        <button
          class="small" aria-pressed=${picked} aria-label=${`Call ${one.id}`} title=${one.id}
          onClick=${() => look(picked ? null : one.id)}
        >${short(one.id)}</button>
      </th>
      <td><${Time} at=${one.scheduled_time} /></td>
      <td>
        <div class="break">${one.doctor_details.user.full_name}</div>
        <div class="quiet break">with ${one.patient_details.user.full_name}</div>
      </td>
      <td><${Status} of=${one.status} /><div class="quiet"><${Now} one=${one} /></div></td>
      <td>
        <div class="buttons">
          ${one.allowed.map((operation) => html`
            <button
              class="small" key=${operation} aria-label=${`${title(operation)} call ${one.id}`}
              onClick=${() => { look(one.id); act(operation, one.id); }}
            >${title(operation)}</button>`)}
        </div>
      </td>
    </tr>`;
}

/** What a call's times mean at this moment. */
export function Now({one}) {
  const now = useNow();
  const started = Date.parse(one.started_at);
  if (one.status === 'completed') return html`lasted ${duration(Date.parse(one.ended_at) - started)}`;
  if (one.status === 'cancelled') return null;
  if (one.status === 'ongoing') {
    const present = one.present.length ? `, ${one.present.join(' and ')} present` : '';
    return html`for ${duration(now - started)}${present}`;
  }
  const opens = Date.parse(one.join_opens_at);
  if (now < opens) return html`join opens ${away(opens - now)}`;
  return one.allowed.includes('join') ? html`<strong>join is open</strong>` : null;
}

/** The form of a new call, by the person picked. */
function Schedule() {
  const people = state.identities.data;
  const [time, setTime] = useState(() => inputValue(nextFull(20)));
  const [refused, setRefused] = useState(null);
  const send = async (event, close) => {
    event.preventDefault();
    const {doctor, patient} = filled(event.target);
    const idOf = (role, text) => people.find((one) => String(one[role]?.id) === text)[role].id; // a number, or a text
    const body = {doctor: idOf('doctor', doctor), patient: idOf('patient', patient), scheduled_time: inputTime(time)};
    const answer = await act('create', undefined, body);
    if (answer.status === 201) close();
    else setRefused(answer.json?.error ?? answer.failure ?? `The server answered ${answer.status}`);
  };
  const options = (role) => {
    const able = people.filter((one) => one[role]);
    const first = able.includes(person()) ? person() : able[0];
    return able.map((one) => html`
      <option value=${one[role].id} selected=${one === first}>
        ${short(one[role].id)}: ${one.full_name || one.email}${one.active ? '' : ' (inactive)'}
      </option>`);
  };
  return html`
    <${Dialog} title="Schedule a call">
      ${(close) => html`
        <form onSubmit=${(event) => send(event, close)}>
          <p class="quiet break">As ${state.person}</p>
          <div class="fields">
            <${Field} label="Doctor" wide><select name="doctor" required>${options('doctor')}</select><//>
            <${Field} label="Patient" wide><select name="patient" required>${options('patient')}</select><//>
            <${Field} label="Time, in your zone" wide>
              <input type="datetime-local" value=${time} onInput=${({target}) => setTime(target.value)} required />
            <//>
          </div>
          <div class="buttons" role="group" aria-label="Time from now">
            ${[5, 20, 60, 24 * 60].map((minutes) => html`
              <button type="button" class="small" onClick=${() => setTime(inputValue(nextFull(minutes)))}>
                ${away(minutes * MINUTE)}
              </button>`)}
          </div>
          ${refused && html`<p class="failed" role="alert">${refused}</p>`}
          <div class="buttons">
            <button class="main">Schedule</button>
            <button type="button" onClick=${close}>Do not schedule</button>
          </div>
        </form>`}
    <//>`;
}

/** The first whole minute that is so many minutes ahead. */
const nextFull = (minutes) => Math.ceil((serverNow() + minutes * MINUTE) / MINUTE) * MINUTE;
