use cai_data::overlay::over;
use cai_train::TrainArgs;
use serde::{Deserialize, Deserializer, Serialize};

use crate::{Error, Result};

/// What is optimised on the pairs.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PairObjective {
    /// The losses of `loss_type`, against the reference.
    #[default]
    Dpo,
    /// Each completion by itself against the reference (arXiv 2402.01306).
    Kto,
    /// Likelihood and odds ratio, without a reference (arXiv 2403.07691).
    Orpo,
    /// Mean log-probabilities with a margin, without a reference (arXiv 2405.14734).
    Simpo,
}

/// A loss on pairs, by TRL's name. Formulas and papers stand beside the functions in `loss/`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names are TRL's; loss/mod.rs says where each is defined")]
pub enum LossType {
    Sigmoid,
    Hinge,
    Ipo,
    Robust,
    ExoPair,
    NcaPair,
    BcoPair,
    SppoHard,
    ApoZero,
    ApoDown,
    Aot,
    AotUnpaired,
    Discopop,
    Sft,
    SigmoidNorm,
}

/// By which divergence the policy is held to the reference (f-DPO, arXiv 2309.16240).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum FDivergenceType {
    /// DPO's own.
    #[default]
    ReverseKl,
    /// `KL(π_ref ‖ π)`.
    ForwardKl,
    /// Jensen–Shannon.
    JsDivergence,
    /// α-divergence, with `f_alpha_divergence_coef` as α.
    AlphaDivergence,
}

/// What the policy is compared with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReferenceModel {
    /// A frozen copy of the model that the policy starts from.
    Start,
    /// The base alone, its adapter off.
    Base,
}

/// Settings of direct preference optimisation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DpoConfig {
    /// What is optimised: dpo, kto, orpo or simpo.
    pub objective: PairObjective,
    /// How closely the policy is held to the reference; larger is closer. ORPO: the weight of the
    /// odds ratio; SimPO: the scale of the mean log-probabilities.
    pub beta: f64,
    /// The loss of `objective: dpo`, one name or a list: sigmoid, hinge, ipo, robust, exo_pair,
    /// nca_pair, bco_pair, sppo_hard, apo_zero, apo_down, aot, aot_unpaired, discopop, sft,
    /// sigmoid_norm.
    #[serde(deserialize_with = "one_or_many")]
    pub loss_type: Vec<LossType>,
    /// What each loss of the list is multiplied by; 1 each if absent.
    pub loss_weights: Option<Vec<f64>>,
    /// Probability that a label is wrong: robust, exo_pair (needs it), aot, aot_unpaired and SimPO.
    pub label_smoothing: f64,
    /// The divergence from the reference: reverse_kl, forward_kl, js_divergence or
    /// alpha_divergence.
    pub f_divergence_type: FDivergenceType,
    /// α of alpha_divergence.
    pub f_alpha_divergence_coef: f64,
    /// Weight of the log-probabilities of tokens beyond the length of the pair's shorter completion
    /// (LD-DPO, arXiv 2409.06411), from 0 to 1; absent is 1.
    pub ld_alpha: Option<f64>,
    /// Weigh pairs by how likely the policy would have written them (WPO, arXiv 2406.11827).
    pub use_weighting: bool,
    /// Temperature of discopop.
    pub discopop_tau: f64,
    /// Take 0 for the log-probabilities of the reference.
    pub reference_free: bool,
    /// Margin that SimPO asks for.
    pub simpo_gamma: f64,
    /// KTO's weight of desirable completions.
    pub desirable_weight: f64,
    /// KTO's weight of undesirable completions.
    pub undesirable_weight: f64,
    /// Take a pair's `chosen_probability` as the probability that the chosen completion is the
    /// better one; without it, or if false, that is 1.
    pub soft_labels: bool,
    /// Leave out pairs whose `chosen_probability` is closer to one half than this.
    pub min_confidence: f64,
    /// What the policy is compared with: start or base.
    pub reference: ReferenceModel,
    /// The loop. Keys that are not given are those of [`DpoConfig::default`].
    #[serde(deserialize_with = "train_args")]
    pub train: TrainArgs,
    /// Keep only each layer's input in the forward pass and run the layers again in the backward
    /// pass: the memory of one layer's activations, for about a third more time.
    pub gradient_checkpointing: bool,
    /// Compute a pair's prompt once, for both completions. The numbers are the same but for rounding.
    pub share_prompt: bool,
    /// Longest prompt with completion in tokens; longer ones lose their end.
    pub max_length: usize,
    /// Share of prompts whose pairs are kept out of training and evaluated.
    pub held_out: f64,
}

