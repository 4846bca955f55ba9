/** What the API answered to the last thing that the person picked did. */

import {html, useEffect, useRef} from './vendor/htm-preact.module.js';
import {Body, Copy, Facts, Panel, Rule} from './parts.js';
import {set, state} from './state.js';
import {Time} from './time.js';

export function Answer() {
  const {answer} = state;
  const shown = useRef(null);
  useEffect(() => { // where the page is longer than the screen, the answer is not beside the button
    if (answer && !answer.pending) shown.current.scrollIntoView({block: 'nearest'});
  }, [answer?.pending, answer?.requestId]);
  return html`
    <${Panel} id="answer" title="The server's answer" note=${answer?.title} open>
      <div role="status" ref=${shown}>
        ${answer
          ? html`<${Outcome} answer=${answer} />`
          : html`<p class="empty">Schedule, join, end or cancel a call.</p>`}
      </div>
      ${answer && !answer.pending && html`<${Details} answer=${answer} />`}
    <//>`;
}

function Outcome({answer}) {
  const {pending, failure, status, reason, json, ms} = answer;
  if (pending) return html`<p class="quiet">${answer.title}: waiting for the answer…</p>`;
  if (failure) return html`<p class="outcome bad"><strong>No answer</strong> ${failure}</p>`;
  const good = status < 400;
  return html`
    <p class=${good ? 'outcome good' : 'outcome bad'}>
      <strong>${status} ${reason}</strong> ${good ? `${answer.title}: done` : json?.error}
      ${' '}<span class="quiet">${Math.round(ms)} ms</span>
    </p>`;
}

function Details({answer}) {
  const exchange = answer.requestId && state.requests.find((one) => one.request_id === answer.requestId);
  return html`
    <p class="quiet break">${answer.method} /api/v1/video/${answer.path} as ${answer.email}</p>
    ${answer.fault && html`<p class="bad">Spoiled by a fault: ${answer.fault}</p>`}
    <${Rule} id=${answer.json?.code} />
    ${answer.decoded && html`<${Credentials} answer=${answer} />`}
    ${answer.text !== undefined && html`<${Body} text=${answer.text} label="Body of the answer" />`}
    ${exchange && html`
      <button class="small" onClick=${() => set({opened: exchange.id})}>Show it among the requests</button>`}`;
}

/** The Agora token that a join gave, decoded, and the way to a page that uses it. */
function Credentials({answer}) {
  const {decoded, json} = answer;
  if (decoded.error) return html`<p class="failed">The token cannot be decoded: ${decoded.error}</p>`;
  const facts = {
    Version: decoded.version,
    'App id': decoded.app_id,
    Channel: decoded.channel_name ?? json.channel_name,
    Uid: decoded.uid ?? json.uid,
    Issued: decoded.issued_at && html`<${Time} at=${decoded.issued_at} />`,
    Expires: decoded.expires_at && html`<${Time} at=${decoded.expires_at} />`,
    Signature: decoded.signature_valid ? '✓ valid for this channel and uid' : '✕ not of this server',
    Privileges: html`<ul class="plain">${Object.entries(decoded.privileges).map(([name, until]) => html`
      <li key=${name}>${name} until <${Time} at=${until} /></li>`)}</ul>`,
  };
  return html`
    <h3>The Agora token, decoded</h3>
    <${Facts} of=${facts} wide=${['App id', 'Channel', 'Signature', 'Privileges']} />
    <div class="buttons">
      <${Copy} text=${json.token} what="the Agora token">Copy the Agora token<//>
      <button class="small" onClick=${() => openMeeting(json)}>Open the meeting page</button>
    </div>`;
}

/** The new tab begins with a copy of this tab's session storage: that is how it gets the credentials. */
function openMeeting({channel_name, token, uid, app_id, expiration_time}) {
  const {agora, app_id: configured} = state.server.data;
  const credentials = {channel_name, token, uid, app_id: app_id ?? configured, expiration_time, agora};
  sessionStorage.setItem('video-calls-meeting', JSON.stringify(credentials));
  window.open('_console/meeting.html');
  sessionStorage.removeItem('video-calls-meeting');
}
