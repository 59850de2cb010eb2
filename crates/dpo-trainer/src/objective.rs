use std::ops::Range;

use burn::module::Module;
use cai_data::seed::Seed;
use cai_model::{
    gemma::{Gemma, Pass},
    loss::{ScoredTokens, score_tokens, trained_hidden},
    tokenizer::Example,
};
use cai_train::{Metrics, Objective, ObjectiveError, StepLoss};

use crate::{LossType, Pair, PairLogps, PairLoss, Reference, pair_loss};

/// Mean loss over pairs, each multiplied by its weight in training.
pub struct DpoObjective<'a> {
    /// Training pairs.
    pub train: &'a [Pair],
    /// Held-out pairs.
    pub held_out: &'a [Pair],
    /// Log-probabilities of all these pairs under the reference.
    pub reference: &'a Reference,
    /// Token that fills short rows.
    pub pad: u32,
    /// Pairs of one evaluation batch.
    pub eval_batch_size: usize,
    /// The loss.
    pub loss_type: LossType,
    /// How closely the policy is held to the reference.
    pub beta: f64,
    /// How training passes are run: without a seed, since dropout is off, as in TRL.
    pub pass: Pass,
}

impl DpoObjective<'_> {
    fn loss_of(&self, pair: &Pair, policy: PairLogps, reference: PairLogps) -> PairLoss {
        pair_loss(self.loss_type, self.beta, policy, reference, pair.chosen_probability)
    }
}

impl Objective<Gemma> for DpoObjective<'_> {
    fn len(&self) -> usize {
        self.train.len()
    }

    /// Of the longer completion: both stand in one batch.
    fn lengths(&self) -> Vec<usize> {
        self.train.iter().map(|p| p.chosen.ids.len().max(p.rejected.ids.len())).collect()
    }

    fn weight(&self, items: &[usize]) -> f64 {
        items.len() as f64
    }

    fn loss(&self, model: &Gemma, items: &[usize], _: Seed) -> Result<StepLoss, ObjectiveError> {
        let pairs: Vec<&Pair> = items.iter().map(|&i| &self.train[i]).collect();
        let forward = Forward::run(model, &pairs, self.pad, Some(&self.pass));
        let mut weights = vec![0.0; forward.tokens.logps.len()];
        let mut metrics = Metrics::new();
        let mut loss = 0.0;
        for (n, (pair, &item)) in pairs.iter().zip(items).enumerate() {
            let policy = forward.logps(n);
            let scored = self.loss_of(pair, policy, self.reference.train[item]);
            let slope = pair.weight * scored.slope;
            weights[forward.chosen(n)].fill(slope as f32);
            weights[forward.rejected(n)].fill(-slope as f32);
            loss += pair.weight * scored.loss;
            add(&mut metrics, "", policy, &scored);
        }
        forward.add_token_metrics(&mut metrics);
        let surrogate = forward.tokens.surrogate(&weights)?;
        let tokens = pairs.iter().map(|p| p.chosen.ids.len() + p.rejected.ids.len()).sum();
        Ok(StepLoss { surrogate, loss, tokens, metrics })
    }

    /// Metrics of the held-out pairs, unweighted; those of each source again, named
    /// `SOURCE_loss` and so on, as TRL names those of several evaluation sets.
    fn evaluate(&self, model: &Gemma) -> Result<Metrics, ObjectiveError> {
        let model = model.valid();
        let size = self.eval_batch_size.max(1);
        let mut metrics = Metrics::new();
        let batches = self.held_out.chunks(size).zip(self.reference.held_out.chunks(size));
        for (batch, reference) in batches {
            let pairs: Vec<&Pair> = batch.iter().collect();
            let forward = Forward::run(&model, &pairs, self.pad, None);
            for (n, (pair, &reference)) in batch.iter().zip(reference).enumerate() {
                let policy = forward.logps(n);
                let scored = self.loss_of(pair, policy, reference);
                let source = pair.source.as_ref().map(|source| format!("{source}_"));
                for prefix in [Some(String::new()), source].into_iter().flatten() {
                    metrics.add(&format!("{prefix}loss"), scored.loss, 1.0);
                    add(&mut metrics, &prefix, policy, &scored);
                }
            }
            forward.add_token_metrics(&mut metrics);
        }
        Ok(metrics)
    }
}

/// TRL's metrics of one pair. A tie is no success.
fn add(metrics: &mut Metrics, prefix: &str, policy: PairLogps, scored: &PairLoss) {
    let values = [
        ("rewards/chosen", scored.reward_chosen),
        ("rewards/rejected", scored.reward_rejected),
        ("rewards/accuracies", (scored.margin() > 0.0) as u8 as f64),
        ("rewards/margins", scored.margin()),
        ("logps/chosen", policy.chosen),
        ("logps/rejected", policy.rejected),
    ];
    for (name, value) in values {
        metrics.add(&format!("{prefix}{name}"), value, 1.0);
    }
}

/// One forward pass over a batch of pairs: all chosen rows, then all rejected rows.
pub(crate) struct Forward {
    tokens: ScoredTokens,
    rows: Vec<Range<usize>>,
}

impl Forward {
    /// With `training`, gradients can be had from it.
    pub(crate) fn run(gemma: &Gemma, pairs: &[&Pair], pad: u32, training: Option<&Pass>) -> Self {
        let chosen = pairs.iter().map(|pair| &pair.chosen);
        let examples: Vec<&Example> = chosen.chain(pairs.iter().map(|p| &p.rejected)).collect();
        // As in TRL, dropout is off: policy and reference see the same network.
        let inference = Pass::default();
        let trained = trained_hidden(gemma, &examples, pad, training.unwrap_or(&inference));
        let tokens = score_tokens(gemma, &trained, training.is_some());
        Self { tokens, rows: trained.rows }
    }

    /// The tokens of the `n`-th pair's chosen completion.
    fn chosen(&self, n: usize) -> Range<usize> {
        self.rows[n].clone()
    }

    /// The tokens of the `n`-th pair's rejected completion.
    fn rejected(&self, n: usize) -> Range<usize> {
        self.rows[self.rows.len() / 2 + n].clone()
    }

    /// Log-probabilities of the `n`-th pair.
    pub(crate) fn logps(&self, n: usize) -> PairLogps {
        let [chosen, rejected] =
            [self.chosen(n), self.rejected(n)].map(|tokens| sum(&self.tokens.logps[tokens]));
        PairLogps { chosen, rejected }
    }

    /// TRL's metrics that are means over tokens.
    fn add_token_metrics(&self, metrics: &mut Metrics) {
        let all = self.tokens.logps.len();
        let chosen = self.rows[self.rows.len() / 2].start;
        let correct = self.tokens.correct[..chosen].iter().filter(|&&c| c).count();
        let logits = &self.tokens.mean_logits;
        metrics.add("mean_token_accuracy", correct as f64, chosen as f64);
        metrics.add("entropy", sum(&self.tokens.entropy), all as f64);
        metrics.add("logits/chosen", sum(&logits[..chosen]), chosen as f64);
        metrics.add("logits/rejected", sum(&logits[chosen..]), (all - chosen) as f64);
    }
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&x| x as f64).sum()
}
