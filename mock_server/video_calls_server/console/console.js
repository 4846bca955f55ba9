/** The console: one page for a person who has just started the server. */

import {html, render, useEffect} from './vendor/htm-preact.module.js';
import {Answer} from './answer.js';
import {Call} from './call.js';
import {Calls} from './calls.js';
import {Clock} from './clock.js';
import {Events} from './events.js';
import {Faults} from './faults.js';
import {keepKey} from './http.js';
import {keepFresh, loadAll} from './loading.js';
import {Dialog, Field, filled} from './parts.js';
import {People} from './people.js';
import {Requests} from './requests.js';
import {set, state, useEverything} from './state.js';
import {Namespaces, World} from './world.js';

function Console() {
  useEverything();
  useEffect(() => {
    loadAll();
    return keepFresh();
  }, []);
  const {data: server, error} = state.server;
  return html`
    <a class="skip" href="#calls">Skip to the calls</a>
    <${Header} />
    <main>
      ${server ? html`<${Board} />` : html`<${Start} error=${error} />`}
    </main>
    <${Notice} />
    ${state.dialog === 'key' && html`<${AskKey} />`}`;
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
      <div class="who"><${People} /></div>
      <div class="what"><${Calls} /><${Call} /></div>
      <div class="told"><${Answer} /><${Events} /><${Requests} /></div>
      <div class="tools"><${Faults} /><${World} /><${Namespaces} /></div>
    </div>`;
}

/** Before anything is known of the server. */
function Start({error}) {
  if (!error) return html`<p class="loading" role="status">Asking the server…</p>`;
  return html`
    <div class="panel failed start" role="alert">
      <h2>The console cannot begin</h2>
      <p>${error.status ? error.message : 'The server does not answer. Is it still running?'}</p>
      <div class="buttons"><button class="main" onClick=${loadAll}>Try again</button></div>
    </div>`;
}

/** How the last change went; it goes away by itself unless it failed. */
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

function AskKey() {
  const save = (event, close) => {
    event.preventDefault();
    keepKey(filled(event.target).key);
    close();
    loadAll();
  };
  return html`
    <${Dialog} title="Control key">
      ${(close) => html`
        <form onSubmit=${(event) => save(event, close)}>
          <p>This server was started with a control key. It is kept in this tab until it is closed.</p>
          ${state.server.error && html`<p class="quiet">${state.server.error.message}</p>`}
          <${Field} label="Key"><input name="key" type="password" autocomplete="off" required /><//>
          <div class="buttons"><button class="main">Go on</button></div>
        </form>`}
    <//>`;
}

const root = document.getElementById('console');
root.textContent = '';
render(html`<${Console} />`, root);
