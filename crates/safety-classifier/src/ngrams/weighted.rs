//! Texts as sparse vectors of weighted word and character n-grams.

use std::collections::HashMap;
use std::path::Path;

use cai_data::atomic;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::sparse::Sparse;
use crate::error::{Error, Result};
use crate::text::tokens;

/// What is counted in a text, and how it is weighted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct NgramConfig {
    /// Longest word n-gram.
    pub word_ngrams: usize,
    /// Shortest and longest character n-gram, within words that are padded with a space each side.
    pub char_ngrams: [usize; 2],
    /// Texts that an n-gram must occur in to count.
    pub min_df: usize,
    /// Parts a dialogue from the reply to it. The reply's words are counted a second time, apart.
    pub separator: Option<String>,
    /// Added to every count before the log-count ratio is taken.
    pub smoothing: f64,
    /// Largest log-count ratio of an n-gram.
    pub max_ratio: f64,
}

impl Default for NgramConfig {
    fn default() -> Self {
        Self {
            word_ngrams: 2,
            char_ngrams: [2, 5],
            min_df: 2,
            separator: Some("[SEP]".into()),
            smoothing: 0.5,
            max_ratio: 4.0,
        }
    }
}

/// Where the header of the file keeps the settings.
const SETTINGS: &str = "ngrams";
/// Kinds of n-gram: each has weights of its own and is scaled to length 1 on its own.
const BLOCKS: usize = 3;
const WORDS: usize = 0;
const PIECES: usize = 1;
const REPLY: usize = 2;

/// Turns folded texts into sparse vectors: `(1 + ln count) · idf`, each kind of n-gram scaled to
/// length 1, with `idf = 1 + ln((1 + texts) / (1 + texts with it))`, as in scikit-learn; then times how
/// much the n-gram tells the classes apart (see [`log_count_ratios`]).
#[derive(Clone, Debug)]
pub struct Ngrams {
    config: NgramConfig,
    /// Folded, as it stands in folded texts.
    separator: Option<String>,
    columns: HashMap<u64, u32>,
    /// The n-grams' hashes in the order of the columns, ascending.
    hashes: Vec<u64>,
    idf: Vec<f32>,
    ratios: Vec<f32>,
}

impl Ngrams {
    /// Learns which n-grams occur in `folded` texts, how rare they are and what they tell about the
    /// texts' classes: `members[i]` are those of text i.
    pub fn fit(
        folded: &[String],
        members: &[Vec<usize>],
        n_classes: usize,
        config: &NgramConfig,
    ) -> Self {
        let bare = Self::from_parts(config.clone(), Vec::new(), Vec::new(), Vec::new());
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
        let (hashes, idf): (Vec<u64>, Vec<f32>) =
            kept.into_iter().map(|(hash, df)| (hash, idf(df))).unzip();
        let ratios = vec![1.0; hashes.len()];
        let mut ngrams = Self::from_parts(config.clone(), hashes, idf, ratios);
        let rows = ngrams.rows(folded);
        ngrams.ratios = log_count_ratios(&rows, ngrams.len(), members, n_classes, config);
        ngrams
    }

    fn from_parts(config: NgramConfig, hashes: Vec<u64>, idf: Vec<f32>, ratios: Vec<f32>) -> Self {
        let columns = hashes.iter().enumerate().map(|(i, &hash)| (hash, i as u32)).collect();
        let separator = config.separator.as_deref().map(crate::text::fold);
        let separator = separator.filter(|separator| !separator.is_empty());
        Self { config, separator, columns, hashes, idf, ratios }
    }

    /// Number of n-grams.
    pub fn len(&self) -> usize {
        self.hashes.len()
    }

    /// Whether no n-gram is known.
    pub fn is_empty(&self) -> bool {
        self.hashes.is_empty()
    }

