"""Images, video and files: decoding, preprocessing, atomic writes."""
