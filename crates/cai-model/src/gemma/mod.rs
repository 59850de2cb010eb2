//! Gemma 1, 2 and 3 (text): one decoder whose parts are switched on by the config.

mod attention;
mod cache;
mod config;
mod layer;
mod linear;
mod mlp;
mod model;
mod noise;
mod norm;
mod pass;
mod presets;
mod replay;
mod rope;
mod source;
mod weight;

pub use attention::Attention;
pub use cache::KvCache;
pub use config::{Activation, GemmaConfig, LayerKind, RopeConfig, Variant};
pub use layer::DecoderLayer;
pub use linear::Linear;
pub use mlp::Mlp;
pub use model::{Embedding, Gemma, GemmaModel};
pub use norm::RmsNorm;
pub use pass::Pass;
pub use presets::{PRESETS, preset};
pub use replay::Replay;
pub use source::{RandomInit, TensorSource, param};
pub use weight::Weight;
