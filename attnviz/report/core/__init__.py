"""The document that every format is written from, and what all pages share."""
