"""What touches Agora's platform: the credentials of a project, minting tokens, reading notifications."""
