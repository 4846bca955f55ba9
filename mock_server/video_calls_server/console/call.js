/** The call picked: what each rule would say now, the operations, and who is in the channel. */

import {html} from './vendor/htm-preact.module.js';
import {act, title} from './acting.js';
import {Now} from './calls.js';
import {change} from './loading.js';
import {Copy, Facts, Loaded, Panel, Rule, Status} from './parts.js';
import {call, state} from './state.js';
import {Time} from './time.js';

export function Call() {
  const one = call();
  if (!one) {
    return html`
      <${Panel} id="call" title="Call">
        <p class="empty">Choose a call to see what each rule would say about it now.</p>
      <//>`;
  }
  const note = html`<${Status} of=${one.status} /> <${Now} one=${one} />`;
  return html`
    <${Panel} id="call" title=${`Call ${one.id}`} note=${note} open>
      <${Record} one=${one} />
      <${Participants} one=${one} />
      <h3>What each rule would say now</h3>
      <${Loaded} of="verdicts"><${Verdicts} one=${one} /><//>
    <//>`;
}

/** What is kept of a call. */
function Record({one}) {
  const facts = {
    Scheduled: html`<${Time} at=${one.scheduled_time} />`,
    Started: one.started_at && html`<${Time} at=${one.started_at} />`,
    Ended: one.ended_at && html`<${Time} at=${one.ended_at} />`,
    Doctor: one.doctor_details.user.full_name,
    Patient: one.patient_details.user.full_name,
    Channel: html`<code>${one.channel_name}</code> <${Copy} text=${one.channel_name} what="the channel's name" />`,
  };
  return html`<${Facts} of=${facts} wide=${['Channel']} />`;
}

/** Who is in the channel, as Agora's notifications would tell. */
function Participants({one}) {
  const put = (role, present) => change(
    `The ${role} of call ${one.id} ${present ? 'is in' : 'is out of'} the channel`, ['calls', 'verdicts'],
    'PUT', `calls/${one.id}/participants/${role}`, {present},
  );
  return html`
    <fieldset class="present">
      <legend>In the channel, as Agora would notify</legend>
      ${['doctor', 'patient'].map((role) => html`
        <label class="check" key=${role}>
          <input
            type="checkbox" checked=${one.present.includes(role)}
            onClick=${(event) => { event.preventDefault(); put(role, !one.present.includes(role)); }}
          />
          ${role}
        </label>`)}
    </fieldset>`;
}

function Verdicts({one}) {
  return html`<ul class="verdicts">${state.verdicts.data?.actions.map((verdict) => html`
    <${Verdict} key=${verdict.action} verdict=${verdict} id=${one.id} />`)}</ul>`;
}

function Verdict({verdict, id}) {
  const {action, allowed, refused_by: refusedBy, error, rules} = verdict;
  return html`
    <li>
      <button aria-label=${`${title(action)} call ${id} now`} onClick=${() => act(action, id)}>
        ${title(action)}
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
              <span class=${rule.refuses ? 'bad' : 'good'}>${rule.refuses ? '✕ refuses' : '✓ holds'}</span>
              <${Rule} id=${rule.id} />
            </li>`)}
          ${rules.length === 0 && html`<li class="quiet">No rule is about this.</li>`}
        </ul>
      </details>
    </li>`;
}
