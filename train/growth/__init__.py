"""Growing a model in depth in the middle of its training, ours or anyone's."""
