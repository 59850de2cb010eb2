use std::ops::Range;

use burn::module::Module;
use cai_data::seed::Seed;
use cai_model::{
    decoder::{Decoder, Pass},
    loss::{ScoredTokens, packed_hidden, score_tokens, trained_hidden},
    tokenizer::Example,
};
use cai_train::{Metrics, Objective, ObjectiveError, StepLoss};

use crate::{
    Completion, DpoConfig, Pair, PairInput, PairLogps, PairLoss, PairObjective, Reference,
    batch_loss, loss::kto,
};

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
    /// The loss and its settings.
    pub config: &'a DpoConfig,
}

impl DpoObjective<'_> {
    /// What the loss is a function of, with `weight` for each pair.
    fn inputs(
        &self,
        forward: &Forward,
        pairs: &[&Pair],
        reference: &[PairLogps],
        weight: impl Fn(&Pair) -> f64,
    ) -> Vec<PairInput> {
        let input = |(n, (pair, reference)): (usize, (&&Pair, &PairLogps))| {
            let (mut chosen, mut rejected) = forward.completions(n, self.config.ld_alpha);
            (chosen.reference, rejected.reference) = (reference.chosen, reference.rejected);
            PairInput {
                chosen,
                rejected,
                chosen_probability: pair.chosen_probability,
                weight: weight(pair),
                mismatched: 0.0,
            }
        };
        pairs.iter().zip(reference).enumerate().map(input).collect()
    }

    /// Adds what KTO estimates the divergence from.
    fn add_mismatched(
        &self,
        inputs: &mut [PairInput],
        model: &Decoder,
        pairs: &[&Pair],
        reference: &[PairLogps],
        metrics: &mut Metrics,
    ) {
        if self.config.objective != PairObjective::Kto {
            return;
        }
        let policy = mismatched_logps(model, pairs, self.pad);
        for ((input, policy), reference) in inputs.iter_mut().zip(policy).zip(reference) {
            input.mismatched = policy - reference.mismatched.unwrap_or_default();
        }
        let count = inputs.len() as f64;
        metrics.add("kl", kto::divergence(inputs) * count, count);
    }

    /// TRL's metrics of one pair. A tie is no success.
    fn add(&self, metrics: &mut Metrics, prefix: &str, input: &PairInput, scored: &PairLoss) {
        let mean = matches!(self.config.objective, PairObjective::Orpo | PairObjective::Simpo);
        let logp = |completion: &Completion| match mean {
            true => completion.mean_logp(),
            false => completion.policy,
        };
        let values = [
            ("rewards/chosen", scored.reward_chosen),
            ("rewards/rejected", scored.reward_rejected),
            ("rewards/accuracies", (scored.margin() > 0.0) as u8 as f64),
            ("rewards/margins", scored.margin()),
            ("logps/chosen", logp(&input.chosen)),
            ("logps/rejected", logp(&input.rejected)),
        ];
        for (name, value) in values {
            metrics.add(&format!("{prefix}{name}"), value, 1.0);
        }
    }
}

impl Objective<Decoder> for DpoObjective<'_> {
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

    fn loss(&self, model: &Decoder, items: &[usize], _: Seed) -> Result<StepLoss, ObjectiveError> {
        let pairs: Vec<&Pair> = items.iter().map(|&i| &self.train[i]).collect();
        let reference: Vec<PairLogps> = items.iter().map(|&i| self.reference.train[i]).collect();
        let forward = Forward::run(model, &pairs, self.pad, self.config, true);
        let mut metrics = Metrics::new();
        let mut inputs = self.inputs(&forward, &pairs, &reference, |pair| pair.weight);
        self.add_mismatched(&mut inputs, &model.valid(), &pairs, &reference, &mut metrics);
        let losses = batch_loss(self.config, &inputs);
        for (input, scored) in inputs.iter().zip(&losses) {
            self.add(&mut metrics, "", input, scored);
        }
        forward.add_token_metrics(&mut metrics);
        let weights = forward.token_weights(&losses, self.config.ld_alpha);
        let surrogate = forward.tokens.surrogate(&weights)?;
        let loss = losses.iter().map(|loss| loss.loss).sum();
        let tokens = pairs.iter().map(|p| p.chosen.ids.len() + p.rejected.ids.len()).sum();
        Ok(StepLoss { surrogate, loss, tokens, metrics })
    }

    /// Metrics of the held-out pairs, unweighted; those of each source again, named
    /// `SOURCE_loss` and so on, as TRL names those of several evaluation sets.
    fn evaluate(&self, model: &Decoder) -> Result<Metrics, ObjectiveError> {
        let model = model.valid();
        let size = self.eval_batch_size.max(1);
        let mut metrics = Metrics::new();
        let batches = self.held_out.chunks(size).zip(self.reference.held_out.chunks(size));
        for (batch, reference) in batches {
            let pairs: Vec<&Pair> = batch.iter().collect();
            let forward = Forward::run(&model, &pairs, self.pad, self.config, false);
            let mut inputs = self.inputs(&forward, &pairs, reference, |_| 1.0);
            self.add_mismatched(&mut inputs, &model, &pairs, reference, &mut metrics);
            let losses = batch_loss(self.config, &inputs);
            for ((pair, input), scored) in batch.iter().zip(&inputs).zip(&losses) {
                let source = pair.source.as_ref().map(|source| format!("{source}_"));
                for prefix in [Some(String::new()), source].into_iter().flatten() {
                    metrics.add(&format!("{prefix}loss"), scored.loss, 1.0);
                    self.add(&mut metrics, &prefix, input, scored);
                }
            }
            forward.add_token_metrics(&mut metrics);
        }
        Ok(metrics)
    }
}

