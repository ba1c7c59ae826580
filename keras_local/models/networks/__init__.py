"""The networks of the papers; their public names are those of `models.reference`."""
