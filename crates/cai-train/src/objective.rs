//! What the loop needs of a task.

use burn::module::Module;
use burn::tensor::Tensor;
use cai_data::seed::Seed;

use crate::Metrics;

/// Any error of an objective; the loop adds the step.
pub type ObjectiveError = Box<dyn std::error::Error + Send + Sync>;

/// A task to train: its examples, its loss, its evaluation.
///
/// Examples are known by their index, from 0 to `len`.
pub trait Objective<M: Module> {
    /// Number of training examples.
    fn len(&self) -> usize;

    /// Whether there is none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Tokens of each example, for batches of similar length.
    fn lengths(&self) -> Vec<usize>;

    /// What the loss over `items` is averaged over: trained tokens (SFT) or pairs (DPO).
    fn weight(&self, items: &[usize]) -> f64;

    /// The sum (not mean) of the losses of `items`; the loop divides by the weight of the whole
    /// accumulated step.
    ///
    /// `model` is on the autodiff device. All randomness must come from `seed`.
    ///
    /// # Errors
    ///
    /// Any; the loop stops and names the step.
    fn loss(&self, model: &M, items: &[usize], seed: Seed) -> Result<StepLoss, ObjectiveError>;

    /// Metrics on held-out examples, named without the `eval_` prefix, which the loop adds. Empty
    /// when there are none. `model` is without autodiff.
    ///
    /// # Errors
    ///
    /// Any; the loop stops and names the step.
    fn evaluate(&self, model: &M) -> Result<Metrics, ObjectiveError>;
}

/// The loss of one micro-batch.
pub struct StepLoss {
    /// Shape `[1]`. Its backward pass gives the gradient of the summed loss; its value need not be
    /// the loss.
    pub surrogate: Tensor<1>,
    /// The summed loss.
    pub loss: f64,
    /// Input tokens seen, padding not counted.
    pub tokens: usize,
    /// Further metrics, each with the weight it is averaged over.
    pub metrics: Metrics,
}
