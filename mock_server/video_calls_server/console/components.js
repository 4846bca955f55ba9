/** The components that several panels use. */

import {html, useEffect, useRef} from './vendor/htm-preact.module.js';
import {set, state} from './page-state.js';
import {load} from './server-data.js';

export const IS_WIDE = matchMedia('(min-width: 46rem)').matches;

/** Return a number, or the first characters of a UUID. */
export const shortId = (id) => String(id).length > 12 ? `${String(id).slice(0, 8)}…` : String(id);

/** A panel that opens and closes. By default, it starts open on a wide screen. */
export function Panel({id, title, note, open = IS_WIDE, children}) {
  return html`
    <section class="panel" id=${id} aria-labelledby=${`${id}-title`}>
      <details open=${open}>
        <summary>
          <h2 id=${`${id}-title`}>${title}</h2>
          ${note != null && html`<span class="note">${note}</span>`}
        </summary>
        <div class="body">${children}</div>
      </details>
    </section>`;
}

/** Loaded data, or the error. */
export function Loaded({of, children}) {
  const {data, error} = state[of];
  if (error) {
    return html`
      <div class="failed" role="alert">
        <p>${error.status ? error.message : 'The server does not respond.'}</p>
        <button onClick=${() => load(of)}>Try again</button>
      </div>
      ${data && children}`;
  }
  return data ? children : html`<p class="quiet">Loading…</p>`;
}

/** A button that copies a text to the clipboard. */
export function Copy({text, what, children = 'Copy'}) {
  const copy = async () => {
    const done = await copyText(text);
    set({notice: {text: done ? `Copied ${what}` : 'The browser does not allow this page to copy', failed: !done}});
  };
  return html`<button class="small" aria-label=${`Copy ${what}`} onClick=${copy}>${children}</button>`;
}

/** Copy a text; over plain http beyond loopback, browsers only have execCommand. Return whether it worked. */
async function copyText(text) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const area = Object.assign(document.createElement('textarea'), {value: text});
    document.body.append(area);
    area.select();
    const done = document.execCommand('copy');
    area.remove();
    return done;
  }
}

const ICONS = {scheduled: '◷', ongoing: '▶', completed: '✓', cancelled: '✕'};

/** The status of a call, by word, sign and colour. */
export function Status({of}) {
  return html`<span class=${`status ${of}`}><span aria-hidden="true">${icon(of)}</span> ${of}</span>`;
}

export const icon = (status) => ICONS[status] ?? '?';

/** A body; JSON is indented. */
export function Body({text, label}) {
  if (!text) return html`<p class="quiet">No body</p>`;
  let formatted = text;
  try {
    formatted = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // not JSON
  }
  return html`<pre tabindex="0" role="region" aria-label=${label}>${formatted}</pre>`;
}

/** Names with their values; names without a value are omitted. */
export function Facts({of, wide = []}) {
  const entries = Object.entries(of).filter(([, value]) => value != null);
  return html`
    <dl class="facts">
      ${entries.map(([name, value]) => html`
        <div key=${name} class=${wide.includes(name) ? 'wide' : ''}>
          <dt>${name}</dt><dd class="break">${value}</dd>
        </div>`)}
    </dl>`;
}

/** A labelled field. */
export function Field({label, children, wide}) {
  return html`<label class=${wide ? 'field wide' : 'field'}><span>${label}</span>${children}</label>`;
}

/** A dialog that is open while it is rendered. Its children get the function that closes it. It shows failures. */
export function Dialog({title, children}) {
  const dialog = useRef(null);
  useEffect(() => {
    set({notice: null});
    dialog.current.showModal();
  }, []);
  const close = () => dialog.current?.close();
  return html`
    <dialog ref=${dialog} aria-labelledby="dialog-title" onClose=${() => set({dialog: null})}>
      <h2 id="dialog-title">${title}</h2>
      ${children(close)}
      ${state.notice?.failed && html`<p class="failed" role="alert">${state.notice.text}</p>`}
    </dialog>`;
}

/** A question before a change that cannot be undone. */
export function Confirm({title, text, action, onConfirm}) {
  return html`
    <${Dialog} title=${title}>
      ${(close) => html`
        <p>${text}</p>
        <div class="buttons">
          <button class="main" onClick=${() => { close(); onConfirm(); }}>${action}</button>
          <button onClick=${close}>Cancel</button>
        </div>`}
    <//>`;
}

/** Return the values of a form by name, without the empty ones. */
export const formValues = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ''));

/** A rule with the sentence of the document. */
export function Rule({id}) {
  const rule = typeof id === 'string' ? state.rules.data?.find((each) => each.id === id) : id;
  if (!rule) return null;
  return html`
    <div class="rule">
      <p><code>${rule.id}</code> <span class="tag">${rule.level}</span></p>
      <blockquote>${rule.statement}</blockquote>
      <p class="quiet">Document, ${rule.section}</p>
    </div>`;
}
