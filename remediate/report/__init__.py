"""What people and programs are shown of a run: live lines, the run report and its JSON."""
