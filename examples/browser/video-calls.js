// The four functions of the document's "Frontend Integration", as it writes them.
// The page sets the two variables that they read, before it calls one.

let yourAuthToken = '';
let AGORA_APP_ID = '';

const createVideoCall = async (doctorId, patientId, scheduledTime) => {
  try {
    const response = await fetch('/api/v1/video/video-calls/', {
      method: 'POST',
      headers: {
        'Content-Type': 'application/json',
        'Authorization': `Bearer ${yourAuthToken}`
      },
      body: JSON.stringify({
        doctor: doctorId,
        patient: patientId,
        scheduled_time: scheduledTime
      })
    });

    if (!response.ok) {
      const error = await response.json();
      throw new Error(error.error || 'Failed to create video call');
    }

    return await response.json();
  } catch (error) {
    console.error('Error creating video call:', error);
    throw error;
  }
};

const joinVideoCall = async (callId) => {
  try {
    const response = await fetch(`/api/v1/video/video-calls/${callId}/join/`, {
      method: 'POST',
      headers: {
        'Authorization': `Bearer ${yourAuthToken}`
      }
    });

    if (!response.ok) {
      const error = await response.json();
      throw new Error(error.error || 'Failed to join video call');
    }

    const { channel_name, token, uid } = await response.json();

    // Initialize Agora client
    const client = AgoraRTC.createClient({ mode: 'rtc', codec: 'vp8' });
    await client.join(AGORA_APP_ID, channel_name, token, uid);

    // ... handle video streaming

    return client;
  } catch (error) {
    console.error('Error joining video call:', error);
    throw error;
  }
};

const endVideoCall = async (callId) => {
  try {
    const response = await fetch(`/api/v1/video/video-calls/${callId}/end/`, {
      method: 'POST',
      headers: {
        'Authorization': `Bearer ${yourAuthToken}`
      }
    });

    if (!response.ok) {
      const error = await response.json();
      throw new Error(error.error || 'Failed to end video call');
    }

    return await response.json();
  } catch (error) {
    console.error('Error ending video call:', error);
    throw error;
  }
};

const cancelVideoCall = async (callId) => {
  try {
    const response = await fetch(`/api/v1/video/video-calls/${callId}/cancel/`, {
      method: 'POST',
      headers: {
        'Authorization': `Bearer ${yourAuthToken}`
      }
    });

    if (!response.ok) {
      const error = await response.json();
      throw new Error(error.error || 'Failed to cancel video call');
    }

    return await response.json();
  } catch (error) {
    console.error('Error cancelling video call:', error);
    throw error;
  }
};
