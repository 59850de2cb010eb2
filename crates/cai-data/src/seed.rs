//! Reproducible randomness: one seed per run, from which every other is derived by name.
//!
//! Deriving by name and index, and not by drawing from one stream, keeps a draw the same when work
//! before it is skipped, reordered or resumed.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

/// Where random draws come from.
#[derive(Copy, Clone, Debug, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Seed(pub u64);

impl Seed {
    /// The seed for the part of the work that `label` names.
    pub fn derive(self, label: &str) -> Seed {
        Seed(first_u64(self.digest(b"label", label.as_bytes())))
    }

    /// The seed for item `i` of the work.
    pub fn index(self, i: u64) -> Seed {
        Seed(first_u64(self.digest(b"index", &i.to_le_bytes())))
    }

    /// A generator that starts at this seed. The same on every machine.
    pub fn rng(self) -> ChaCha8Rng {
        ChaCha8Rng::from_seed(self.digest(b"start", &[]))
    }

    /// SHA-256 of purpose, seed and data. Purposes have one length, so no two inputs collide.
    fn digest(self, purpose: &[u8; 5], data: &[u8]) -> [u8; 32] {
        let mut hasher = Sha256::new();
        hasher.update(purpose);
        hasher.update(self.0.to_le_bytes());
        hasher.update(data);
        hasher.finalize().into()
    }
}

/// `count` draws of N(0, std²) by the Box–Muller transform.
pub fn gaussian(count: usize, std: f64, seed: Seed) -> Vec<f32> {
    let mut rng = seed.rng();
    let pair = |rng: &mut ChaCha8Rng| {
        let radius = (-2.0 * (1.0 - rng.random::<f64>()).ln()).sqrt() * std;
        let angle = std::f64::consts::TAU * rng.random::<f64>();
        [(radius * angle.cos()) as f32, (radius * angle.sin()) as f32]
    };
    let mut draws: Vec<f32> = (0..count.div_ceil(2)).flat_map(|_| pair(&mut rng)).collect();
    draws.truncate(count);
    draws
}

fn first_u64(digest: [u8; 32]) -> u64 {
    let [a, b, c, d, e, f, g, h, ..] = digest;
    u64::from_le_bytes([a, b, c, d, e, f, g, h])
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand_chacha::rand_core::Rng;
    use std::collections::HashSet;

    #[test]
    fn derived_seeds_differ_and_repeat() {
        let seed = Seed(7);
        let mut seen = HashSet::from([seed]);
        for i in 0..1000 {
            assert!(seen.insert(seed.index(i)));
            assert!(seen.insert(seed.derive(&i.to_string())));
            assert_eq!(seed.index(i), Seed(7).index(i));
        }
        assert_ne!(Seed(7).derive("a"), Seed(8).derive("a"));
    }

    #[test]
    fn the_stream_is_pinned() {
        // Outputs of earlier runs depend on these values: a change is a change of format.
        assert_eq!(Seed(42).derive("sft").0, 11_555_559_216_293_756_307);
        assert_eq!(Seed(42).index(3).0, 6_721_435_351_117_923_516);
        assert_eq!(Seed(42).rng().next_u64(), 2_779_574_053_825_997_405);
    }
}
