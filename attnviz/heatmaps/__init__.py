"""From a record to a heatmap on the image plane."""