impl Default for DpoConfig {
    fn default() -> Self {
        Self {
            objective: PairObjective::Dpo,
            beta: 0.1,
            loss_type: vec![LossType::Sigmoid],
            loss_weights: None,
            label_smoothing: 0.0,
            f_divergence_type: FDivergenceType::ReverseKl,
            f_alpha_divergence_coef: 0.5,
            ld_alpha: None,
            use_weighting: false,
            discopop_tau: 0.05,
            reference_free: false,
            simpo_gamma: 0.5,
            desirable_weight: 1.0,
            undesirable_weight: 1.0,
            soft_labels: true,
            min_confidence: 0.0,
            reference: ReferenceModel::Start,
            train: default_train_args(),
            gradient_checkpointing: false,
            share_prompt: true,
            max_length: 1024,
            held_out: 0.1,
        }
    }
}

/// TRL's for DPO, with the loss before the first update in the log.
fn default_train_args() -> TrainArgs {
    TrainArgs {
        learning_rate: 1e-6,
        logging_first_step: true,
        eval_on_start: true,
        ..TrainArgs::default()
    }
}

/// Reads the keys that are given over those of [`default_train_args`], which differ from
/// `TrainArgs`'s own defaults.
fn train_args<'de, D: Deserializer<'de>>(given: D) -> std::result::Result<TrainArgs, D::Error> {
    over(&default_train_args(), given)
}

/// A name or a list of names.
fn one_or_many<'de, D: Deserializer<'de>>(
    given: D,
) -> std::result::Result<Vec<LossType>, D::Error> {
    struct Names;
    impl<'de> serde::de::Visitor<'de> for Names {
        type Value = Vec<LossType>;

        fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
            f.write_str("a loss or a list of losses")
        }

        fn visit_str<E: serde::de::Error>(self, name: &str) -> std::result::Result<Self::Value, E> {
            let name = serde::de::value::StrDeserializer::<E>::new(name);
            Ok(vec![LossType::deserialize(name)?])
        }

        fn visit_seq<A: serde::de::SeqAccess<'de>>(
            self,
            names: A,
        ) -> std::result::Result<Self::Value, A::Error> {
            Vec::deserialize(serde::de::value::SeqAccessDeserializer::new(names))
        }
    }
    given.deserialize_any(Names)
}

