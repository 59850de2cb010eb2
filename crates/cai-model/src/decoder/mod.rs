//! A causal decoder that obeys a [`DecoderSpec`]: what tells one family from another is data.

mod attention;
mod cache;
mod contexts;
mod embedding;
mod experts;
mod layer;
mod linear;
mod mlp;
mod model;
mod noise;
mod norm;
mod pass;
mod per_layer;
mod projections;
mod replay;
mod rope;
mod source;
mod spec;
mod weight;

pub use attention::Attention;
pub use cache::KvCache;
pub use embedding::{Embedding, Head, TrainedRows};
pub use experts::{Experts, Router};
pub use layer::{DecoderLayer, Mixture};
pub use linear::Linear;
pub use mlp::Mlp;
pub use model::{Decoder, DecoderModel};
pub use norm::RmsNorm;
pub use pass::Pass;
pub use per_layer::{PerLayerBlock, PerLayerEmbedding};
pub use replay::Replay;
pub use rope::{RopeScaling, RopeSpec};
pub use source::{RandomInit, TensorSource, param};
pub use spec::{
    AttentionSpec, DecoderSpec, ExpertsSpec, KeysValues, LayerSpec, NormSpec, PerLayerInputs,
};
pub use weight::Weight;
