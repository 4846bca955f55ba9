/** The panel of users: it selects one, issues tokens, and adds and deactivates users. */

import {html} from './vendor/htm-preact.module.js';
import {Copy, Dialog, Field, Loaded, Panel, formValues, shortId} from './components.js';
import {control} from './http.js';
import {selectedUser, set, state} from './page-state.js';
import {callControl, selectUser} from './server-data.js';
import {Time} from './time.js';

const KINDS = {
  valid: 'Valid', expired: 'Expired', forged: 'Forged signature', malformed: 'Malformed',
  premature: 'Not yet valid', refresh: 'Refresh token', unknown_user: 'For an unknown user',
};

export function Users() {
  const selected = selectedUser();
  const note = selected ? html`acting as <strong>${selected.full_name || selected.email}</strong>` : null;
  return html`
    <${Panel} id="users" title="Users" note=${note}>
      <${Loaded} of="identities">
        ${state.identities.data?.length === 0 && html`
          <p class="empty">No users yet. Add one.</p>`}
        <fieldset class="users">
          <legend class="hidden">Act as</legend>
          ${state.identities.data?.map((user) => html`<${User} key=${user.email} user=${user} />`)}
        </fieldset>
        <button onClick=${() => set({dialog: 'user'})}>Add a user</button>
      <//>
      ${state.dialog === 'user' && html`<${AddUser} />`}
    <//>`;
}

function User({user}) {
  const selected = user.email === state.user;
  return html`
    <div class=${selected ? 'user selected' : 'user'}>
      <label>
        <input
          type="radio" name="user" checked=${selected} aria-describedby=${`roles-${user.user}`}
          onChange=${() => selectUser(user.email)}
        />
        <span>
          <strong>${user.full_name || user.email}</strong>
          <span class="quiet break">${user.email}</span>
        </span>
      </label>
      <${Roles} user=${user} />
      ${user.token && html`<${Copy} text=${user.token} what=${`token of ${user.email}`}>Copy token<//>`}
      ${selected && html`<${UserActions} key="actions" user=${user} />`}
    </div>`;
}

function Roles({user}) {
  return html`
    <span class="tags" id=${`roles-${user.user}`}>
      ${user.doctor && html`
        <span class="tag" title=${[`doctor ${user.doctor.id}`, user.doctor.specialization].filter(Boolean).join(', ')}>
          doctor ${shortId(user.doctor.id)}
        </span>`}
      ${user.patient && html`
        <span class="tag" title=${`patient ${user.patient.id}`}>patient ${shortId(user.patient.id)}</span>`}
      ${!user.doctor && !user.patient && html`<span class="tag">no role</span>`}
      ${!user.active && html`<span class="tag bad">inactive</span>`}
      ${state.tokens[user.email] && html`<span class="tag bad">uses another token</span>`}
    </span>`;
}

/** The actions on the selected user. */
function UserActions({user}) {
  const activate = () => callControl(
    `${user.email} is ${user.active ? 'inactive' : 'active again'}`, ['identities', 'verdicts'],
    'PATCH', `identities/${user.user}`, {active: !user.active},
  );
  return html`
    <div class="user-actions">
      <p class="quiet">User ${user.user}, also the Agora uid</p>
      <button class="small" onClick=${activate}>${user.active ? 'Deactivate' : 'Reactivate'}</button>
      ${state.server.data?.tokens ? html`<${IssueToken} user=${user} />` : html`<${PasteToken} user=${user} />`}
    </div>`;
}

const replaceToken = (email, token) => set({tokens: {...state.tokens, [email]: token}});

/** Issues a valid or an invalid token, to copy or to use. */
function IssueToken({user}) {
  const issued = state.issuedToken?.email === user.email ? state.issuedToken : null;
  const issue = async (event) => {
    event.preventDefault();
    const {kind, minutes} = formValues(event.target);
    try {
      const body = {kind, expires_in: Number(minutes) * 60};
      set({issuedToken: {email: user.email, ...(await control('POST', `identities/${user.user}/tokens`, body))}});
    } catch (error) {
      set({notice: {text: error.message, failed: true}});
    }
  };
  return html`
    <details>
      <summary>Issue a token</summary>
      <form class="fields" onSubmit=${issue}>
        <${Field} label="Kind of token">
          <select name="kind">
            ${Object.entries(KINDS).map(([kind, text]) => html`<option value=${kind}>${text}</option>`)}
          </select>
        <//>
        <${Field} label="Minutes">
          <input name="minutes" type="number" min="1" max="525600" value="60" required />
        <//>
        <button class="wide">Issue the token</button>
      </form>
      ${issued && html`
        <div class="issued">
          <p>
            ${KINDS[issued.kind] ?? issued.kind}${issued.expires_at && html`, expires <${Time} at=${issued.expires_at} />`}
          </p>
          <code class="secret">${issued.token}</code>
          <div class="buttons">
            <${Copy} text=${issued.token} what="the issued token" />
            <button class="small" onClick=${() => replaceToken(user.email, issued.token)}>Use it</button>
          </div>
        </div>`}
    </details>
    <${OwnToken} user=${user} />`;
}

/** Takes a token from the developer, because the server cannot sign JWTs. */
function PasteToken({user}) {
  const use = (event) => {
    event.preventDefault();
    replaceToken(user.email, formValues(event.target).token);
  };
  return html`
    <form class="fields" onSubmit=${use}>
      <p class="wide quiet">Another service signs the tokens. Paste one of this user.</p>
      <${Field} label="Token" wide><input name="token" autocomplete="off" required /><//>
      <button class="wide">Use it</button>
    </form>
    <${OwnToken} user=${user} />`;
}

function OwnToken({user}) {
  if (!state.tokens[user.email]) return null;
  const useOwn = () => replaceToken(user.email, undefined);
  return html`<button class="small" onClick=${useOwn}>Use the user's own token</button>`;
}

function AddUser() {
  const add = async (event, close) => {
    event.preventDefault();
    const {full_name, email, doctor, patient, specialization} = formValues(event.target);
    const body = {full_name, email};
    if (doctor) body.doctor = specialization ? {specialization} : true;
    if (patient) body.patient = true;
    if (await callControl(({email}) => `Added ${email}`, ['identities'], 'POST', 'identities', body)) close();
  };
  return html`
    <${Dialog} title="Add a user">
      ${(close) => html`
        <form onSubmit=${(event) => add(event, close)}>
          <p class="quiet">The server fills in empty fields.</p>
          <div class="fields">
            <${Field} label="Full name" wide><input name="full_name" maxlength="300" autocomplete="off" /><//>
            <${Field} label="E-mail" wide><input name="email" type="email" maxlength="254" autocomplete="off" /><//>
            <label class="check"><input type="checkbox" name="doctor" checked /> Doctor</label>
            <label class="check"><input type="checkbox" name="patient" /> Patient</label>
            <${Field} label="Specialization of the doctor" wide><input name="specialization" maxlength="200" /><//>
          </div>
          <div class="buttons">
            <button class="main">Add</button>
            <button type="button" onClick=${close}>Cancel</button>
          </div>
        </form>`}
    <//>`;
}
