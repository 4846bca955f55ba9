/** The panel of the selected call: its data, who is in its channel, and what the rules decide now. */

import {html} from './vendor/htm-preact.module.js';
import {TimeInfo} from './call-list.js';
import {Copy, Facts, Loaded, Panel, Rule, Status} from './components.js';
import {operationTitle, runOperation} from './operations.js';
import {selectedCall, state} from './page-state.js';
import {callControl} from './server-data.js';
import {Time} from './time.js';

export function CallDetails() {
  const call = selectedCall();
  if (!call) {
    return html`
      <${Panel} id="call" title="Call">
        <p class="empty">Select a call to see which actions the rules allow now.</p>
      <//>`;
  }
  const note = html`<${Status} of=${call.status} /> <${TimeInfo} call=${call} />`;
  return html`
    <${Panel} id="call" title=${`Call ${call.id}`} note=${note} open>
      <${Data} call=${call} />
      <${Participants} call=${call} />
      <h3>Allowed actions now</h3>
      <${Loaded} of="verdicts"><${Verdicts} call=${call} /><//>
    <//>`;
}

/** The data of a call. */
function Data({call}) {
  const facts = {
    Scheduled: html`<${Time} at=${call.scheduled_time} />`,
    Started: call.started_at && html`<${Time} at=${call.started_at} />`,
    Ended: call.ended_at && html`<${Time} at=${call.ended_at} />`,
    Doctor: call.doctor_details.user.full_name,
    Patient: call.patient_details.user.full_name,
    Channel: html`<code>${call.channel_name}</code> <${Copy} text=${call.channel_name} what="the channel's name" />`,
  };
  return html`<${Facts} of=${facts} wide=${['Channel']} />`;
}

/** Who is in the channel; a change has the effect of a notification of Agora. */
function Participants({call}) {
  const put = (role, present) => callControl(
    `The ${role} of call ${call.id} has ${present ? 'joined' : 'left'} the channel`, ['calls', 'verdicts'],
    'PUT', `calls/${call.id}/participants/${role}`, {present},
  );
  return html`
    <fieldset class="present">
      <legend>In the channel (simulates Agora)</legend>
      ${['doctor', 'patient'].map((role) => html`
        <label class="check" key=${role}>
          <input
            type="checkbox" checked=${call.present.includes(role)}
            onClick=${(event) => { event.preventDefault(); put(role, !call.present.includes(role)); }}
          />
          ${role}
        </label>`)}
    </fieldset>`;
}

function Verdicts({call}) {
  return html`<ul class="verdicts">${state.verdicts.data?.actions.map((verdict) => html`
    <${Verdict} key=${verdict.action} verdict=${verdict} id=${call.id} />`)}</ul>`;
}

function Verdict({verdict, id}) {
  const {action, allowed, refused_by: refusedBy, error, rules} = verdict;
  return html`
    <li>
      <button aria-label=${`${operationTitle(action)} call ${id} now`} onClick=${() => runOperation(action, id)}>
        ${operationTitle(action)}
      </button>
      <details>
        <summary>
          ${allowed
            ? html`<span class="good"><span aria-hidden="true">✓</span> allowed</span>`
            : html`
              <span class="bad"><span aria-hidden="true">✕</span> refused</span>${' '}
              <span>${error}</span> <code>${refusedBy}</code>`}
        </summary>
        <ul class="rules">
          ${rules.map((rule) => html`
            <li key=${rule.id}>
              <span class=${rule.refuses ? 'bad' : 'good'}>${rule.refuses ? '✕ refuses' : '✓ allows'}</span>
              <${Rule} id=${rule.id} />
            </li>`)}
          ${rules.length === 0 && html`<li class="quiet">No rule concerns this action.</li>`}
        </ul>
      </details>
    </li>`;
}
