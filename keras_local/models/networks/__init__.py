"""The networks of the papers; their public names are in `keras_local.models.reference`."""
