use cai_data::seed::Seed;

/// How one forward pass over a batch is to be done. The default is evaluation: nothing random,
/// nothing recomputed.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Where dropout masks and noise come from; `None` switches them off. Masks depend on this and
    /// on the projection's name alone, so that a layer computed twice sees the same mask.
    pub seed: Option<Seed>,
    /// Whether the backward pass computes each layer again and does not keep its activations.
    pub recompute: bool,
    /// Strength of the noise on embeddings (NEFTune, arXiv 2310.05914); 0 switches it off.
    pub neftune_alpha: f64,
}
