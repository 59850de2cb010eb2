//! From tokens to the numbers of a completion, and from a loss back to a weight per token.

use super::{Completion, PairLoss};

impl Completion {
    /// The numbers of a completion whose tokens have these log-probabilities under the policy;
    /// `log_sum_squares` is `log Σ_v π(v)²` for each. Tokens beyond the `shared` first ones count
    /// `ld_alpha` times (LD-DPO, arXiv 2409.06411, equation 10), if given.
    pub fn from_tokens(
        logps: &[f32],
        log_sum_squares: &[f32],
        shared: usize,
        ld_alpha: Option<f64>,
    ) -> Self {
        let (head, tail) = logps.split_at(shared);
        let whole = sum(logps);
        let policy = match ld_alpha {
            Some(alpha) => sum(head) + alpha * sum(tail),
            None => whole,
        };
        let tokens = logps.len();
        let alignment = (whole - sum(log_sum_squares)) / tokens.max(1) as f64;
        Self { policy, reference: 0.0, nll: -whole, tokens, alignment }
    }
}

impl PairLoss {
    /// The derivative with respect to the log-probability of each token of the chosen and of the
    /// rejected completion, which have these numbers of tokens.
    pub fn token_weights(
        &self,
        chosen_tokens: usize,
        rejected_tokens: usize,
        ld_alpha: Option<f64>,
    ) -> [Vec<f32>; 2] {
        let shared = chosen_tokens.min(rejected_tokens);
        let side = |tokens: usize, slope: f64, slope_nll: f64| {
            let mut weights = vec![(slope - slope_nll) as f32; shared];
            weights.resize(tokens, (slope * ld_alpha.unwrap_or(1.0) - slope_nll) as f32);
            weights
        };
        [
            side(chosen_tokens, self.slope_chosen, self.slope_nll),
            side(rejected_tokens, self.slope_rejected, self.slope_nll_rejected),
        ]
    }
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&x| x as f64).sum()
}
