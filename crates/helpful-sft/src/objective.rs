use burn::module::Module;
use cai_data::seed::Seed;
use cai_model::{
    decoder::{Decoder, Pass},
    loss::{full_cross_entropy, packed_hidden, score_tokens, trained_hidden},
    tokenizer::Example,
};
use cai_train::{Metrics, Objective, ObjectiveError, StepLoss};

/// Which parameters the loss reaches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// The adapter; the head is frozen.
    Adapter,
    /// Everything, the tied head included.
    Full,
}

/// Mean negative log-probability of trained tokens, weighted by example in [`Mode::Adapter`].
pub struct SftObjective<'a> {
    /// Training examples.
    pub train: &'a [Example],
    /// How much the tokens of each training example count; empty if all count 1.
    pub weights: &'a [f64],
    /// The training examples of each row (see [`crate::pack`]); empty if each has its own. What the
    /// loop calls an example is a row.
    pub rows: &'a [Vec<usize>],
    /// Held-out examples.
    pub held_out: &'a [Example],
    /// Token that fills short rows.
    pub pad: u32,
    /// Rows of one evaluation batch.
    pub eval_batch_size: usize,
    /// What is trained.
    pub mode: Mode,
    /// How training passes are run; the loop gives the seed.
    pub pass: Pass,
}

impl SftObjective<'_> {
    /// The examples of a row.
    fn row(&self, row: usize) -> Vec<usize> {
        self.rows.get(row).cloned().unwrap_or_else(|| vec![row])
    }

    fn weight_of(&self, example: usize) -> f64 {
        self.weights.get(example).copied().unwrap_or(1.0)
    }
}

impl Objective<Decoder> for SftObjective<'_> {
    fn len(&self) -> usize {
        if self.rows.is_empty() { self.train.len() } else { self.rows.len() }
    }

    fn lengths(&self) -> Vec<usize> {
        let tokens = |row: usize| self.row(row).iter().map(|&i| self.train[i].ids.len()).sum();
        (0..Objective::<Decoder>::len(self)).map(tokens).collect()
    }

    fn weight(&self, items: &[usize]) -> f64 {
        let examples = items.iter().flat_map(|&row| self.row(row));
        examples.map(|i| self.weight_of(i) * self.train[i].trained_tokens() as f64).sum()
    }

    fn loss(
        &self,
        model: &Decoder,
        items: &[usize],
        seed: Seed,
    ) -> Result<StepLoss, ObjectiveError> {
        let rows: Vec<Vec<usize>> = items.iter().map(|&row| self.row(row)).collect();
        let numbers = rows.concat();
        let examples: Vec<&Example> = numbers.iter().map(|&i| &self.train[i]).collect();
        let tokens = examples.iter().map(|e| e.ids.len()).sum();
        let pass = Pass { seed: Some(seed.derive("dropout")), ..self.pass };
        let trained = if self.rows.is_empty() {
            trained_hidden(model, &examples, self.pad, &pass)
        } else {
            let mut alone = examples.iter().map(std::slice::from_ref);
            let packed: Vec<Vec<&[&Example]>> =
                rows.iter().map(|row| alone.by_ref().take(row.len()).collect()).collect();
            packed_hidden(model, &packed, self.pad, &pass)
        };
        if self.mode == Mode::Full {
            let surrogate = full_cross_entropy(model, trained);
            let loss = surrogate.clone().inner().into_scalar::<f32>() as f64;
            return Ok(StepLoss { surrogate, loss, tokens, metrics: Metrics::new() });
        }
        let scored = score_tokens(model, &trained, true);
        // The loss is −Σ w log p.
        let mut weights = vec![0.0f32; scored.logps.len()];
        for (row, &example) in trained.rows.iter().zip(&numbers) {
            weights[row.clone()].fill(-self.weight_of(example) as f32);
        }
        let surrogate = scored.surrogate(&weights)?;
        let metrics = metrics(&scored);
        let products = scored.logps.iter().zip(&weights).map(|(&logp, &w)| logp as f64 * w as f64);
        Ok(StepLoss { surrogate, loss: products.sum(), tokens, metrics })
    }

    fn evaluate(&self, model: &Decoder) -> Result<Metrics, ObjectiveError> {
        let model = model.valid();
        let mut all = Metrics::new();
        for batch in self.held_out.chunks(self.eval_batch_size.max(1)) {
            let examples: Vec<&Example> = batch.iter().collect();
            let trained = trained_hidden(&model, &examples, self.pad, &Pass::default());
            let scored = score_tokens(&model, &trained, false);
            let loss = -scored.logps.iter().map(|&x| x as f64).sum::<f64>();
            all.add("loss", loss, scored.logps.len() as f64);
            all.merge(&metrics(&scored));
        }
        Ok(all)
    }
}

fn metrics(scored: &cai_model::loss::ScoredTokens) -> Metrics {
    let count = scored.logps.len() as f64;
    let correct = scored.correct.iter().filter(|&&c| c).count() as f64;
    let mut metrics = Metrics::new();
    metrics.add("mean_token_accuracy", correct, count);
    metrics.add("entropy", scored.entropy.iter().map(|&x| x as f64).sum(), count);
    metrics
}
