//! The fitted linear path and its file.

use std::path::Path;

use cai_data::atomic;
use rayon::prelude::*;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::features::{FeatureConfig, Sparse, Vectoriser};
use super::solver::{self, Problem};
use crate::error::{Error, Result};

/// Settings of the linear path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearConfig {
    /// What is counted.
    pub features: FeatureConfig,
    /// Inverse strength of regularisation, as scikit-learn's C.
    pub c: f64,
    /// Most steps of the solver.
    pub max_iter: usize,
    /// Added to every count before the log-count ratio is taken.
    pub smoothing: f64,
    /// Largest log-count ratio of an n-gram.
    pub max_ratio: f64,
}

impl Default for LinearConfig {
    fn default() -> Self {
        let features = FeatureConfig::default();
        Self { features, c: 1.0, max_iter: 100, smoothing: 0.5, max_ratio: 4.0 }
    }
}

/// Class scores from n-grams.
#[derive(Clone, Debug)]
pub struct LinearModel {
    vectoriser: Vectoriser,
    /// `[n-grams + 1, classes]`, the ratios multiplied in, the last row the biases.
    weights: Vec<f32>,
    n_classes: usize,
}

impl LinearModel {
    /// Fits n-grams and weights to folded texts. `weights` says how much each text counts.
    pub fn fit(
        folded: &[String],
        classes: &[usize],
        weights: &[f32],
        n_classes: usize,
        config: &LinearConfig,
    ) -> Self {
        let vectoriser = Vectoriser::fit(folded, &config.features);
        let mut rows = vectoriser.rows(folded);
        let ratios = log_count_ratios(&rows, vectoriser.len(), classes, n_classes, config);
        for (column, value) in &mut rows.entries {
            *value *= ratios[*column as usize];
        }
        let columns = vectoriser.len();
        let problem = Problem { rows: &rows, columns, classes, weights, n_classes, c: config.c };
        let mut weights = solver::solve(&problem, config.max_iter);
        for (row, ratio) in weights.chunks_mut(n_classes).zip(&ratios) {
            row.iter_mut().for_each(|weight| *weight *= ratio);
        }
        Self { vectoriser, weights, n_classes }
    }

    /// Class scores of folded texts, before any softmax.
    pub fn logits(&self, folded: &[String]) -> Vec<Vec<f32>> {
        let (weights, biases) = self.weights.split_at(self.vectoriser.len() * self.n_classes);
        let text = |text: &String| {
            let mut scores = biases.to_vec();
            solver::scores(&self.vectoriser.row(text), weights, &mut scores);
            scores
        };
        folded.par_iter().map(text).collect()
    }

    /// Share of the words of a folded text that are not among the n-grams; 0 without words.
    pub fn unknown_words(&self, folded: &str) -> f64 {
        let (known, words) = self.vectoriser.known_words(folded);
        if words == 0 { 0.0 } else { (words - known) as f64 / words as f64 }
    }

    /// Number of n-grams.
    pub fn features(&self) -> usize {
        self.vectoriser.len()
    }

    /// Writes the model as safetensors, its settings in the header.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: safetensors::SafeTensorError| wrong(path, error.to_string());
        let n = self.vectoriser.len();
        let hashes: Vec<u8> =
            self.vectoriser.hashes().iter().flat_map(|h| h.to_le_bytes()).collect();
        let (idf, weights) = (bytes(self.vectoriser.idf()), bytes(&self.weights));
        let tensors = [
            ("ngram_hashes", TensorView::new(Dtype::U64, vec![n], &hashes).map_err(failed)?),
            ("idf", TensorView::new(Dtype::F32, vec![n], &idf).map_err(failed)?),
            (
                "weights",
                TensorView::new(Dtype::F32, vec![n + 1, self.n_classes], &weights)
                    .map_err(failed)?,
            ),
        ];
        let config = serde_json::to_string(self.vectoriser.config())
            .map_err(|error| wrong(path, error.to_string()))?;
        let header = Some([("features".to_string(), config)].into());
        let file = safetensors::serialize(tensors, header).map_err(failed)?;
        Ok(atomic::write(path, &file)?)
    }

    /// Reads what [`LinearModel::save`] wrote.
    ///
    /// # Errors
    /// When the file is missing, damaged, or has another number of classes.
    pub fn load(path: &Path, n_classes: usize) -> Result<Self> {
        let file = std::fs::read(path).map_err(cai_data::Error::read(path))?;
        parse(&file, n_classes).map_err(|problem| wrong(path, problem))
    }
}

