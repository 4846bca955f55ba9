/** The events of the person picked, as they come. */

import {html, useEffect} from './vendor/htm-preact.module.js';
import {followEvents} from './live.js';
import {change, look} from './loading.js';
import {Body, Panel, short} from './parts.js';
import {set, state, token} from './state.js';
import {Time, exactTime, moment} from './time.js';

export function Events() {
  const {events, eventsLink, person} = state;
  useEffect(() => (person ? followEvents() : undefined), [person, state.tokens[person], token() === null]);
  return html`
    <${Panel} id="events" title="Events" note=${html`<${Link} of=${eventsLink} on="connected" />`}>
      <p class="hidden" role="status">${events[0] && `Event: ${told(events[0])}`}</p>
      ${events.length === 0
        ? html`<p class="empty">Nothing happened to the calls of ${person ?? 'anybody'} since this page listens</p>`
        : html`<ol class="log">${events.map((event) => html`<${Event} key=${event.id} event=${event} />`)}</ol>`}
      <div class="buttons">
        ${events.length > 0 && html`
          <button class="small" onClick=${() => set({events: []})}>Clear the events</button>`}
        <button
          class="small" title="Closes everybody's event connections, to try what clients do then"
          onClick=${disconnect}
        >Disconnect everybody</button>
      </div>
    <//>`;
}

const disconnect = () => change(
  ({closed}) => `${closed} connections are closed`, [], 'POST', 'events/disconnect', {code: 1012},
);

const whom = ({call, participant}) => `call ${call.id}${participant ? `, ${participant.role}` : ''}`;
const told = ({type, data}) => `${type}, ${whom(data)}`;

function Event({event}) {
  const {id, type, created_at: at, data} = event;
  return html`
    <li>
      <details>
        <summary>
          <${Time} at=${at} write=${(when) => moment(when, exactTime)} />
          <strong>${type}</strong>
          <span>${whom(data)}</span>
        </summary>
        <p class="bar-of-buttons">
          <span class="quiet">Event ${id}</span>
          <button
            class="small" aria-label=${`Look at call ${data.call.id} of event ${id}`}
            onClick=${() => look(data.call.id)}
          >Look at call ${short(data.call.id)}</button>
        </p>
        <${Body} text=${JSON.stringify(event)} label=${`Event ${id}`} />
      </details>
    </li>`;
}

/** How a connection does, by word, sign and colour. */
export function Link({of, on}) {
  const words = {on, off: 'not connected', waiting: 'connecting…'}[of.state];
  return html`
    <span class=${`link ${of.state}`} role="status">
      <span aria-hidden="true">${{on: '●', off: '○', waiting: '◌'}[of.state]}</span> <span>${words}</span>
      ${of.detail && html`<span class="quiet">: ${of.detail}</span>`}
    </span>`;
}
