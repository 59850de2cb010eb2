//! Texts as sparse vectors of TF-IDF-weighted word and character n-grams.

use std::collections::HashMap;

use rayon::prelude::*;
use serde::{Deserialize, Serialize};

use crate::text::tokens;

/// What is counted in a text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FeatureConfig {
    /// Longest word n-gram.
    pub word_ngrams: usize,
    /// Shortest and longest character n-gram, within words that are padded with a space each side.
    pub char_ngrams: [usize; 2],
    /// Texts that an n-gram must occur in to count.
    pub min_df: usize,
    /// Parts a dialogue from the reply to it. The reply's words are counted a second time, apart.
    pub separator: Option<String>,
}

impl Default for FeatureConfig {
    fn default() -> Self {
        let separator = Some("[SEP]".into());
        Self { word_ngrams: 2, char_ngrams: [2, 5], min_df: 2, separator }
    }
}

/// Kinds of n-gram: each has weights of its own and is scaled to length 1 on its own.
const BLOCKS: usize = 3;
const WORDS: usize = 0;
const PIECES: usize = 1;
const REPLY: usize = 2;

/// Rows of (column, value), columns ascending.
#[derive(Clone, Debug, Default)]
pub(crate) struct Sparse {
    /// Where each row begins in `entries`; one more than rows.
    pub starts: Vec<usize>,
    /// Column and value.
    pub entries: Vec<(u32, f32)>,
}

impl Sparse {
    /// Puts rows together.
    pub fn new(rows: Vec<Vec<(u32, f32)>>) -> Self {
        let mut starts = vec![0];
        let mut entries = Vec::with_capacity(rows.iter().map(Vec::len).sum());
        for row in rows {
            entries.extend(row);
            starts.push(entries.len());
        }
        Self { starts, entries }
    }

    /// Number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// The entries of row `i`.
    pub fn row(&self, i: usize) -> &[(u32, f32)] {
        &self.entries[self.starts[i]..self.starts[i + 1]]
    }

    /// Rows become columns.
    pub fn transposed(&self, columns: usize) -> Self {
        let mut starts = vec![0; columns + 1];
        for &(column, _) in &self.entries {
            starts[column as usize + 1] += 1;
        }
        for column in 0..columns {
            starts[column + 1] += starts[column];
        }
        let mut next = starts.clone();
        let mut entries = vec![(0, 0.0); self.entries.len()];
        for row in 0..self.rows() {
            for &(column, value) in self.row(row) {
                entries[next[column as usize]] = (row as u32, value);
                next[column as usize] += 1;
            }
        }
        Self { starts, entries }
    }
}

/// Turns folded texts into sparse vectors: `(1 + ln count) · idf`, each kind of n-gram scaled to
/// length 1, with `idf = 1 + ln((1 + texts) / (1 + texts with it))`, as in scikit-learn.
#[derive(Clone, Debug)]
pub struct Vectoriser {
    config: FeatureConfig,
    /// Folded, as it stands in folded texts.
    separator: Option<String>,
    columns: HashMap<u64, u32>,
    /// The n-grams' hashes in the order of the columns, ascending.
    hashes: Vec<u64>,
    idf: Vec<f32>,
}

impl Vectoriser {
    /// Learns which n-grams occur in `folded` texts and how rare they are.
    pub fn fit(folded: &[String], config: &FeatureConfig) -> Self {
        let bare = Self::from_parts(config.clone(), Vec::new(), Vec::new());
        let counted: Vec<Vec<u64>> = folded
            .par_iter()
            .map(|text| bare.counts(text).iter().flat_map(|block| block.keys().copied()).collect())
            .collect();
        let mut texts_with: HashMap<u64, u32> = HashMap::new();
        for hash in counted.into_iter().flatten() {
            *texts_with.entry(hash).or_default() += 1;
        }
        let mut kept: Vec<(u64, u32)> =
            texts_with.into_iter().filter(|&(_, df)| df as usize >= config.min_df).collect();
        kept.sort_unstable();
        let idf = |df: u32| (1.0 + ((1 + folded.len()) as f64 / f64::from(1 + df)).ln()) as f32;
        let (hashes, idf) = kept.into_iter().map(|(hash, df)| (hash, idf(df))).unzip();
        Self::from_parts(config.clone(), hashes, idf)
    }

    /// A vectoriser with these n-grams, as another one had them.
    pub(crate) fn from_parts(config: FeatureConfig, hashes: Vec<u64>, idf: Vec<f32>) -> Self {
        let columns = hashes.iter().enumerate().map(|(i, &hash)| (hash, i as u32)).collect();
        let separator = config.separator.as_deref().map(crate::text::fold);
        let separator = separator.filter(|separator| !separator.is_empty());
        Self { config, separator, columns, hashes, idf }
    }

