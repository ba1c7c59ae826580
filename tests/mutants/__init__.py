"""Changes lines of the package one at a time, and asks the tests whether they notice."""
