/** The calls of one day on a timeline. */

import {html, useEffect, useRef, useState} from './vendor/htm-preact.module.js';
import {icon, shortId} from './components.js';
import {state} from './page-state.js';
import {selectCall} from './server-data.js';
import {DAY, HOUR, MINUTE, clockTime, dayName, dayOfMonth, formatMoment, useNow} from './time.js';

const LANE = 2; // rem
const AXIS = 1.75; // rem
const OPEN_END = 30 * MINUTE; // the length of a bar if the call has not ended
const MIN_LENGTH = 15 * MINUTE; // so that a short call is visible and can be clicked

/** Return the start of the hour in the reader's time zone, which may differ from UTC by half an hour. */
const wholeHour = (at) => new Date(at).setMinutes(0, 0, 0);

/** Return the times between which a call is drawn. */
function extent({join_opens_at, scheduled_time, started_at, ended_at}) {
  const scheduled = Date.parse(scheduled_time);
  const start = Date.parse(started_at ?? scheduled_time);
  const end = ended_at ? Date.parse(ended_at) : scheduled + OPEN_END;
  const opens = join_opens_at ? Date.parse(join_opens_at) : start;
  return {opens: Math.min(opens, start), start, end: Math.max(end, start + MIN_LENGTH), scheduled};
}

/** Return the calls of the timeline, each in the first free lane. */
function arrange(calls, from, to) {
  const ends = [];
  return calls
    .map((call) => ({call, ...extent(call)}))
    .filter(({opens, end}) => end > from && opens < to)
    .sort((a, b) => a.opens - b.opens || a.scheduled - b.scheduled)
    .map((bar) => {
      const free = ends.findIndex((end) => end <= bar.opens);
      const lane = free < 0 ? ends.length : free;
      ends[lane] = bar.end;
      return {...bar, lane};
    });
}

export function Timeline() {
  const now = useNow();
  const scroller = useRef(null);
  const [days, setDays] = useState(0);
  const from = wholeHour(now - DAY / 2) + days * DAY;
  const to = from + DAY;
  const bars = arrange(state.calls.data, from, to);
  const lanes = Math.max(2, ...bars.map(({lane}) => lane + 1));
  const at = (time) => `${((time - from) / DAY) * 100}%`;
  const hours = Array.from({length: 24}, (_, hour) => from + hour * HOUR);

  useEffect(() => { // scroll to now, or to the middle of another day
    const {scrollWidth, clientWidth} = scroller.current;
    const middle = days ? 0.5 : (now - from) / DAY;
    scroller.current.scrollLeft = scrollWidth * middle - clientWidth / 3;
  }, [from]);

  return html`
    <div class="timeline" role="group" aria-label="Timeline">
      <div class="bar-of-buttons">
        <p class="quiet">${dayName(from)}, ${clockTime(from)} – ${dayName(to)}, ${clockTime(to)}</p>
        <div class="buttons">
          <button class="small" onClick=${() => setDays(days - 1)}>Day before</button>
          <button class="small" disabled=${days === 0} onClick=${() => setDays(0)}>Now</button>
          <button class="small" onClick=${() => setDays(days + 1)}>Day after</button>
        </div>
      </div>
      <div class="scroller" ref=${scroller} tabindex="0" role="region" aria-label="Calls of the day" onKeyDown=${moveFocus}>
        <div class="axis" style=${{height: `${AXIS + lanes * LANE + 0.5}rem`}}>
          ${hours.map((hour) => html`<${Hour} key=${hour} hour=${hour} left=${at(hour)} />`)}
          ${bars.map((bar) => html`<${Bar} key=${bar.call.id} ...${bar} at=${at} />`)}
          ${now >= from && now < to && html`
            <div class="now" style=${{left: at(now)}} aria-hidden="true"><span>now</span></div>`}
        </div>
      </div>
      ${bars.length === 0 && html`<p class="empty">No calls on this day.</p>`}
    </div>`;
}

function Hour({hour, left}) {
  const midnight = new Date(hour).getHours() === 0;
  return html`
    <div class=${midnight ? 'hour midnight' : 'hour'} style=${{left}} aria-hidden="true">
      <span>${midnight ? dayOfMonth(hour) : clockTime(hour)}</span>
    </div>`;
}

function Bar({call, opens, start, end, scheduled, lane, at}) {
  const top = `${AXIS + lane * LANE}rem`;
  const width = (begin, finish) => `${((finish - begin) / DAY) * 100}%`;
  const who = `${call.doctor_details.user.full_name} with ${call.patient_details.user.full_name}`;
  const words = `Call ${call.id}, ${call.status}, ${formatMoment(scheduled)}, ${who}`;
  return html`
    ${opens < start && html`
      <div
        class="window" style=${{left: at(opens), width: width(opens, start), top}}
        title="Join window" aria-hidden="true"
      />`}
    <button
      class=${`bar ${call.status}`} style=${{left: at(start), width: width(start, end), top}}
      aria-label=${words} aria-pressed=${call.id === state.callId} title=${words} onClick=${() => selectCall(call.id)}
    ><span aria-hidden="true">${icon(call.status)} ${shortId(call.id)}</span></button>`;
}

/** Let the arrow keys move the focus from call to call. */
function moveFocus(event) {
  const step = {ArrowRight: 1, ArrowLeft: -1}[event.key];
  const bars = [...event.currentTarget.querySelectorAll('.bar')];
  const current = bars.indexOf(document.activeElement);
  if (!step || current < 0) return;
  event.preventDefault();
  bars[Math.min(Math.max(current + step, 0), bars.length - 1)].focus();
}
