/** The reference server for one test: a namespace of the test's own, dropped when the test is over. */
import { randomUUID } from 'node:crypto';

export function referenceServer(test, url = process.env.VIDEO_CALLS_SERVER ?? 'http://127.0.0.1:8000') {
  const name = `test-${randomUUID()}`;
  const root = `${url}/_ns/${name}`;
  const control = async (method, path, body) => {
    const response = await fetch(`${root}/_control/${path}`, { method, body: body && JSON.stringify(body) });
    const text = await response.text();
    if (!response.ok) throw new Error(text);
    return text && JSON.parse(text);
  };
  test.after(() => control('DELETE', `namespaces/${name}`));
  return {
    api: `${root}/api/v1/video`,
    control,
    token: async (email) => (await control('POST', `identities/${email}/tokens`, {})).token,
  };
}
