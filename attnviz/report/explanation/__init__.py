"""The report of one image or clip: HTML, PNG, JSON and GIF."""
