"""What the dispatcher's lines mean: intake, decision, locks, phases and records of one run."""