impl DpoConfig {
    /// The losses of `objective: dpo` and what each is multiplied by.
    pub fn weighted_losses(&self) -> impl Iterator<Item = (LossType, f64)> + '_ {
        let weight = |i: usize| self.loss_weights.as_ref().map_or(1.0, |weights| weights[i]);
        self.loss_type.iter().enumerate().map(move |(i, &kind)| (kind, weight(i)))
    }

    /// Whether the loss looks at a reference model.
    pub fn needs_reference(&self) -> bool {
        let compares = matches!(self.objective, PairObjective::Dpo | PairObjective::Kto);
        compares && !self.reference_free
    }

    /// # Errors
    ///
    /// [`Error::Setting`] that names the key.
    pub fn check(&self) -> Result<()> {
        let beta = self.beta;
        check("beta", beta.is_finite() && beta > 0.0, beta, "a number above 0")?;
        let confidence = self.min_confidence;
        let good = (0.0..=0.5).contains(&confidence);
        check("min_confidence", good, confidence, "a number from 0 to 0.5")?;
        let good = (0.0..1.0).contains(&self.held_out);
        check("held_out", good, self.held_out, "a share from 0 to below 1")?;
        check("max_length", self.max_length > 1, self.max_length, "2 or more")?;
        let good = self.discopop_tau.is_finite() && self.discopop_tau > 0.0;
        check("discopop_tau", good, self.discopop_tau, "a number above 0")?;
        let alpha = self.ld_alpha.unwrap_or(1.0);
        check("ld_alpha", (0.0..=1.0).contains(&alpha), alpha, "a number from 0 to 1")?;
        for (key, weight) in [
            ("desirable_weight", self.desirable_weight),
            ("undesirable_weight", self.undesirable_weight),
            ("simpo_gamma", self.simpo_gamma),
        ] {
            check(key, weight.is_finite() && weight >= 0.0, weight, "a number of 0 or more")?;
        }
        let alpha = self.f_alpha_divergence_coef;
        check("f_alpha_divergence_coef", alpha.is_finite(), alpha, "a number")?;
        self.check_losses()?;
        Ok(self.train.validate()?)
    }

    /// What goes together: a setting that the loss does not look at is an error, not ignored.
    fn check_losses(&self) -> Result<()> {
        use LossType::*;
        let count = self.loss_type.len();
        check("loss_type", count > 0, "an empty list", "at least one loss")?;
        if let Some(weights) = &self.loss_weights {
            let good = weights.len() == count && weights.iter().all(|w| w.is_finite() && *w >= 0.0);
            check("loss_weights", good, format!("{weights:?}"), "one number per loss")?;
        }
        let dpo = self.objective == PairObjective::Dpo;
        let good = dpo || self.loss_type == [Sigmoid];
        check("loss_type", good, "given", "it with objective: dpo only")?;
        let any = |kinds: &[LossType]| dpo && self.loss_type.iter().any(|k| kinds.contains(k));
        let all = |kinds: &[LossType]| dpo && self.loss_type.iter().all(|k| kinds.contains(k));

        let smoothing = self.label_smoothing;
        let good = (0.0..1.0).contains(&smoothing) && (smoothing < 0.5 || !any(&[Robust]));
        check("label_smoothing", good, smoothing, "a number from 0 to below 0.5")?;
        let smooths =
            any(&[Robust, ExoPair, Aot, AotUnpaired]) || self.objective == PairObjective::Simpo;
        let advice = "0, or robust, exo_pair, aot, aot_unpaired or SimPO: no other loss uses it";
        check("label_smoothing", smoothing == 0.0 || smooths, smoothing, advice)?;
        let good = smoothing > 0.0 || !any(&[ExoPair]);
        check("label_smoothing", good, smoothing, "a number above 0 with exo_pair, such as 0.001")?;

        // The normalising constant of other divergences falls out of differences alone.
        let differences = [Sigmoid, SigmoidNorm, Hinge, Ipo, ExoPair, Robust, Discopop, Sft];
        let plain = self.f_divergence_type == FDivergenceType::ReverseKl;
        let advice = "reverse_kl, or only losses of a difference: sigmoid, sigmoid_norm, hinge, \
                      ipo, exo_pair, robust, discopop, sft";
        check("f_divergence_type", plain || all(&differences), "another", advice)?;
        let good = !self.use_weighting || (dpo && !any(&[Aot, AotUnpaired]));
        let advice = "false: aot and aot_unpaired mix the pairs of a batch, and only dpo has it";
        check("use_weighting", good, true, advice)?;
        let good = self.ld_alpha.is_none() || self.objective == PairObjective::Dpo;
        check("ld_alpha", good, alpha_text(self.ld_alpha), "it with objective: dpo only")?;
        let good = !self.reference_free || dpo;
        check(
            "reference_free",
            good,
            true,
            "false: kto needs a reference, orpo and simpo have none",
        )
    }

    /// Whether the loss mixes the pairs of a batch, so that a pair has no weight or label of its
    /// own.
    pub(crate) fn sorts_pairs(&self) -> bool {
        let sorts = |kind: &LossType| matches!(kind, LossType::Aot | LossType::AotUnpaired);
        self.objective == PairObjective::Dpo && self.loss_type.iter().any(sorts)
    }
}

