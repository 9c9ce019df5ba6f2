"""One file per question: pure functions of maps and records, and the studies made of them."""
