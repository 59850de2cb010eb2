use cai_data::seed::Seed;

/// How one forward pass is run. The default is that of inference.
#[derive(Clone, Copy, Debug, Default)]
pub struct Pass {
    /// Where a training pass draws its random numbers from. Each draw derives its own seed by name
    /// (layer, projection), so that a layer that is run again sees the same numbers.
    pub seed: Option<Seed>,
    /// Keep only the input of each layer and run the layers again in the backward pass.
    pub recompute: bool,
    /// Strength of the noise on embeddings (NEFTune, arXiv 2310.05914); 0 means none.
    pub neftune_alpha: f64,
}