fn alpha_text(alpha: Option<f64>) -> String {
    alpha.map_or("absent".into(), |alpha| alpha.to_string())
}

fn check(key: &'static str, good: bool, value: impl ToString, wanted: &str) -> Result<()> {
    match good {
        true => Ok(()),
        false => {
            Err(Error::Setting { key, reason: format!("is {}; use {wanted}", value.to_string()) })
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_kept_where_the_loop_is_given_in_part() {
        let config: DpoConfig =
            serde_yaml::from_str("beta: 0.2\ntrain:\n  num_train_epochs: 1\n").unwrap();
        assert_eq!(config.train.learning_rate, 1e-6);
        assert!(config.train.eval_on_start);
        assert_eq!(config.train.num_train_epochs, 1.0);
        let text = serde_yaml::to_string(&config).unwrap();
        assert_eq!(serde_yaml::from_str::<DpoConfig>(&text).unwrap(), config);
        config.check().unwrap();
    }

    #[test]
    fn unknown_keys_and_names_are_errors() {
        for text in [
            "bta: 1",
            "train: {learning_rat: 1}",
            "loss_type: hing",
            "loss_type: [sigmoid, x]",
            "reference: none",
        ] {
            let error = serde_yaml::from_str::<DpoConfig>(text).unwrap_err().to_string();
            assert!(error.contains("unknown"), "{error}");
        }
    }

    #[test]
    fn a_loss_is_a_name_or_a_list() {
        let one: DpoConfig = serde_yaml::from_str("loss_type: ipo").unwrap();
        assert_eq!(one.loss_type, [LossType::Ipo]);
        let text = "loss_type: [sigmoid, sft]\nloss_weights: [1, 0.2]";
        let two: DpoConfig = serde_yaml::from_str(text).unwrap();
        two.check().unwrap();
        let losses: Vec<_> = two.weighted_losses().collect();
        assert_eq!(losses, [(LossType::Sigmoid, 1.0), (LossType::Sft, 0.2)]);
    }

    #[test]
    fn settings_that_the_loss_does_not_use_are_errors() {
        for (text, key) in [
            ("label_smoothing: 0.1", "label_smoothing"),
            ("loss_type: exo_pair", "label_smoothing"),
            ("{loss_type: robust, label_smoothing: 0.5}", "label_smoothing"),
            ("{loss_type: nca_pair, f_divergence_type: forward_kl}", "f_divergence_type"),
            ("{loss_type: aot, use_weighting: true}", "use_weighting"),
            ("{loss_type: [sigmoid, sft], loss_weights: [1]}", "loss_weights"),
            ("{objective: kto, reference_free: true}", "reference_free"),
            ("{objective: simpo, ld_alpha: 0.5}", "ld_alpha"),
            ("loss_type: []", "loss_type"),
        ] {
            let config: DpoConfig = serde_yaml::from_str(text).unwrap();
            let error = config.check().unwrap_err().to_string();
            assert!(error.starts_with(&format!("{key}: is ")), "{text}: {error}");
        }
    }

    #[test]
    fn bad_settings_are_named() {
        let bad = DpoConfig { min_confidence: 0.7, ..DpoConfig::default() };
        assert!(bad.check().unwrap_err().to_string().starts_with("min_confidence: is 0.7"));
        let bad = DpoConfig { beta: 0.0, ..DpoConfig::default() };
        assert!(bad.check().unwrap_err().to_string().starts_with("beta: is 0;"));
    }
}
