"""Backends of our own LIF and ParaLIF: one module each, one equation."""
