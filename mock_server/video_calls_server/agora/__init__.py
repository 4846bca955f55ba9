"""What touches Agora's platform: the credentials of an Agora project, and minting tokens with them."""
