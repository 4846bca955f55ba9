/** What a frontend has of its own: calls over `fetch`, sent again when the server is away or the line breaks. */
export function videoCalls(api, token) {
  const send = async (method, path, body, attempts = 3) => {
    let response;
    try {
      response = await fetch(`${api}/${path}`, {
        method,
        headers: { Authorization: `Bearer ${token}`, ...(body && { 'Content-Type': 'application/json' }) },
        body: body && JSON.stringify(body),
      });
    } catch (error) {
      if (attempts === 1) throw error;
      return send(method, path, body, attempts - 1);
    }
    if (response.status === 503 && attempts > 1) {
      await new Promise((resolve) => setTimeout(resolve, 1000 * response.headers.get('Retry-After')));
      return send(method, path, body, attempts - 1);
    }
    const answer = await response.json();
    if (!response.ok) throw new Error(answer.error);
    return answer;
  };
  return {
    create: (doctor, patient, time) =>
      send('POST', 'video-calls/', { doctor, patient, scheduled_time: time.toISOString() }, 1),
    join: (id) => send('POST', `video-calls/${id}/join/`),
    end: (id) => send('POST', `video-calls/${id}/end/`),
  };
}
