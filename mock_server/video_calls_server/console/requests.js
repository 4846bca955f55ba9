/** The panel with the request log of all users. */

import {html, useEffect, useRef, useState} from './vendor/htm-preact.module.js';
import {Body, Copy, Field, Panel, Rule} from './components.js';
import {ConnectionStatus} from './events.js';
import {set, state} from './page-state.js';
import {callControl} from './server-data.js';
import {streamRequests} from './streams.js';
import {Time, exactTime, formatMoment} from './time.js';

export function Requests() {
  const [filter, setFilter] = useState('');
  useEffect(streamRequests, []);
  useEffect(() => { // the filter may hide the request to open
    if (state.requestToOpen !== null) setFilter('');
  }, [state.requestToOpen]);
  const matching = state.requests.filter((exchange) => matches(exchange, filter));
  const clear = async () => {
    if (await callControl('Cleared the request log', [], 'DELETE', 'requests')) set({requests: []});
  };
  const emptyText = state.requests.length
    ? 'No request matches the filter.'
    : 'No requests yet. Send one, from here or from your frontend.';
  return html`
    <${Panel} id="requests" title="Requests" note=${html`<${ConnectionStatus} of=${state.requestsStatus} on="following" />`}>
      <${Field} label="Filter">
        <input type="search" value=${filter} placeholder="status, operation, e-mail, rule, path…"
          onInput=${({target}) => setFilter(target.value)} />
      <//>
      ${matching.length === 0 && html`<p class="empty">${emptyText}</p>`}
      <ol class="log">${matching.map((exchange) => html`<${Exchange} key=${exchange.id} exchange=${exchange} />`)}</ol>
      ${state.requests.length > 0 && html`<button class="small" onClick=${clear}>Clear requests</button>`}
    <//>`;
}

/** Return whether each word of the filter occurs in the line of the log. */
function matches({status, operation, identity, rule, method, path, fault}, filter) {
  const line = [status ?? 'dropped', operation, identity, rule?.id, method, path, fault].join(' ').toLowerCase();
  return filter.toLowerCase().split(/\s+/).every((word) => line.includes(word));
}

function Exchange({exchange}) {
  const {id, at, method, path, status, identity, rule} = exchange;
  const [open, setOpen] = useState(false);
  const line = useRef(null);
  useEffect(() => {
    if (state.requestToOpen !== id) return;
    setOpen(true);
    set({requestToOpen: null});
    line.current.closest('.panel > details').open = true;
    line.current.scrollIntoView({block: 'nearest'});
    line.current.focus();
  }, [state.requestToOpen === id]);
  return html`
    <li>
      <details open=${open} onToggle=${({currentTarget}) => setOpen(currentTarget.open)}>
        <summary ref=${line}>
          <${Time} at=${at} write=${(when) => formatMoment(when, exactTime)} />
          <strong class=${status === null || status >= 400 ? 'bad' : 'good'}>${status ?? 'dropped'}</strong>
          <span class="break">${method} ${shortPath(path)}</span>
          <span class="quiet break">${identity ?? 'no user'}${rule && html` · ${rule.id}`}</span>
        </summary>
        ${open && html`<${ExchangeDetails} exchange=${exchange} />`}
      </details>
    </li>`;
}

const shortPath = (path) => path.replace(/^.*\/api\/v1\/video\//, '…/');

function ExchangeDetails({exchange}) {
  const {id, operation, duration_ms: ms, request_id: requestId, fault, method, path} = exchange;
  const {rule, request, response, curl} = exchange;
  return html`
    <p class="quiet break">
      ${operation ?? 'no operation'}, ${ms} ms, request ${requestId}
      ${fault && html`, <span class="bad">fault: ${fault}</span>`}
    </p>
    <p class="break"><code>${method} ${path}</code></p>
    ${rule && html`<${Rule} id=${rule} />`}
    <h3>Request</h3>
    <${Headers} of=${request.headers} />
    <${Body} text=${request.body} label=${`Body of request ${id}`} />
    <h3>Response</h3>
    <${Headers} of=${response?.headers ?? []} />
    <${Body} text=${response?.body} label=${`Body of response ${id}`} />
    <h3>curl</h3>
    <pre tabindex="0" role="region" aria-label=${`curl of request ${id}`}>${curl}</pre>
    <${Copy} text=${curl} what=${`curl of request ${id}`}>Copy curl<//>`;
}

function Headers({of}) {
  return html`
    <details>
      <summary class="quiet">${of.length} headers</summary>
      <dl class="headers">${of.map(([name, value]) => html`
        <div><dt>${name}</dt><dd class="break">${value}</dd></div>`)}</dl>
    </details>`;
}
