/** The server's clock in the page's header, with its controls. */

import {html, useState} from './vendor/htm-preact.module.js';
import {Dialog, Field, Loaded, formValues, shortId} from './components.js';
import {selectedCall, set, state} from './page-state.js';
import {callControl} from './server-data.js';
import {Time, dayName, duration, exactTime, inputTime, inputValue, serverNow, useNow} from './time.js';

const CLOCK_DATA = ['clock', 'calls', 'verdicts'];
const notice = ({time}) => `The server's clock shows ${dayName(time)}, ${exactTime(time)}`;
const advance = (minutes) => callControl(notice, CLOCK_DATA, 'POST', 'clock/advance', {minutes});
const put = (body) => callControl(notice, CLOCK_DATA, 'PUT', 'clock', body);
const toRealTime = () => callControl('The clock shows real time', CLOCK_DATA, 'DELETE', 'clock');

export function Clock() {
  return html`
    <section class="clock" aria-labelledby="clock-title">
      <h2 id="clock-title" class="hidden">Clock</h2>
      <${Loaded} of="clock"><${Face} /><//>
    </section>
    ${state.dialog === 'clock' && html`<${SetClock} />`}`;
}

function Face() {
  const now = useNow();
  const {running, offset} = state.clock.data;
  const difference = `${duration(offset * 1000)} ${offset < 0 ? 'behind' : 'ahead'}`;
  const lead = Math.abs(offset) < 1 ? 'real time' : difference;
  const call = selectedCall();
  return html`
    <p class="face">
      <strong><${Time} at=${now} write=${exactTime} /></strong>
      <span class="quiet">${dayName(now)}, ${running ? lead : 'frozen'}</span>
    </p>
    <div class="buttons">
      <button class="small" onClick=${() => advance(1)}>+1 min</button>
      <button class="small" onClick=${() => advance(15)}>+15 min</button>
      ${call && html`
        <button class="small" onClick=${() => put({join_window_of: call.id})}>
          To the join window of call ${shortId(call.id)}
        </button>`}
      <button class="small" onClick=${() => put({running: !running})}>${running ? 'Freeze' : 'Resume'}</button>
      <button class="small" onClick=${() => set({dialog: 'clock'})}>Set…</button>
      <button class="small" onClick=${toRealTime}>Real time</button>
    </div>`;
}

function SetClock() {
  const [start] = useState(() => inputValue(serverNow(), {seconds: true}));
  const save = async (event, close) => {
    event.preventDefault();
    if (await put({time: inputTime(formValues(event.target).time)})) close();
  };
  return html`
    <${Dialog} title="Set the clock">
      ${(close) => html`
        <form onSubmit=${(event) => save(event, close)}>
          <${Field} label="Time in your time zone">
            <input name="time" type="datetime-local" step="1" defaultValue=${start} required />
          <//>
          <div class="buttons">
            <button class="main">Set</button>
            <button type="button" onClick=${close}>Cancel</button>
          </div>
        </form>`}
    <//>`;
}
