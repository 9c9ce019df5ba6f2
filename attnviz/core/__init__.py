"""Plain data that every package uses: records, results, token layout, intervals, model state, registry."""
