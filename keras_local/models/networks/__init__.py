"""The networks of the papers. Their public names are those of `keras_local.models.reference`."""
