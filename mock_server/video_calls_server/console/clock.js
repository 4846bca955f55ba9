/** The server's clock, in the page's header, with what moves it. */

import {html, useState} from './vendor/htm-preact.module.js';
import {change} from './loading.js';
import {Dialog, Field, Loaded, filled, short} from './parts.js';
import {call, set, state} from './state.js';
import {Time, dayName, duration, exactTime, inputTime, inputValue, serverNow, useNow} from './time.js';

const MOVED = ['clock', 'calls', 'verdicts'];
const said = ({time}) => `The server's clock is at ${dayName(time)}, ${exactTime(time)}`;
const advance = (minutes) => change(said, MOVED, 'POST', 'clock/advance', {minutes});
const put = (body) => change(said, MOVED, 'PUT', 'clock', body);
const toRealTime = () => change('The clock is at real time', MOVED, 'DELETE', 'clock');

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
  const apart = `${duration(offset * 1000)} ${offset < 0 ? 'behind' : 'ahead'}`;
  const ahead = Math.abs(offset) < 1 ? 'real time' : apart;
  const picked = call();
  return html`
    <p class="face">
      <strong><${Time} at=${now} write=${exactTime} /></strong>
      <span class="quiet">${dayName(now)}, ${running ? ahead : 'frozen'}</span>
    </p>
    <div class="buttons">
      <button class="small" onClick=${() => advance(1)}>+1 min</button>
      <button class="small" onClick=${() => advance(15)}>+15 min</button>
      ${picked && html`
        <button class="small" onClick=${() => put({join_window_of: picked.id})}>
          To the join window of call ${short(picked.id)}
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
    if (await put({time: inputTime(filled(event.target).time)})) close();
  };
  return html`
    <${Dialog} title="Set the clock">
      ${(close) => html`
        <form onSubmit=${(event) => save(event, close)}>
          <${Field} label="Time, in your zone">
            <input name="time" type="datetime-local" step="1" defaultValue=${start} required />
          <//>
          <div class="buttons">
            <button class="main">Set</button>
            <button type="button" onClick=${close}>Leave it</button>
          </div>
        </form>`}
    <//>`;
}
