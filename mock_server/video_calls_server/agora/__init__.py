"""Agora: minting tokens, channel names, and reading Agora's notifications."""
