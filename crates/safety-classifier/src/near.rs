//! Texts that are nearly the same: MinHash finds candidates, their shared pieces decide.
//!
//! Broder, "On the resemblance and containment of documents" (1997); bands of hash values make
//! near-duplicates meet in a bucket with high probability (Leskovec, Rajaraman and Ullman, Mining
//! of Massive Datasets, section 3.4).

use std::collections::HashMap;

use cai_data::text::normalise;
use rayon::prelude::*;

/// Letters in a piece.
const PIECE: usize = 5;
/// Bands of a signature. Two texts with Jaccard similarity s meet with probability
/// `1 − (1 − s^ROWS)^BANDS`: 0.999 at 0.8, 0.2 at 0.3.
const BANDS: usize = 24;
const ROWS: usize = 4;
/// A bucket with more texts is compared with its first ones only: boilerplate, not duplicates.
const LARGEST_BUCKET: usize = 200;

/// For each text the first text that it is a near-duplicate of, directly or through others; its own
/// position if there is none. Texts count as near-duplicates when the sets of five-letter pieces of
/// their normalised forms overlap by `threshold` or more (Jaccard).
pub fn clusters(texts: &[&str], threshold: f64) -> Vec<usize> {
    let pieces: Vec<Vec<u32>> = texts.par_iter().map(|text| pieces(text)).collect();
    let signatures: Vec<[u64; BANDS]> = pieces.par_iter().map(|set| signature(set)).collect();
    let mut parent: Vec<usize> = (0..texts.len()).collect();
    for band in 0..BANDS {
        let mut buckets: HashMap<u64, Vec<usize>> = HashMap::new();
        for (i, signature) in signatures.iter().enumerate() {
            let bucket = buckets.entry(signature[band]).or_default();
            for &other in &*bucket {
                if root(&mut parent, other) != root(&mut parent, i)
                    && jaccard(&pieces[i], &pieces[other]) >= threshold
                {
                    let (a, b) = (root(&mut parent, other), root(&mut parent, i));
                    parent[a.max(b)] = a.min(b);
                }
            }
            if bucket.len() < LARGEST_BUCKET {
                bucket.push(i);
            }
        }
    }
    (0..texts.len()).map(|i| root(&mut parent, i)).collect()
}

/// The representative of `i`, with the path to it shortened.
fn root(parent: &mut [usize], mut i: usize) -> usize {
    while parent[i] != i {
        parent[i] = parent[parent[i]];
        i = parent[i];
    }
    i
}

/// Hashes of the pieces, ascending, each once. A text shorter than a piece is one piece.
fn pieces(text: &str) -> Vec<u32> {
    let letters: Vec<char> = normalise(text).chars().collect();
    let hash = |piece: &[char]| {
        let mix = |hash: u32, c: &char| (hash ^ u32::from(*c)).wrapping_mul(0x0100_0193);
        scramble(piece.iter().fold(0x811c_9dc5, mix).into(), 0) as u32
    };
    let mut hashes: Vec<u32> = match letters.len() < PIECE {
        true => vec![hash(&letters)],
        false => letters.windows(PIECE).map(hash).collect(),
    };
    hashes.sort_unstable();
    hashes.dedup();
    hashes
}

fn signature(pieces: &[u32]) -> [u64; BANDS] {
    std::array::from_fn(|band| {
        (0..ROWS).fold(band as u64, |hash, row| {
            let salt = (band * ROWS + row) as u64 + 1;
            let least = pieces.iter().map(|&piece| scramble(piece.into(), salt)).min();
            scramble(hash ^ least.unwrap_or(0), salt)
        })
    })
}

/// The finaliser of SplitMix64.
fn scramble(value: u64, salt: u64) -> u64 {
    let mut x = value.wrapping_add(salt.wrapping_mul(0x9e37_79b9_7f4a_7c15));
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

fn jaccard(a: &[u32], b: &[u32]) -> f64 {
    let (mut i, mut j, mut shared) = (0, 0, 0usize);
    while i < a.len() && j < b.len() {
        match a[i].cmp(&b[j]) {
            std::cmp::Ordering::Less => i += 1,
            std::cmp::Ordering::Greater => j += 1,
            std::cmp::Ordering::Equal => (i, j, shared) = (i + 1, j + 1, shared + 1),
        }
    }
    shared as f64 / (a.len() + b.len() - shared) as f64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn near_duplicates_meet_and_others_do_not() {
        let texts = [
            "You should always take the rubbish out on a Thursday evening, before nine.",
            "The river was high and the bridge was closed to everyone but the farmers.",
            "you should always take the rubbish out on a Thursday evening, before nine!!",
            "RT: You should always take the rubbish out on a Thursday evening, before nine",
            "Nothing like the others.",
            "",
            "ok",
        ];
        assert_eq!(clusters(&texts, 0.8), [0, 1, 0, 0, 4, 5, 6]);
        assert_eq!(clusters(&[], 0.8), Vec::<usize>::new());
    }
}