/// One forward pass over a batch of pairs.
pub(crate) struct Forward {
    tokens: ScoredTokens,
    /// The tokens of the chosen and the rejected completion of the first pair, of the second, …
    rows: Vec<Range<usize>>,
}

impl Forward {
    /// With `gradient`, gradients can be had from it. Dropout is off, as in TRL: policy and
    /// reference see the same network.
    pub(crate) fn run(
        decoder: &Decoder,
        pairs: &[&Pair],
        pad: u32,
        config: &DpoConfig,
        gradient: bool,
    ) -> Self {
        let pass = Pass { recompute: gradient && config.gradient_checkpointing, ..Pass::default() };
        let sides: Vec<[&Example; 2]> =
            pairs.iter().map(|pair| [&pair.chosen, &pair.rejected]).collect();
        let trained = match config.share_prompt {
            true => {
                let rows: Vec<Vec<&[&Example]>> =
                    sides.iter().map(|sides| vec![sides.as_slice()]).collect();
                packed_hidden(decoder, &rows, pad, &pass)
            }
            false => trained_hidden(decoder, &sides.concat(), pad, &pass),
        };
        let tokens = score_tokens(decoder, &trained, gradient);
        Self { tokens, rows: trained.rows }
    }

    /// The tokens of the `n`-th pair's chosen and rejected completion.
    fn rows(&self, n: usize) -> [Range<usize>; 2] {
        [self.rows[2 * n].clone(), self.rows[2 * n + 1].clone()]
    }

    /// What the loss knows of the `n`-th pair's chosen and rejected completion, without the
    /// reference.
    pub(crate) fn completions(&self, n: usize, ld_alpha: Option<f64>) -> (Completion, Completion) {
        let rows = self.rows(n);
        let shared = rows[0].len().min(rows[1].len());
        let [chosen, rejected] = rows.map(|tokens| {
            let logps = &self.tokens.logps[tokens.clone()];
            let squares = &self.tokens.log_sum_squares[tokens];
            Completion::from_tokens(logps, squares, shared, ld_alpha)
        });
        (chosen, rejected)
    }

    /// The derivative of the summed losses with respect to each token's log-probability.
    fn token_weights(&self, losses: &[PairLoss], ld_alpha: Option<f64>) -> Vec<f32> {
        let mut weights = vec![0.0; self.tokens.logps.len()];
        for (n, loss) in losses.iter().enumerate() {
            let rows = self.rows(n);
            let sides = loss.token_weights(rows[0].len(), rows[1].len(), ld_alpha);
            for (row, side) in rows.into_iter().zip(sides) {
                weights[row].copy_from_slice(&side);
            }
        }
        weights
    }

    /// TRL's metrics that are means over tokens.
    fn add_token_metrics(&self, metrics: &mut Metrics) {
        let all = self.tokens.logps.len() as f64;
        metrics.add("entropy", sum(&self.tokens.entropy), all);
        for n in 0..self.rows.len() / 2 {
            let [chosen, rejected] = self.rows(n);
            let correct = self.tokens.correct[chosen.clone()].iter().filter(|&&c| c).count();
            metrics.add("mean_token_accuracy", correct as f64, chosen.len() as f64);
            for (name, row) in [("logits/chosen", chosen), ("logits/rejected", rejected)] {
                let count = row.len() as f64;
                metrics.add(name, sum(&self.tokens.mean_logits[row]), count);
            }
        }
    }
}

/// Log-probabilities of the pairs' mismatched completions, where they have one.
pub(crate) fn mismatched_logps(decoder: &Decoder, pairs: &[&Pair], pad: u32) -> Vec<f64> {
    let examples: Vec<&Example> = pairs.iter().filter_map(|p| p.mismatched.as_ref()).collect();
    if examples.is_empty() {
        return Vec::new();
    }
    let trained = trained_hidden(decoder, &examples, pad, &Pass::default());
    let scored = score_tokens(decoder, &trained, false);
    trained.rows.iter().map(|row| sum(&scored.logps[row.clone()])).collect()
}

fn sum(values: &[f32]) -> f64 {
    values.iter().map(|&x| x as f64).sum()
}
