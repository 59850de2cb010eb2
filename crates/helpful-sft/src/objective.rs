use burn::module::Module;
use cai_data::seed::Seed;
use cai_model::{
    gemma::{Gemma, Pass},
    loss::{full_cross_entropy, score_tokens, trained_hidden},
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

/// Mean negative log-probability of trained tokens.
pub struct SftObjective<'a> {
    /// Training examples.
    pub train: &'a [Example],
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

fn trained_tokens(example: &Example) -> usize {
    example.trained.iter().skip(1).filter(|&&t| t).count()
}

impl Objective<Gemma> for SftObjective<'_> {
    fn len(&self) -> usize {
        self.train.len()
    }

    fn lengths(&self) -> Vec<usize> {
        self.train.iter().map(|e| e.ids.len()).collect()
    }

    fn weight(&self, items: &[usize]) -> f64 {
        items.iter().map(|&i| trained_tokens(&self.train[i])).sum::<usize>() as f64
    }

    fn loss(&self, model: &Gemma, items: &[usize], seed: Seed) -> Result<StepLoss, ObjectiveError> {
        let examples: Vec<&Example> = items.iter().map(|&i| &self.train[i]).collect();
        let tokens = examples.iter().map(|e| e.ids.len()).sum();
        let pass = Pass { seed: Some(seed.derive("dropout")), ..self.pass };
        let trained = trained_hidden(model, &examples, self.pad, &pass);
        if self.mode == Mode::Full {
            let surrogate = full_cross_entropy(model, trained);
            let loss = surrogate.clone().inner().into_scalar::<f32>() as f64;
            return Ok(StepLoss { surrogate, loss, tokens, metrics: Metrics::new() });
        }
        let scored = score_tokens(model, &trained, true);
        let count = scored.logps.len();
        // The loss is −Σ log p.
        let surrogate = scored.surrogate(&vec![-1.0; count])?;
        let metrics = metrics(&scored);
        let loss = -scored.logps.iter().map(|&x| x as f64).sum::<f64>();
        Ok(StepLoss { surrogate, loss, tokens, metrics })
    }

    fn evaluate(&self, model: &Gemma) -> Result<Metrics, ObjectiveError> {
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
