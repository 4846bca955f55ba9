/**
 * A meeting in a real Agora channel. The developer provides the file of Agora's Web SDK (npm
 * `agora-rtc-sdk-ng`). The credentials come from the console through this tab's session storage.
 */

import {html, render, useEffect, useRef, useState} from './vendor/htm-preact.module.js';
import {Facts, Field} from './components.js';

const CREDENTIALS = 'video-calls-meeting';

/** Return the credentials, and remove everything else from the storage, which the SDK can read. */
function takeCredentials() {
  const text = sessionStorage.getItem(CREDENTIALS);
  sessionStorage.clear();
  if (text === null) return null;
  sessionStorage.setItem(CREDENTIALS, text);
  return JSON.parse(text);
}

/** Run the file of the SDK, which sets `window.AgoraRTC`. */
function runScript(url) {
  return new Promise((resolve, reject) => {
    const script = Object.assign(document.createElement('script'), {src: url});
    const wrongFile = new Error('That file is not AgoraRTC_N-production.js');
    script.onload = () => (window.AgoraRTC ? resolve() : reject(wrongFile));
    script.onerror = () => reject(new Error('That file cannot be loaded'));
    document.head.append(script);
  });
}

/** Join the channel. `onUsers` gets the remote users, `onStatus` a text for the page. */
async function connect({app_id: appId, channel_name: channel, token, uid}, onUsers, onStatus) {
  const client = window.AgoraRTC.createClient({mode: 'rtc', codec: 'vp8'});
  const changed = () => onUsers([...client.remoteUsers]);
  client.on('user-published', async (user, kind) => {
    await client.subscribe(user, kind);
    if (kind === 'audio') user.audioTrack.play();
    changed();
  });
  client.on('user-unpublished', changed);
  client.on('user-left', changed);
  client.on('token-privilege-will-expire', () => onStatus('The token expires soon. Join again in the console.'));
  client.on('connection-state-change', (state) => onStatus(`Agora: ${state.toLowerCase()}`));
  await client.join(appId, channel, token, uid);
  try {
    const tracks = await window.AgoraRTC.createMicrophoneAndCameraTracks();
    await client.publish(tracks);
    return {client, tracks};
  } catch (error) {
    onStatus(`Joined without camera and microphone: ${error.message}`);
    return {client, tracks: []};
  }
}

function Meeting() {
  const [credentials] = useState(takeCredentials);
  const [ready, setReady] = useState(Boolean(window.AgoraRTC));
  const [meeting, setMeeting] = useState(null);
  const [users, setUsers] = useState([]);
  const [status, setStatus] = useState({text: '', failed: false});
  const attempt = async (step) => {
    try {
      await step();
    } catch (error) {
      setStatus({text: error.message, failed: true});
    }
  };
  const join = () => attempt(async () => {
    setStatus({text: 'Connecting to Agora…', failed: false});
    setMeeting(await connect(credentials, setUsers, (text) => setStatus({text, failed: false})));
  });
  const leave = () => attempt(async () => {
    for (const track of meeting.tracks) track.close();
    await meeting.client.leave();
    setMeeting(null);
    setUsers([]);
    setStatus({text: 'You left the channel.', failed: false});
  });
  const loaded = (url) => attempt(async () => {
    await runScript(url);
    setReady(true);
    setStatus({text: 'The SDK is loaded.', failed: false});
  });
  if (!credentials) {
    return html`
      <main>
        <h1>Meeting</h1>
        <p class="empty">
          No credentials. Join a call in the console, then open this page from the response.
        </p>
      </main>`;
  }
  return html`
    <main>
      <h1>Meeting</h1>
      <${Credentials} of=${credentials} />
      ${!ready && html`<${ChooseSdk} onChosen=${loaded} />`}
      <p role="status" class=${status.failed ? 'failed' : 'quiet'}>${status.text}</p>
      ${ready && html`
        <div class="buttons">
          ${meeting
            ? html`<button onClick=${leave}>Leave the channel</button>`
            : html`<button class="main" onClick=${join}>Join the channel</button>`}
        </div>`}
      ${meeting && html`
        <div class="videos">
          <${Video} name="You" track=${meeting.tracks[1]} />
          ${users.map((user) => html`<${Video} key=${user.uid} name=${`Uid ${user.uid}`} track=${user.videoTrack} />`)}
        </div>`}
    </main>`;
}

function Credentials({of}) {
  const expires = new Date(of.expiration_time).toLocaleString();
  const facts = {'App id': of.app_id, Channel: of.channel_name, Uid: of.uid, 'Token expires': expires};
  return html`
    <section class="panel" aria-labelledby="credentials">
      <h2 id="credentials">Credentials</h2>
      ${of.agora !== 'configured' && html`
        <p class="failed">
          These use the public development project, which Agora does not accept. Set${' '}
          <code>AGORA_APP_ID</code> and <code>AGORA_APP_CERTIFICATE</code> to those of your Agora project, restart
          the server, and join again.
        </p>`}
      <${Facts} of=${facts} />
    </section>`;
}

function ChooseSdk({onChosen}) {
  const choose = ({target}) => target.files.length && onChosen(URL.createObjectURL(target.files[0]));
  const load = (event) => {
    event.preventDefault();
    onChosen(new FormData(event.target).get('path'));
  };
  return html`
    <section class="panel" aria-labelledby="sdk">
      <h2 id="sdk">Agora's Web SDK</h2>
      <p>
        This server does not include it. <code>npm install agora-rtc-sdk-ng</code> installs${' '}
        <code class="break">node_modules/agora-rtc-sdk-ng/AgoraRTC_N-production.js</code>. Select that file, or
        enter its path on this server.
      </p>
      <div class="inline">
        <${Field} label="File on this machine">
          <input type="file" accept=".js,text/javascript" onChange=${choose} />
        <//>
      </div>
      <form class="inline" onSubmit=${load}>
        <${Field} label="Path on this server (--static serves a folder at /app/)">
          <input
            name="path" required pattern="/(?!/).*" title="A path that begins with one slash"
            placeholder="/app/AgoraRTC_N-production.js"
          />
        <//>
        <button>Load the SDK</button>
      </form>
    </section>`;
}

function Video({name, track}) {
  const picture = useRef(null);
  useEffect(() => { track?.play(picture.current); }, [track]);
  return html`
    <figure>
      <div class="picture" ref=${picture} />
      <figcaption>${name}${track ? '' : ', no picture'}</figcaption>
    </figure>`;
}

const root = document.getElementById('meeting');
root.textContent = '';
render(html`<${Meeting} />`, root);
