/** Formats times. "Now" is the time of the server's clock, which can be set and frozen. */

import {html, useEffect, useReducer} from './vendor/htm-preact.module.js';
import {state} from './page-state.js';

export const SECOND = 1000;
export const MINUTE = 60 * SECOND;
export const HOUR = 60 * MINUTE;
export const DAY = 24 * HOUR;

/** Return the server's time in milliseconds, computed from the last reading; null before that. */
export function serverNow() {
  const clock = state.clock.data;
  if (!clock) return null;
  return Date.parse(clock.time) + (clock.running ? performance.now() - clock.readAt : 0);
}

/** Return the server's time, and render the component again each second. */
export function useNow() {
  const [, render] = useReducer((count) => count + 1, 0);
  useEffect(() => {
    const timer = setInterval(render, SECOND);
    return () => clearInterval(timer);
  }, []);
  return serverNow() ?? Date.now();
}

const format = (options) => {
  const formatter = new Intl.DateTimeFormat(undefined, options);
  return (at) => formatter.format(new Date(at));
};
export const clockTime = format({hour: '2-digit', minute: '2-digit'});
export const exactTime = format({hour: '2-digit', minute: '2-digit', second: '2-digit'});
export const dayName = format({weekday: 'short', day: 'numeric', month: 'short'});
export const dayOfMonth = format({weekday: 'short', day: 'numeric'});
const dayAndYear = format({weekday: 'short', day: 'numeric', month: 'short', year: 'numeric'});

/** Return the time of day, with the date unless it is today on the server. */
export function formatMoment(at, write = clockTime) {
  const now = serverNow() ?? Date.now();
  if (dayAndYear(at) === dayAndYear(now)) return write(at);
  const sameYear = new Date(at).getFullYear() === new Date(now).getFullYear();
  return `${(sameYear ? dayName : dayAndYear)(at)}, ${write(at)}`;
}

/** A time in the reader's time zone, with UTC in the tooltip. */
export function Time({at, write = formatMoment}) {
  const utc = new Date(at).toISOString();
  const title = `${utc.slice(0, 10)} ${utc.slice(11, 19)} UTC`;
  return html`<time datetime=${utc} title=${title}>${write(at)}</time>`;
}

/** Return a duration in at most two units. */
export function duration(milliseconds) {
  const seconds = Math.round(Math.abs(milliseconds) / SECOND);
  if (seconds < 60) return `${seconds} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 60) return `${minutes} min`;
  const hours = Math.floor(minutes / 60);
  if (hours < 24) return minutes % 60 ? `${hours} h ${minutes % 60} min` : `${hours} h`;
  const days = Math.round(hours / 24);
  return days === 1 ? '1 day' : `${days} days`;
}

/** Return a time difference as text. */
export const relativeTime = (time) => (time < 0 ? `${duration(time)} ago` : `in ${duration(time)}`);

/** Return the value of an `<input type="datetime-local">` for a time. */
export function inputValue(at, {seconds = false} = {}) {
  const local = new Date(at - new Date(at).getTimezoneOffset() * MINUTE).toISOString();
  return local.slice(0, seconds ? 19 : 16);
}

/** Return the time of such an input in the form of the API. */
export const inputTime = (value) => new Date(value).toISOString();
