/** The small pieces that every part of the page is made of. */

import {html, useEffect, useRef} from './vendor/htm-preact.module.js';
import {load} from './loading.js';
import {set, state} from './state.js';

export const WIDE = matchMedia('(min-width: 46rem)').matches;

/** An id as it is shown: the whole of a number, the beginning of a UUID. */
export const short = (id) => String(id).length > 12 ? `${String(id).slice(0, 8)}…` : String(id);

/** A part of the page that opens and closes; at first it is open where there is room. */
export function Panel({id, title, note, open = WIDE, children}) {
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

/** What was fetched, or why it is not there. */
export function Loaded({of, children}) {
  const {data, error} = state[of];
  if (error) {
    return html`
      <div class="failed" role="alert">
        <p>${error.status ? error.message : 'The server does not answer.'}</p>
        <button onClick=${() => load(of)}>Try again</button>
      </div>
      ${data && children}`;
  }
  return data ? children : html`<p class="quiet">Loading…</p>`;
}

/** A button that puts a text on the clipboard and says so. */
export function Copy({text, what, children = 'Copy'}) {
  const copy = async () => {
    const done = await toClipboard(text);
    set({notice: {text: done ? `Copied ${what}` : 'The browser does not let this page copy', failed: !done}});
  };
  return html`<button class="small" aria-label=${`Copy ${what}`} onClick=${copy}>${children}</button>`;
}

/** Whether the text is on the clipboard now. Pages of plain http beyond loopback have the old way only. */
async function toClipboard(text) {
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

/** A call's status, told by word, sign and colour. */
export function Status({of}) {
  return html`<span class=${`status ${of}`}><span aria-hidden="true">${icon(of)}</span> ${of}</span>`;
}

export const icon = (status) => ICONS[status] ?? '?';

/** Text as it came; JSON set out to be read. */
export function Body({text, label}) {
  if (!text) return html`<p class="quiet">No body</p>`;
  let shown = text;
  try {
    shown = JSON.stringify(JSON.parse(text), null, 2);
  } catch {
    // shown as it is
  }
  return html`<pre tabindex="0" role="region" aria-label=${label}>${shown}</pre>`;
}

/** Names and what they stand for; those without a value are left out. */
export function Facts({of, wide = []}) {
  const known = Object.entries(of).filter(([, value]) => value != null);
  return html`
    <dl class="facts">
      ${known.map(([name, value]) => html`
        <div key=${name} class=${wide.includes(name) ? 'wide' : ''}>
          <dt>${name}</dt><dd class="break">${value}</dd>
        </div>`)}
    </dl>`;
}

/** A labelled field. */
export function Field({label, children, wide}) {
  return html`<label class=${wide ? 'field wide' : 'field'}><span>${label}</span>${children}</label>`;
}

/**
 * A dialog that is open for as long as it is rendered; its children get the function that closes it.
 * What fails meanwhile is told in it, for nothing behind it can be read.
 */
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

/** A question before something that cannot be taken back. */
export function Confirm({title, text, action, onConfirm}) {
  return html`
    <${Dialog} title=${title}>
      ${(close) => html`
        <p>${text}</p>
        <div class="buttons">
          <button class="main" onClick=${() => { close(); onConfirm(); }}>${action}</button>
          <button onClick=${close}>Keep things as they are</button>
        </div>`}
    <//>`;
}

/** What a form's fields hold, by name; empty ones are left out. */
export const filled = (form) => Object.fromEntries([...new FormData(form)].filter(([, value]) => value !== ''));

/** A rule, with the document's own sentence. */
export function Rule({id}) {
  const rule = typeof id === 'string' ? state.rules.data?.find((known) => known.id === id) : id;
  if (!rule) return null;
  return html`
    <div class="rule">
      <p><code>${rule.id}</code> <span class="tag">${rule.level}</span></p>
      <blockquote>${rule.statement}</blockquote>
      <p class="quiet">Document, ${rule.section}</p>
    </div>`;
}
