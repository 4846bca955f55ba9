"""The operations of the control API, a module for each thing that they are about."""