fn parse(file: &[u8], n_classes: usize) -> std::result::Result<LinearModel, String> {
    let said = |error: safetensors::SafeTensorError| error.to_string();
    let (_, header) = SafeTensors::read_metadata(file).map_err(said)?;
    let header = header.metadata().as_ref().and_then(|fields| fields.get("features"));
    let config = header.ok_or("the header has no settings of the features")?;
    let config: FeatureConfig = serde_json::from_str(config).map_err(|error| error.to_string())?;
    let tensors = SafeTensors::deserialize(file).map_err(said)?;
    let numbers = |name: &str| -> std::result::Result<Vec<f32>, String> {
        let view = tensors.tensor(name).map_err(said)?;
        let (values, _) = view.data().as_chunks::<4>();
        let values: Vec<f32> = values.iter().map(|value| f32::from_le_bytes(*value)).collect();
        match values.iter().all(|value| value.is_finite()) && view.dtype() == Dtype::F32 {
            true => Ok(values),
            false => Err(format!("{name} is not finite f32 numbers")),
        }
    };
    let hashes = tensors.tensor("ngram_hashes").map_err(said)?;
    let (hashes, _) = hashes.data().as_chunks::<8>();
    let hashes: Vec<u64> = hashes.iter().map(|hash| u64::from_le_bytes(*hash)).collect();
    let (idf, weights) = (numbers("idf")?, numbers("weights")?);
    if idf.len() != hashes.len() || weights.len() != (hashes.len() + 1) * n_classes {
        return Err(format!(
            "{} n-grams, {} of them weighted, {} weights for {n_classes} classes do not fit",
            hashes.len(),
            idf.len(),
            weights.len()
        ));
    }
    let vectoriser = Vectoriser::from_parts(config, hashes, idf);
    Ok(LinearModel { vectoriser, weights, n_classes })
}

fn bytes(values: &[f32]) -> Vec<u8> {
    values.iter().flat_map(|value| value.to_le_bytes()).collect()
}

fn wrong(path: &Path, problem: String) -> Error {
    Error::Checkpoint { path: path.to_path_buf(), problem }
}

/// How much each n-gram tells the classes apart: over the classes, the largest
/// `|ln(share of the class's counts) − ln(share of the other classes' counts)|`, at most
/// `max_ratio` ("Baselines and Bigrams", section 2.1, one class against the rest). A class too small
/// to tell chance from meaning (fewer texts than one in 200) is left out of the comparison.
fn log_count_ratios(
    rows: &Sparse,
    columns: usize,
    classes: &[usize],
    n_classes: usize,
    config: &LinearConfig,
) -> Vec<f32> {
    let mut counts = vec![0f64; columns * n_classes];
    let mut texts = vec![0usize; n_classes];
    for (i, &class) in classes.iter().enumerate() {
        texts[class] += 1;
        for &(column, value) in rows.row(i) {
            counts[column as usize * n_classes + class] += f64::from(value);
        }
    }
    let all: Vec<f64> = counts.chunks(n_classes).map(|row| row.iter().sum()).collect();
    let total: f64 = all.iter().sum();
    let mut ratios = vec![0f64; columns];
    for class in (0..n_classes).filter(|&class| texts[class] * 200 >= classes.len()) {
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

#[cfg(test)]
mod tests {
    use super::*;

    fn fitted() -> (LinearModel, Vec<String>) {
        let texts: Vec<String> = (0..40)
            .map(|i| if i % 2 == 0 { format!("kind words {i}") } else { format!("rude talk {i}") })
            .collect();
        let classes: Vec<usize> = (0..40).map(|i| i % 2).collect();
        (LinearModel::fit(&texts, &classes, &[1.0; 40], 2, &LinearConfig::default()), texts)
    }

    #[test]
    fn it_learns_and_answers_the_same_after_loading() {
        let (model, texts) = fitted();
        let logits = model.logits(&texts);
        for (i, row) in logits.iter().enumerate() {
            assert_eq!(crate::calibrate::argmax(row), i % 2, "{row:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("linear.safetensors");
        model.save(&path).unwrap();
        assert_eq!(LinearModel::load(&path, 2).unwrap().logits(&texts), logits);
        assert!(LinearModel::load(&path, 3).unwrap_err().to_string().contains("do not fit"));
    }

    #[test]
    fn fitting_twice_gives_the_same_numbers() {
        assert_eq!(fitted().0.weights, fitted().0.weights);
    }
}
