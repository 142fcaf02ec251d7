"""What readers judged, as training data: collected from the store, screened, settled, split and written."""
