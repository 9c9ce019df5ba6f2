"""Parts that all reports share: the document, colours, formatting and templates."""
