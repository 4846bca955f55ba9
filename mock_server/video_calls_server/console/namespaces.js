/** The panel of namespaces. */

import {html} from './vendor/htm-preact.module.js';
import {Loaded, Panel, formValues} from './components.js';
import {absoluteUrl} from './http.js';
import {state} from './page-state.js';
import {callControl} from './server-data.js';
import {NameField} from './snapshots.js';
import {duration} from './time.js';

export function Namespaces() {
  const here = state.server.data.namespace;
  const root = here ? '../../' : './';
  const home = (name) => absoluteUrl(name ? `${root}_ns/${encodeURIComponent(name)}/` : root);
  const note = html`<span class="break">here: ${here || 'default'}</span>`;
  const open = async (event) => {
    event.preventDefault();
    const {name} = formValues(event.target);
    // A new namespace needs the control key, which this request has and the opened page does not.
    const server = `../${root}_ns/${encodeURIComponent(name)}/_control/server`;
    if (await callControl(`Opened namespace ${name}`, [], 'GET', server)) location.href = home(name);
  };
  return html`
    <${Panel} id="namespaces" title="Namespaces" note=${note} open=${false}>
      <p class="quiet">Each namespace has its own users, calls, clock and faults, so that tests can run in parallel.</p>
      <${Loaded} of="namespaces">
        <ul class="namespaces">
          ${state.namespaces.data?.map((namespace) => html`
            <${Namespace} key=${namespace.name} namespace=${namespace} here=${here} home=${home} />`)}
        </ul>
      <//>
      <form class="inline" onSubmit=${open}>
        <${NameField} />
        <button>Open the namespace</button>
      </form>
    <//>`;
}

function Namespace({namespace, here, home}) {
  const {name, calls, idle_seconds: idle} = namespace;
  const label = name || 'default';
  const drop = () => callControl(
    `Deleted namespace ${name}`, ['namespaces'], 'DELETE', `namespaces/${encodeURIComponent(name)}`,
  );
  return html`
    <li>
      <div class="break">
        ${name === here ? html`<strong>${label}</strong>` : html`<a href=${home(name)}>${label}</a>`}
        <p class="quiet">${calls} calls, idle for ${duration(idle * 1000)}</p>
      </div>
      ${name && name !== here && html`
        <button class="small" aria-label=${`Delete namespace ${name}`} onClick=${drop}>Delete</button>`}
    </li>`;
}