    /// Number of n-grams.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether no n-gram is known.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    pub(crate) fn config(&self) -> &FeatureConfig {
        &self.config
    }

    pub(crate) fn hashes(&self) -> &[u64] {
        &self.hashes
    }

    pub(crate) fn idf(&self) -> &[f32] {
        &self.idf
    }

    /// The vector of one folded text; unknown n-grams do not count.
    pub(crate) fn row(&self, folded: &str) -> Vec<(u32, f32)> {
        let mut row = Vec::new();
        for block in self.counts(folded) {
            let start = row.len();
            for (hash, count) in block {
                if let Some(&column) = self.columns.get(&hash) {
                    row.push((column, (1.0 + (count as f32).ln()) * self.idf[column as usize]));
                }
            }
            // Sorted before it is summed: a hash map's order differs from run to run.
            row[start..].sort_unstable_by_key(|&(column, _)| column);
            let length = row[start..].iter().map(|&(_, value)| value * value).sum::<f32>().sqrt();
            for (_, value) in &mut row[start..] {
                *value /= length.max(f32::MIN_POSITIVE);
            }
        }
        row.sort_unstable_by_key(|&(column, _)| column);
        row
    }

    /// How many of the words of a folded text are known, and how many there are.
    pub(crate) fn known_words(&self, folded: &str) -> (usize, usize) {
        let tokens = tokens(folded);
        let known =
            |word: &&&str| self.columns.contains_key(&hash(WORDS, word.chars().chain([' '])));
        (tokens.iter().filter(known).count(), tokens.len())
    }

    /// The vectors of many folded texts.
    pub(crate) fn rows(&self, folded: &[String]) -> Sparse {
        Sparse::new(folded.par_iter().map(|text| self.row(text)).collect())
    }

    fn counts(&self, folded: &str) -> [HashMap<u64, u32>; BLOCKS] {
        let mut counts: [HashMap<u64, u32>; BLOCKS] = Default::default();
        self.count_words(folded, WORDS, &mut counts[WORDS]);
        let [shortest, longest] = self.config.char_ngrams;
        for word in folded.split_whitespace() {
            let padded: Vec<char> =
                std::iter::once(' ').chain(word.chars()).chain(std::iter::once(' ')).collect();
            for length in shortest..=longest.min(padded.len()) {
                for piece in padded.windows(length) {
                    *counts[PIECES].entry(hash(PIECES, piece.iter().copied())).or_default() += 1;
                }
            }
        }
        let reply = self.separator.as_ref().and_then(|separator| folded.split_once(separator));
        if let Some((_, reply)) = reply {
            self.count_words(reply, REPLY, &mut counts[REPLY]);
        }
        counts
    }

    fn count_words(&self, text: &str, block: usize, counts: &mut HashMap<u64, u32>) {
        let tokens = tokens(text);
        for length in 1..=self.config.word_ngrams.min(tokens.len()) {
            for words in tokens.windows(length) {
                let spelled = words.iter().flat_map(|word| word.chars().chain([' ']));
                *counts.entry(hash(block, spelled)).or_default() += 1;
            }
        }
    }
}

/// FNV-1a over the letters, then mixed, so that equal n-grams of different kinds differ. With 64
/// bits, two of a million n-grams share a hash once in 40 million vocabularies.
fn hash(block: usize, letters: impl Iterator<Item = char>) -> u64 {
    let mut hash = 0xcbf2_9ce4_8422_2325 ^ block as u64;
    for letter in letters {
        hash = (hash ^ u64::from(u32::from(letter))).wrapping_mul(0x0000_0100_0000_01b3);
    }
    hash ^= hash >> 32;
    hash = hash.wrapping_mul(0xd6e8_feb8_6659_fd93);
    hash ^ (hash >> 32)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts() -> Vec<String> {
        ["bake the bread", "bake the cake", "eat the bread [sep] no bread"].map(String::from).into()
    }

    #[test]
    fn each_kind_has_length_one_and_rare_ngrams_are_left_out() {
        let config = FeatureConfig { char_ngrams: [3, 3], ..Default::default() };
        let vectoriser = Vectoriser::fit(&texts(), &config);
        let row = vectoriser.row("bake the bread");
        let squares: f32 = row.iter().map(|(_, value)| value * value).sum();
        // Words and pieces; there is no reply.
        assert!((squares - 2.0).abs() < 1e-5, "{squares}");
        assert!(vectoriser.row("zzz").is_empty() && vectoriser.row("").is_empty());
        assert!(row.is_sorted_by_key(|&(column, _)| column));
    }

    #[test]
    fn a_reply_is_counted_apart() {
        let config = FeatureConfig { min_df: 1, ..Default::default() };
        let vectoriser = Vectoriser::fit(&texts(), &config);
        let squares: f32 = vectoriser.row(&texts()[2]).iter().map(|(_, value)| value * value).sum();
        assert!((squares - 3.0).abs() < 1e-5, "{squares}");
    }

    #[test]
    fn transposing_twice_gives_the_same() {
        let rows = vec![vec![(0, 1.0), (2, 2.0)], vec![], vec![(2, 3.0)]];
        let sparse = Sparse::new(rows);
        let back = sparse.transposed(3).transposed(3);
        assert_eq!((back.starts, back.entries), (sparse.starts, sparse.entries));
    }
}
