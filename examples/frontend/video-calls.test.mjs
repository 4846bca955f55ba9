/** A frontend's own test against the reference server: `node --test`, while `video-calls-server serve` runs. */
import assert from 'node:assert/strict';
import test from 'node:test';
import { referenceServer } from './reference-server.mjs';
import { videoCalls } from './video-calls.mjs';

test('a call is booked, joined through an outage and a broken line, and ended', async (t) => {
  const server = referenceServer(t);
  const doctor = videoCalls(server.api, await server.token('doctor@example.com'));
  const call = await doctor.create(1, 1, new Date(Date.now() + 2 * 3600 * 1000));
  await server.control('PUT', 'clock', { join_window_of: call.id });
  await server.control('POST', 'faults', { operation: 'joinVideoCall', status: 503, times: 1 });
  await server.control('POST', 'faults', { operation: 'joinVideoCall', drop: true, after: true, times: 1 });
  assert.equal((await doctor.join(call.id)).channel_name, call.channel_name);
  assert.equal((await doctor.end(call.id)).status, 'completed');
  const joins = await server.control('GET', 'requests?operation=joinVideoCall');
  assert.deepEqual(joins.map((request) => request.status), [200, null, 503]);
});
