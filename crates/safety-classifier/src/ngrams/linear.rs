//! Multinomial logistic regression over weighted n-grams, and its file.

use std::path::Path;

use cai_data::atomic;
use safetensors::SafeTensors;
use safetensors::tensor::{Dtype, TensorView};
use serde::{Deserialize, Serialize};

use super::solver::{self, Problem};
use super::sparse::Sparse;
use super::weighted::{bytes, numbers, wrong};
use crate::error::Result;

/// Settings of the linear path.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LinearConfig {
    /// Inverse strength of regularisation, as scikit-learn's C.
    pub c: f64,
    /// Most steps of the solver.
    pub max_iter: usize,
}

impl Default for LinearConfig {
    fn default() -> Self {
        Self { c: 1.0, max_iter: 100 }
    }
}

/// Class scores from n-grams.
#[derive(Clone, Debug, PartialEq)]
pub struct LinearModel {
    /// `[n-grams + 1, classes]`, the last row the biases.
    weights: Vec<f32>,
    n_classes: usize,
}

impl LinearModel {
    /// Fits weights to rows of `columns` n-grams. `weights` says how much each text counts.
    pub fn fit(
        rows: &Sparse,
        columns: usize,
        classes: &[usize],
        weights: &[f32],
        n_classes: usize,
        config: &LinearConfig,
    ) -> Self {
        let problem = Problem { rows, columns, classes, weights, n_classes, c: config.c };
        Self { weights: solver::solve(&problem, config.max_iter), n_classes }
    }

    /// Class scores of each row, before any softmax.
    pub fn logits(&self, rows: &Sparse) -> Vec<Vec<f32>> {
        let (weights, biases) = self.weights.split_at(self.weights.len() - self.n_classes);
        let text = |i: usize| {
            let mut scores = biases.to_vec();
            solver::scores(rows.row(i), weights, &mut scores);
            scores
        };
        (0..rows.rows()).map(text).collect()
    }

    /// Writes the model as safetensors.
    ///
    /// # Errors
    /// When the file cannot be written.
    pub fn save(&self, path: &Path) -> Result<()> {
        let failed = |error: safetensors::SafeTensorError| wrong(path, error.to_string());
        let shape = vec![self.weights.len() / self.n_classes, self.n_classes];
        let weights = bytes(&self.weights);
        let view = TensorView::new(Dtype::F32, shape, &weights).map_err(failed)?;
        let file = safetensors::serialize([("weights", view)], None).map_err(failed)?;
        Ok(atomic::write(path, &file)?)
    }

    /// Reads what [`LinearModel::save`] wrote for so many n-grams and classes.
    ///
    /// # Errors
    /// When the file is missing, damaged, or has another size.
    pub fn load(path: &Path, columns: usize, n_classes: usize) -> Result<Self> {
        let file = std::fs::read(path).map_err(cai_data::Error::read(path))?;
        let tensors =
            SafeTensors::deserialize(&file).map_err(|error| wrong(path, error.to_string()))?;
        let weights = numbers(&tensors, "weights").map_err(|problem| wrong(path, problem))?;
        if weights.len() != (columns + 1) * n_classes {
            let found = weights.len();
            let problem =
                format!("{found} weights for {columns} n-grams and {n_classes} classes do not fit");
            return Err(wrong(path, problem));
        }
        Ok(Self { weights, n_classes })
    }
}

#[cfg(test)]
mod tests {
    use super::super::weighted::{NgramConfig, Ngrams};
    use super::*;

    fn fitted() -> (LinearModel, Ngrams, Sparse) {
        let texts: Vec<String> = (0..40)
            .map(|i| if i % 2 == 0 { format!("kind words {i}") } else { format!("rude talk {i}") })
            .collect();
        let classes: Vec<usize> = (0..40).map(|i| i % 2).collect();
        let members: Vec<Vec<usize>> = classes.iter().map(|&class| vec![class]).collect();
        let ngrams = Ngrams::fit(&texts, &members, 2, &NgramConfig::default());
        let rows = ngrams.rows(&texts);
        let config = LinearConfig::default();
        let model = LinearModel::fit(&rows, ngrams.len(), &classes, &[1.0; 40], 2, &config);
        (model, ngrams, rows)
    }

    #[test]
    fn it_learns_and_answers_the_same_after_loading() {
        let (model, ngrams, rows) = fitted();
        for (i, row) in model.logits(&rows).iter().enumerate() {
            assert_eq!(crate::calibrate::argmax(row), i % 2, "{row:?}");
        }
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("linear.safetensors");
        model.save(&path).unwrap();
        assert_eq!(LinearModel::load(&path, ngrams.len(), 2).unwrap(), model);
        let error = LinearModel::load(&path, ngrams.len(), 3).unwrap_err().to_string();
        assert!(error.contains("do not fit"), "{error}");
    }

    #[test]
    fn fitting_twice_gives_the_same_numbers() {
        assert_eq!(fitted().0, fitted().0);
    }
}
