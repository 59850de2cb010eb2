//! A flag that asks the loop to save a checkpoint and stop.
//!
//! The program's ctrl-c handler sets it; the loop looks at it after each step.

use std::sync::atomic::{AtomicBool, Ordering};

static REQUESTED: AtomicBool = AtomicBool::new(false);

/// Asks all long work in this process to save and stop.
pub fn request() {
    REQUESTED.store(true, Ordering::SeqCst);
}

/// Whether [`request`] was called.
pub fn requested() -> bool {
    REQUESTED.load(Ordering::SeqCst)
}

/// Withdraws the request, so that the same process can train again.
pub fn clear() {
    REQUESTED.store(false, Ordering::SeqCst);
}
