/** The people: who to act as, their tokens, and adding or deactivating them. */

import {html} from './vendor/htm-preact.module.js';
import {control} from './http.js';
import {change, pick} from './loading.js';
import {Copy, Dialog, Field, Loaded, Panel, filled, short} from './parts.js';
import {person, set, state} from './state.js';
import {Time} from './time.js';

const KINDS = {
  valid: 'Valid', expired: 'Expired', forged: 'Forged signature', malformed: 'Malformed',
  premature: 'Not yet valid', refresh: 'Refresh token', unknown_user: 'Of an unknown user',
};

export function People() {
  const picked = person();
  const note = picked ? html`acting as <strong>${picked.full_name || picked.email}</strong>` : null;
  return html`
    <${Panel} id="people" title="People" note=${note}>
      <${Loaded} of="identities">
        ${state.identities.data?.length === 0 && html`
          <p class="empty">Nobody is here yet. Add the first person.</p>`}
        <fieldset class="people">
          <legend class="hidden">Act as</legend>
          ${state.identities.data?.map((one) => html`<${Person} key=${one.email} one=${one} />`)}
        </fieldset>
        <button onClick=${() => set({dialog: 'person'})}>Add a person</button>
      <//>
      ${state.dialog === 'person' && html`<${AddPerson} />`}
    <//>`;
}

function Person({one}) {
  const picked = one.email === state.person;
  return html`
    <div class=${picked ? 'person picked' : 'person'}>
      <label>
        <input
          type="radio" name="person" checked=${picked} aria-describedby=${`roles-${one.user}`}
          onChange=${() => pick(one.email)}
        />
        <span>
          <strong>${one.full_name || one.email}</strong>
          <span class="quiet break">${one.email}</span>
        </span>
      </label>
      <${Roles} one=${one} />
      ${one.token && html`<${Copy} text=${one.token} what=${`token of ${one.email}`}>Copy token<//>`}
      ${picked && html`<${Tools} key="tools" one=${one} />`}
    </div>`;
}

function Roles({one}) {
  return html`
    <span class="tags" id=${`roles-${one.user}`}>
      ${one.doctor && html`
        <span class="tag" title=${[`doctor ${one.doctor.id}`, one.doctor.specialization].filter(Boolean).join(', ')}>
          doctor ${short(one.doctor.id)}
        </span>`}
      ${one.patient && html`
        <span class="tag" title=${`patient ${one.patient.id}`}>patient ${short(one.patient.id)}</span>`}
      ${!one.doctor && !one.patient && html`<span class="tag">neither</span>`}
      ${!one.active && html`<span class="tag bad">inactive</span>`}
      ${state.tokens[one.email] && html`<span class="tag bad">acts with another token</span>`}
    </span>`;
}

/** What can be done with the person picked. */
function Tools({one}) {
  const activate = () => change(
    `${one.email} is ${one.active ? 'inactive' : 'active again'}`, ['identities', 'verdicts'],
    'PATCH', `identities/${one.user}`, {active: !one.active},
  );
  return html`
    <div class="person-tools">
      <p class="quiet">User ${one.user}, also the Agora uid</p>
      <button class="small" onClick=${activate}>${one.active ? 'Deactivate' : 'Reactivate'}</button>
      ${state.server.data?.tokens ? html`<${MakeToken} one=${one} />` : html`<${BringToken} one=${one} />`}
    </div>`;
}

const actWith = (email, token) => set({tokens: {...state.tokens, [email]: token}});

/** A token of any kind: to copy, or to act with. */
function MakeToken({one}) {
  const made = state.made?.email === one.email ? state.made : null;
  const make = async (event) => {
    event.preventDefault();
    const {kind, minutes} = filled(event.target);
    try {
      const body = {kind, expires_in: Number(minutes) * 60};
      set({made: {email: one.email, ...(await control('POST', `identities/${one.user}/tokens`, body))}});
    } catch (error) {
      set({notice: {text: error.message, failed: true}});
    }
  };
  return html`
    <details>
      <summary>Make a token</summary>
      <form class="fields" onSubmit=${make}>
        <${Field} label="Kind of token">
          <select name="kind">
            ${Object.entries(KINDS).map(([kind, text]) => html`<option value=${kind}>${text}</option>`)}
          </select>
        <//>
        <${Field} label="Minutes">
          <input name="minutes" type="number" min="1" max="525600" value="60" required />
        <//>
        <button class="wide">Make the token</button>
      </form>
      ${made && html`
        <div class="made">
          <p>
            ${KINDS[made.kind] ?? made.kind}${made.expires_at && html`, expires <${Time} at=${made.expires_at} />`}
          </p>
          <code class="secret">${made.token}</code>
          <div class="buttons">
            <${Copy} text=${made.token} what="the token made" />
            <button class="small" onClick=${() => actWith(one.email, made.token)}>Act with it</button>
          </div>
        </div>`}
    </details>
    <${OwnToken} one=${one} />`;
}

/** Where tokens are signed elsewhere, the developer brings one. */
function BringToken({one}) {
  const use = (event) => {
    event.preventDefault();
    actWith(one.email, filled(event.target).token);
  };
  return html`
    <form class="fields" onSubmit=${use}>
      <p class="wide quiet">Tokens are signed elsewhere here: bring one of this person.</p>
      <${Field} label="Token" wide><input name="token" autocomplete="off" required /><//>
      <button class="wide">Act with it</button>
    </form>
    <${OwnToken} one=${one} />`;
}

function OwnToken({one}) {
  if (!state.tokens[one.email]) return null;
  const withdraw = () => actWith(one.email, undefined);
  return html`<button class="small" onClick=${withdraw}>Act with the own token again</button>`;
}

function AddPerson() {
  const add = async (event, close) => {
    event.preventDefault();
    const {full_name, email, doctor, patient, specialization} = filled(event.target);
    const body = {full_name, email};
    if (doctor) body.doctor = specialization ? {specialization} : true;
    if (patient) body.patient = true;
    if (await change(({email}) => `${email} is added`, ['identities'], 'POST', 'identities', body)) close();
  };
  return html`
    <${Dialog} title="Add a person">
      ${(close) => html`
        <form onSubmit=${(event) => add(event, close)}>
          <p class="quiet">What is left empty is chosen by the server.</p>
          <div class="fields">
            <${Field} label="Full name" wide><input name="full_name" maxlength="300" autocomplete="off" /><//>
            <${Field} label="E-mail" wide><input name="email" type="email" maxlength="254" autocomplete="off" /><//>
            <label class="check"><input type="checkbox" name="doctor" checked /> Doctor</label>
            <label class="check"><input type="checkbox" name="patient" /> Patient</label>
            <${Field} label="Specialization of the doctor" wide><input name="specialization" maxlength="200" /><//>
          </div>
          <div class="buttons">
            <button class="main">Add</button>
            <button type="button" onClick=${close}>Do not add</button>
          </div>
        </form>`}
    <//>`;
}
