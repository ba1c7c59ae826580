"""The command `keras-local`: experiments as data, what runs them, and their reports."""