    /// Writes them as safetensors, their settings in the header.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: safetensors::SafeTensorError| wrong(path, error.to_string());
        let n = vec![self.len()];
        let hashes: Vec<u8> = self.hashes.iter().flat_map(|hash| hash.to_le_bytes()).collect();
        let (idf, ratios) = (bytes(&self.idf), bytes(&self.ratios));
        let tensors = [
            ("hashes", TensorView::new(Dtype::U64, n.clone(), &hashes).map_err(failed)?),
            ("idf", TensorView::new(Dtype::F32, n.clone(), &idf).map_err(failed)?),
            ("ratios", TensorView::new(Dtype::F32, n, &ratios).map_err(failed)?),
        ];
        let config =
            serde_json::to_string(&self.config).map_err(|error| wrong(path, error.to_string()))?;
        let header = Some([(SETTINGS.to_string(), config)].into());
        let file = safetensors::serialize(tensors, header).map_err(failed)?;
        Ok(atomic::write(path, &file)?)
    }

    /// Reads what [`Ngrams::save`] wrote.
    ///
    /// # Errors
    /// When the file is missing or damaged.
    pub fn load(path: &Path) -> Result<Self> {
        let file = std::fs::read(path).map_err(cai_data::Error::read(path))?;
        parse(&file).map_err(|problem| wrong(path, problem))
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
            for (column, value) in &mut row[start..] {
                *value *= self.ratios[*column as usize] / length.max(f32::MIN_POSITIVE);
            }
        }
        row.sort_unstable_by_key(|&(column, _)| column);
        row
    }

    /// Share of the words of a folded text that are not among the n-grams; 0 without words.
    pub fn unknown_words(&self, folded: &str) -> f64 {
        let tokens = tokens(folded);
        let unknown =
            |word: &&&str| !self.columns.contains_key(&hash(WORDS, word.chars().chain([' '])));
        tokens.iter().filter(unknown).count() as f64 / tokens.len().max(1) as f64
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

fn parse(file: &[u8]) -> std::result::Result<Ngrams, String> {
    let said = |error: safetensors::SafeTensorError| error.to_string();
    let (_, header) = SafeTensors::read_metadata(file).map_err(said)?;
    let header = header.metadata().as_ref().and_then(|fields| fields.get(SETTINGS));
    let config = header.ok_or("the header has no settings of the n-grams")?;
    let config: NgramConfig = serde_json::from_str(config).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(file).map_err(said)?;
    let hashes = tensors.tensor("hashes").map_err(said)?;
    let (hashes, _) = hashes.data().as_chunks::<8>();
    let hashes: Vec<u64> = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
    let (idf, ratios) = (numbers(&tensors, "idf")?, numbers(&tensors, "ratios")?);
    if [idf.len(), ratios.len()] != [hashes.len(); 2] {
        return Err(format!(
            "{} n-grams, {} idf, {} ratios",
            hashes.len(),
            idf.len(),
            ratios.len()
        ));
    }
    Ok(Ngrams::from_parts(config, hashes, idf, ratios))
}

/// The finite f32 numbers of a tensor.
pub(super) fn numbers(tensors: &SafeTensors, name: &str) -> std::result::Result<Vec<f32>, String> {
    let view = tensors.tensor(name).map_err(|error| error.to_string())?;
    let (values, _) = view.data().as_chunks::<4>();
    let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
    match values.iter().all(|value| value.is_finite()) && view.dtype() == Dtype::F32 {
        true => Ok(values),
        false => Err(format!("{name} is not finite f32 numbers")),
    }
}

pub(super) fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

pub(super) fn wrong(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), problem }
}

