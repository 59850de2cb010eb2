//! Stage 3A: critique and revision against a constitution, and AI feedback.
