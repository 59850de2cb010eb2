//! Learning rate as a function of the step, as in transformers' `get_scheduler`.

use serde::{Deserialize, Serialize};

/// The shape of the learning rate after warm-up.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum LrSchedulerType {
    /// Straight down to 0 at the last step.
    #[default]
    Linear,
    /// Half a cosine down to 0 at the last step.
    Cosine,
    /// Half a cosine down to `min_lr_rate` of the peak.
    CosineWithMinLr,
    /// Half a cosine down to 0, `num_cycles` times.
    CosineWithRestarts,
    /// The peak until the last `decay_ratio` of the steps, then half a cosine down to 0.
    WarmupStableDecay,
    /// The same rate at every step, without warm-up.
    Constant,
    /// Warm-up, then the same rate at every step.
    ConstantWithWarmup,
}

/// A learning rate for every step of a run.
#[derive(Clone, Debug, PartialEq)]
pub struct Schedule {
    /// The shape after warm-up.
    pub kind: LrSchedulerType,
    /// The rate at the end of warm-up.
    pub peak: f64,
    /// Steps of linear rise from 0.
    pub warmup: usize,
    /// Steps of the run.
    pub total: usize,
    /// Final share of the peak; used by `cosine_with_min_lr` alone.
    pub min_lr_rate: f64,
    /// Cosines; used by `cosine_with_restarts` alone.
    pub num_cycles: usize,
    /// Steps of the decline; used by `warmup_stable_decay` alone.
    pub decay: usize,
}

impl Schedule {
    /// The rate of the update after `step` updates; the first has `step` 0. With warm-up its rate
    /// is therefore 0, as in transformers.
    pub fn rate(&self, step: usize) -> f64 {
        self.peak * self.share(step)
    }

    fn share(&self, step: usize) -> f64 {
        use LrSchedulerType::*;
        if step < self.warmup && self.kind != Constant {
            return step as f64 / self.warmup as f64;
        }
        let decay = self.total.saturating_sub(self.warmup).max(1) as f64;
        let progress = (step.saturating_sub(self.warmup) as f64 / decay).min(1.0);
        let half_cosine = |progress: f64| 0.5 * (1.0 + (std::f64::consts::PI * progress).cos());
        let cosine = half_cosine(progress);
        match self.kind {
            Linear => 1.0 - progress,
            Cosine => cosine,
            CosineWithMinLr => cosine * (1.0 - self.min_lr_rate) + self.min_lr_rate,
            CosineWithRestarts if progress >= 1.0 => 0.0,
            CosineWithRestarts => half_cosine((self.num_cycles as f64 * progress).fract()),
            WarmupStableDecay => {
                let start = self.total.saturating_sub(self.decay).max(self.warmup);
                let length = self.total.saturating_sub(start).max(1) as f64;
                half_cosine((step.saturating_sub(start) as f64 / length).min(1.0))
            }
            Constant | ConstantWithWarmup => 1.0,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rates(kind: LrSchedulerType, warmup: usize) -> Vec<f64> {
        let schedule = Schedule {
            kind,
            peak: 2.0,
            warmup,
            total: 6,
            min_lr_rate: 0.1,
            num_cycles: 2,
            decay: 2,
        };
        (0..7).map(|step| schedule.rate(step)).collect()
    }

    fn assert_close(got: &[f64], want: &[f64]) {
        assert_eq!(got.len(), want.len());
        for (got, want) in got.iter().zip(want) {
            assert!((got - want).abs() < 1e-12, "{got} is not {want}");
        }
    }

    #[test]
    fn values_are_those_of_transformers() {
        use LrSchedulerType::*;
        assert_close(&rates(Linear, 2), &[0.0, 1.0, 2.0, 1.5, 1.0, 0.5, 0.0]);
        let half = std::f64::consts::FRAC_1_SQRT_2;
        let cosine = [0.0, 1.0, 2.0, 1.0 + half, 1.0, 1.0 - half, 0.0];
        assert_close(&rates(Cosine, 2), &cosine);
        let floored = [0.0, 1.0, 2.0, 1.1 + 0.9 * half, 1.1, 1.1 - 0.9 * half, 0.2];
        assert_close(&rates(CosineWithMinLr, 2), &floored);
        assert_close(&rates(CosineWithRestarts, 2), &[0.0, 1.0, 2.0, 1.0, 2.0, 1.0, 0.0]);
        assert_close(&rates(WarmupStableDecay, 2), &[0.0, 1.0, 2.0, 2.0, 2.0, 1.0, 0.0]);
        assert_close(&rates(Constant, 0), &[2.0; 7]);
        assert_close(&rates(ConstantWithWarmup, 4), &[0.0, 0.5, 1.0, 1.5, 2.0, 2.0, 2.0]);
        assert_close(&rates(Linear, 0)[..2], &[2.0, 2.0 * 5.0 / 6.0]);
    }

    #[test]
    fn names_are_those_of_transformers() {
        let name = serde_json::to_string(&LrSchedulerType::CosineWithMinLr).unwrap();
        assert_eq!(name, "\"cosine_with_min_lr\"");
    }
}
