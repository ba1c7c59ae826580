"""Linear maps whose errors return by a feedback rule, one family a file."""
