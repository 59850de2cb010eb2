//! The operations between matrix products, each behind one function so that a fused version can
//! take its place.

mod attention;
mod geglu;
mod norm;
mod visibility;

pub use attention::attention;
pub use geglu::geglu;
pub use norm::rms_norm;
pub use visibility::{Seen, Visibility};
