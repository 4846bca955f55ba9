/** The requests of everybody, as they come, each opened to all that is known of it. */

import {html, useEffect, useRef, useState} from './vendor/htm-preact.module.js';
import {Link} from './events.js';
import {followRequests} from './live.js';
import {change} from './loading.js';
import {Body, Copy, Field, Panel, Rule} from './parts.js';
import {set, state} from './state.js';
import {Time, exactTime, moment} from './time.js';

export function Requests() {
  const [wanted, setWanted] = useState('');
  useEffect(followRequests, []);
  useEffect(() => { // the request to open may be one that the filter hides
    if (state.opened !== null) setWanted('');
  }, [state.opened]);
  const shown = state.requests.filter((exchange) => matches(exchange, wanted));
  const clear = async () => {
    if (await change('The log of requests is empty', [], 'DELETE', 'requests')) set({requests: []});
  };
  const why = state.requests.length
    ? 'No request is like that.'
    : 'No requests yet. Send one, from here or from your frontend.';
  return html`
    <${Panel} id="requests" title="Requests" note=${html`<${Link} of=${state.requestsLink} on="following" />`}>
      <${Field} label="Show only those with">
        <input type="search" value=${wanted} placeholder="status, operation, e-mail, rule, path…"
          onInput=${({target}) => setWanted(target.value)} />
      <//>
      ${shown.length === 0 && html`<p class="empty">${why}</p>`}
      <ol class="log">${shown.map((exchange) => html`<${Exchange} key=${exchange.id} exchange=${exchange} />`)}</ol>
      ${state.requests.length > 0 && html`<button class="small" onClick=${clear}>Clear the requests</button>`}
    <//>`;
}

/** Whether each word occurs in what the log's line shows. */
function matches({status, operation, identity, rule, method, path, fault}, wanted) {
  const line = [status ?? 'dropped', operation, identity, rule?.id, method, path, fault].join(' ').toLowerCase();
  return wanted.toLowerCase().split(/\s+/).every((word) => line.includes(word));
}

function Exchange({exchange}) {
  const {id, at, method, path, status, identity, rule} = exchange;
  const [open, setOpen] = useState(false);
  const line = useRef(null);
  useEffect(() => {
    if (state.opened !== id) return;
    setOpen(true);
    set({opened: null});
    line.current.closest('.panel > details').open = true;
    line.current.scrollIntoView({block: 'nearest'});
    line.current.focus();
  }, [state.opened === id]);
  return html`
    <li>
      <details open=${open} onToggle=${({currentTarget}) => setOpen(currentTarget.open)}>
        <summary ref=${line}>
          <${Time} at=${at} write=${(when) => moment(when, exactTime)} />
          <strong class=${status === null || status >= 400 ? 'bad' : 'good'}>${status ?? 'dropped'}</strong>
          <span class="break">${method} ${shortened(path)}</span>
          <span class="quiet break">${identity ?? 'nobody'}${rule && html` · ${rule.id}`}</span>
        </summary>
        ${open && html`<${Opened} exchange=${exchange} />`}
      </details>
    </li>`;
}

const shortened = (path) => path.replace(/^.*\/api\/v1\/video\//, '…/');

function Opened({exchange}) {
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
