"""The processes that run a submission, and what they say to each other."""
