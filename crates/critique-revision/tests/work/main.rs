//! Critique, revision and feedback from end to end, with models that have learnt nothing.

mod common;
mod critique;
mod feedback;
mod hostile;
mod live;
mod server;
mod shards;
