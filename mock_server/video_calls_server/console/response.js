/** The panel with the response to the last operation. */

import {html, useEffect, useRef} from './vendor/htm-preact.module.js';
import {Body, Copy, Facts, Panel, Rule} from './components.js';
import {set, state} from './page-state.js';
import {Time} from './time.js';

export function ResponsePanel() {
  const {response} = state;
  const status = useRef(null);
  useEffect(() => { // on a small screen, the panel may be out of view
    if (response && !response.pending) status.current.scrollIntoView({block: 'nearest'});
  }, [response?.pending, response?.requestId]);
  return html`
    <${Panel} id="response" title="Response" note=${response?.title} open>
      <div role="status" ref=${status}>
        ${response
          ? html`<${Outcome} response=${response} />`
          : html`<p class="empty">No response yet. Schedule, join, end or cancel a call.</p>`}
      </div>
      ${response && !response.pending && html`<${Details} response=${response} />`}
    <//>`;
}

function Outcome({response}) {
  const {pending, failure, status, reason, json, ms} = response;
  if (pending) return html`<p class="quiet">${response.title}: waiting…</p>`;
  if (failure) return html`<p class="outcome bad"><strong>No response</strong> ${failure}</p>`;
  const good = status < 400;
  return html`
    <p class=${good ? 'outcome good' : 'outcome bad'}>
      <strong>${status} ${reason}</strong> ${good ? `${response.title}: done` : json?.error}
      ${' '}<span class="quiet">${Math.round(ms)} ms</span>
    </p>`;
}

function Details({response}) {
  const exchange = response.requestId && state.requests.find((each) => each.request_id === response.requestId);
  return html`
    <p class="quiet break">${response.method} /api/v1/video/${response.path} as ${response.email}</p>
    ${response.fault && html`<p class="bad">Fault: ${response.fault}</p>`}
    <${Rule} id=${response.json?.code} />
    ${response.decoded && html`<${Credentials} response=${response} />`}
    ${response.text !== undefined && html`<${Body} text=${response.text} label="Body of the response" />`}
    ${exchange && html`
      <button class="small" onClick=${() => set({requestToOpen: exchange.id})}>Show in the request log</button>`}`;
}

/** The decoded Agora token of a join, and the link to the meeting page. */
function Credentials({response}) {
  const {decoded, json} = response;
  if (decoded.error) return html`<p class="failed">Cannot decode the token: ${decoded.error}</p>`;
  const facts = {
    Version: decoded.version,
    'App id': decoded.app_id,
    Channel: decoded.channel_name ?? json.channel_name,
    Uid: decoded.uid ?? json.uid,
    Issued: decoded.issued_at && html`<${Time} at=${decoded.issued_at} />`,
    Expires: decoded.expires_at && html`<${Time} at=${decoded.expires_at} />`,
    Signature: decoded.signature_valid ? '✓ valid for this channel and uid' : '✕ not valid for this server',
    Privileges: html`<ul class="plain">${Object.entries(decoded.privileges).map(([name, until]) => html`
      <li key=${name}>${name} until <${Time} at=${until} /></li>`)}</ul>`,
  };
  return html`
    <h3>Decoded Agora token</h3>
    <${Facts} of=${facts} wide=${['App id', 'Channel', 'Signature', 'Privileges']} />
    <div class="buttons">
      <${Copy} text=${json.token} what="the Agora token">Copy the Agora token<//>
      <button class="small" onClick=${() => openMeeting(json)}>Open the meeting page</button>
    </div>`;
}

/** Open the meeting page. Its tab starts with a copy of this tab's session storage, which has the credentials. */
function openMeeting({channel_name, token, uid, app_id, expiration_time}) {
  const {agora, app_id: configured} = state.server.data;
  const credentials = {channel_name, token, uid, app_id: app_id ?? configured, expiration_time, agora};
  sessionStorage.setItem('video-calls-meeting', JSON.stringify(credentials));
  window.open('_console/meeting.html');
  sessionStorage.removeItem('video-calls-meeting');
}
