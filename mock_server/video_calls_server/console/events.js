/** The panel with the events of the selected user. */

import {html, useEffect} from './vendor/htm-preact.module.js';
import {Body, Panel, shortId} from './components.js';
import {set, state, token} from './page-state.js';
import {callControl, selectCall} from './server-data.js';
import {streamEvents} from './streams.js';
import {Time, exactTime, formatMoment} from './time.js';

export function Events() {
  const {events, eventsStatus, user} = state;
  useEffect(() => (user ? streamEvents() : undefined), [user, state.tokens[user], token() === null]);
  return html`
    <${Panel} id="events" title="Events" note=${html`<${ConnectionStatus} of=${eventsStatus} on="connected" />`}>
      <p class="hidden" role="status">${events[0] && `Event: ${eventText(events[0])}`}</p>
      ${events.length === 0
        ? html`<p class="empty">No events yet. Events of ${user ?? 'the selected user'}'s calls appear here.</p>`
        : html`<ol class="log">${events.map((event) => html`<${Event} key=${event.id} event=${event} />`)}</ol>`}
      <div class="buttons">
        ${events.length > 0 && html`
          <button class="small" onClick=${() => set({events: []})}>Clear events</button>`}
        <button
          class="small" title="Closes the event connections of all users, to test how clients reconnect"
          onClick=${disconnect}
        >Disconnect all clients</button>
      </div>
    <//>`;
}

const disconnect = () => callControl(
  ({closed}) => `Closed ${closed} connections`, [], 'POST', 'events/disconnect', {code: 1012},
);

const subject = ({call, participant}) => `call ${call.id}${participant ? `, ${participant.role}` : ''}`;
const eventText = ({type, data}) => `${type}, ${subject(data)}`;

function Event({event}) {
  const {id, type, created_at: at, data} = event;
  return html`
    <li>
      <details>
        <summary>
          <${Time} at=${at} write=${(when) => formatMoment(when, exactTime)} />
          <strong>${type}</strong>
          <span>${subject(data)}</span>
        </summary>
        <p class="bar-of-buttons">
          <span class="quiet">Event ${id}</span>
          <button
            class="small" aria-label=${`Select call ${data.call.id} of event ${id}`}
            onClick=${() => selectCall(data.call.id)}
          >Select call ${shortId(data.call.id)}</button>
        </p>
        <${Body} text=${JSON.stringify(event)} label=${`Event ${id}`} />
      </details>
    </li>`;
}

/** The state of a connection, by word, sign and colour. */
export function ConnectionStatus({of, on}) {
  const words = {on, off: 'not connected', waiting: 'connecting…'}[of.state];
  return html`
    <span class=${`link ${of.state}`} role="status">
      <span aria-hidden="true">${{on: '●', off: '○', waiting: '◌'}[of.state]}</span> <span>${words}</span>
      ${of.detail && html`<span class="quiet">: ${of.detail}</span>`}
    </span>`;
}