/// How much each n-gram tells the classes apart: over the classes, the largest
/// `|ln(share of the class's counts) − ln(share of the other classes' counts)|`, at most
/// `max_ratio` ("Baselines and Bigrams", section 2.1, one class against the rest). A class too small
/// to tell chance from meaning (fewer texts than one in 200) is left out of the comparison.
fn log_count_ratios(
    rows: &Sparse,
    columns: usize,
    members: &[Vec<usize>],
    n_classes: usize,
    config: &NgramConfig,
) -> Vec<f32> {
    let mut counts = vec![0f64; columns * n_classes];
    let mut all = vec![0f64; columns];
    let mut texts = vec![0usize; n_classes];
    for (i, classes) in members.iter().enumerate() {
        classes.iter().for_each(|&class| texts[class] += 1);
        for &(column, value) in rows.row(i) {
            all[column as usize] += f64::from(value);
            for &class in classes {
                counts[column as usize * n_classes + class] += f64::from(value);
            }
        }
    }
    let total: f64 = all.iter().sum();
    let mut ratios = vec![0f64; columns];
    for class in (0..n_classes).filter(|&class| texts[class] * 200 >= members.len()) {
        let own: f64 = counts.iter().skip(class).step_by(n_classes).sum();
        let smooth = config.smoothing * columns as f64;
        let base = ((own + smooth) / (total - own + smooth)).ln();
        for (column, ratio) in ratios.iter_mut().enumerate() {
            let count = counts[column * n_classes + class];
            let odds = (count + config.smoothing) / (all[column] - count + config.smoothing);
            *ratio = ratio.max((odds.ln() - base).abs());
        }
    }
    ratios.into_iter().map(|ratio| ratio.min(config.max_ratio) as f32).collect()
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

    fn fit(config: &NgramConfig) -> Ngrams {
        Ngrams::fit(&texts(), &[vec![0], vec![0], vec![1]], 2, config)
    }

    /// The squared length before the ratios.
    fn squares(ngrams: &Ngrams, row: &[(u32, f32)]) -> f32 {
        row.iter().map(|&(column, value)| (value / ngrams.ratios[column as usize]).powi(2)).sum()
    }

    #[test]
    fn each_kind_has_length_one_and_rare_ngrams_are_left_out() {
        let config = NgramConfig { char_ngrams: [3, 3], ..Default::default() };
        let ngrams = fit(&config);
        let row = ngrams.row("bake the bread");
        // Words and pieces; there is no reply.
        assert!((squares(&ngrams, &row) - 2.0).abs() < 1e-5, "{row:?}");
        assert!(ngrams.row("zzz").is_empty() && ngrams.row("").is_empty());
        assert!(row.is_sorted_by_key(|&(column, _)| column));
    }

    #[test]
    fn a_reply_is_counted_apart() {
        let config = NgramConfig { min_df: 1, ..Default::default() };
        let ngrams = fit(&config);
        let row = ngrams.row(&texts()[2]);
        assert!((squares(&ngrams, &row) - 3.0).abs() < 1e-5, "{row:?}");
    }

    #[test]
    fn what_only_one_class_says_counts_more_and_is_still_known_after_loading() {
        let word = |i: usize| if i.is_multiple_of(2) { "kind" } else { "rude" };
        let texts: Vec<String> = (0..40).map(|i| format!("{} and {i}", word(i))).collect();
        let classes: Vec<Vec<usize>> = (0..40).map(|i| vec![i % 2]).collect();
        let ngrams = Ngrams::fit(&texts, &classes, 2, &NgramConfig::default());
        let ratio = |word: &str| {
            let hash = hash(WORDS, word.chars().chain([' ']));
            ngrams.ratios[ngrams.columns[&hash] as usize]
        };
        assert!(ratio("rude") > 1.0 && ratio("and") < 0.1, "{} {}", ratio("rude"), ratio("and"));
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("ngrams.safetensors");
        ngrams.save(&path).unwrap();
        let again = Ngrams::load(&path).unwrap();
        assert_eq!(again.row("rude and kind"), ngrams.row("rude and kind"));
        std::fs::write(&path, "nothing").unwrap();
        assert!(Ngrams::load(&path).unwrap_err().to_string().contains("ngrams.safetensors"));
    }
}
