//! The operations between matrix products, each behind one function.
//!
//! Each has a reference in Burn's operations, which runs on every device, and a fused version for
//! f32 on CPU: one pass over memory, all cores, backward written by hand. Files: one per operation,
//! its maths at the top.

mod attention;
mod cpu;
mod few;
mod geglu;
mod linear;
mod matrix;
mod norm;
mod rope;
mod score;
#[cfg(test)]
mod testing;
mod visibility;

pub use attention::attention;
pub use geglu::geglu;
pub use linear::{linear, lora_linear};
pub use norm::rms_norm;
pub use rope::rotate;
pub use score::{RowScore, score_rows};
pub use visibility::{Seen, Visibility};
