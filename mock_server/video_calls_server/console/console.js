/** The console: the first page of a frontend developer. */

import {html, render, useEffect} from './vendor/htm-preact.module.js';
import {CallDetails} from './call-details.js';
import {CallList} from './call-list.js';
import {Clock} from './clock.js';
import {Dialog, Field, formValues} from './components.js';
import {Events} from './events.js';
import {Faults} from './faults.js';
import {saveKey} from './http.js';
import {Namespaces} from './namespaces.js';
import {set, state, usePageState} from './page-state.js';
import {Requests} from './requests.js';
import {ResponsePanel} from './response.js';
import {loadAll, poll} from './server-data.js';
import {Snapshots} from './snapshots.js';
import {Users} from './users.js';

function Console() {
  usePageState();
  useEffect(() => {
    loadAll();
    return poll();
  }, []);
  const {data: server, error} = state.server;
  return html`
    <a class="skip" href="#calls">Skip to the calls</a>
    <${Header} />
    <main>
      ${server ? html`<${Board} />` : html`<${Start} error=${error} />`}
    </main>
    <${Notice} />
    ${state.dialog === 'key' && html`<${KeyDialog} />`}`;
}

function Header() {
  const server = state.server.data;
  return html`
    <header>
      <div class="title">
        <h1>Video Calls console</h1>
        ${server && html`
          <p class="quiet break">
            ${server.namespace && html`namespace <strong>${server.namespace}</strong>, `}version ${server.version},
            ${server.agora === 'configured' ? ' real Agora credentials' : ' development Agora credentials'}
          </p>`}
        <nav aria-label="Documentation">
          <a href="docs/">API docs</a> <a href="_control/docs">Control docs</a> <a href="openapi.yaml">Contract</a>
        </nav>
      </div>
      ${server && html`<${Clock} />`}
    </header>`;
}

function Board() {
  return html`
    <div class="board">
      <div class="users-column"><${Users} /></div>
      <div class="calls-column"><${CallList} /><${CallDetails} /></div>
      <div class="log-column"><${ResponsePanel} /><${Events} /><${Requests} /></div>
      <div class="control-column"><${Faults} /><${Snapshots} /><${Namespaces} /></div>
    </div>`;
}

/** The page before the server has responded. */
function Start({error}) {
  if (!error) return html`<p class="loading" role="status">Connecting to the server…</p>`;
  return html`
    <div class="panel failed start" role="alert">
      <h2>The console cannot start</h2>
      <p>${error.status ? error.message : 'The server does not respond. Is it still running?'}</p>
      <div class="buttons"><button class="main" onClick=${loadAll}>Try again</button></div>
    </div>`;
}

/** The result of the last change; it disappears after a while unless it is a failure. */
function Notice() {
  const {notice} = state;
  useEffect(() => {
    if (!notice || notice.failed) return undefined;
    const timer = setTimeout(() => set({notice: null}), 4000);
    return () => clearTimeout(timer);
  }, [notice]);
  return html`
    <div class="notice" role="status">
      ${notice && html`
        <p class=${notice.failed ? 'failed' : ''}>
          <span class="break">${notice.text}</span>
          <button class="small" aria-label="Dismiss the notice" onClick=${() => set({notice: null})}>✕</button>
        </p>`}
    </div>`;
}

function KeyDialog() {
  const save = (event, close) => {
    event.preventDefault();
    saveKey(formValues(event.target).key);
    close();
    loadAll();
  };
  return html`
    <${Dialog} title="Control key">
      ${(close) => html`
        <form onSubmit=${(event) => save(event, close)}>
          <p>This server requires a control key. The page stores it until the tab is closed.</p>
          ${state.server.error && html`<p class="quiet">${state.server.error.message}</p>`}
          <${Field} label="Key"><input name="key" type="password" autocomplete="off" required /><//>
          <div class="buttons"><button class="main">Continue</button></div>
        </form>`}
    <//>`;
}

const root = document.getElementById('console');
root.textContent = '';
render(html`<${Console} />`, root);
