"""Recurrent layers whose errors return by feedback rules, in space and in time."""
