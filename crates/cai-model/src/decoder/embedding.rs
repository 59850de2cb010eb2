//! The token embedding, and rows of it (or of the head) that are trained in place of the base's.

use burn::{
    module::{Module, Param},
    tensor::{Device, IndexingUpdateOp, Int, Tensor, TensorData},
};

use super::{TensorSource, Weight, param};
use crate::Result;

/// Token embedding, `[vocabulary, hidden]`.
#[derive(Module, Debug)]
pub struct Embedding {
    /// One row per token.
    pub weight: Weight,
    /// Rows that stand in place of these.
    pub trained: Option<TrainedRows>,
}

impl Embedding {
    pub(super) fn load(
        source: &mut impl TensorSource,
        name: &str,
        size: [usize; 2],
    ) -> Result<Self> {
        Ok(Self { weight: source.weight(&format!("{name}.weight"), size)?, trained: None })
    }

    /// The rows of `ids` `[tokens]`, `[tokens, hidden]`.
    pub fn forward(&self, ids: Tensor<1, Int>) -> Tensor<2> {
        match &self.trained {
            None => self.weight.select(ids),
            Some(TrainedRows { values, ids: None, .. }) => {
                values.val().select(0, ids).cast(self.weight.dtype())
            }
            Some(rows) => rows.put(self.weight.select(ids.clone()), ids),
        }
    }
}

/// Some rows of a matrix `[vocabulary, hidden]` that are trained, or all of them.
#[derive(Module, Debug)]
pub struct TrainedRows {
    /// Their values, `[rows, hidden]` in f32.
    pub values: Param<Tensor<2>>,
    /// Which rows they are; all if `None`.
    #[module(skip)]
    pub ids: Option<Vec<u32>>,
    /// Whether a head that is tied to the table reads them, too.
    #[module(skip)]
    pub head: bool,
}

impl TrainedRows {
    /// Rows `ids` (all if `None`) with these values; `name` is the parameter's in PEFT's files, `head`
    /// whether a tied head reads them.
    pub fn new(name: &str, values: Tensor<2>, ids: Option<Vec<u32>>, head: bool) -> Self {
        Self { values: param(name, values), ids, head }
    }

    /// The same, marked for training.
    pub fn trainable(self) -> Self {
        Self { values: self.values.set_require_grad(true), ..self }
    }

    /// The numbers of the rows, if they are some.
    pub(crate) fn index(&self, device: &Device) -> Option<Tensor<1, Int>> {
        let ids: Vec<i64> = self.ids.as_ref()?.iter().map(|&id| id as i64).collect();
        Some(Tensor::from_data(ids.as_slice(), device))
    }

    /// `looked_up` `[tokens, hidden]` with these rows where a token is one of them:
    /// `(1 − hit) · x + onehot · V`.
    fn put(&self, looked_up: Tensor<2>, tokens: Tensor<1, Int>) -> Tensor<2> {
        let ids = self.ids.as_deref().unwrap_or_default();
        let tokens: Vec<i64> = tokens.into_data().iter::<i64>().collect();
        let mut one_hot = vec![0f32; tokens.len() * ids.len()];
        let mut others = vec![1f32; tokens.len()];
        for (t, token) in tokens.iter().enumerate() {
            if let Some(row) = ids.iter().position(|&id| id as i64 == *token) {
                one_hot[t * ids.len() + row] = 1.0;
                others[t] = 0.0;
            }
        }
        if !self.values.is_require_grad() && others.iter().all(|&other| other == 1.0) {
            return looked_up;
        }
        let (device, dtype) = (looked_up.clone().inner().device(), looked_up.dtype());
        let count = tokens.len();
        let one_hot = Tensor::<2>::from_data(TensorData::new(one_hot, [count, ids.len()]), &device);
        let others = Tensor::<2>::from_data(TensorData::new(others, [count, 1]), &device);
        let rows = one_hot.matmul(self.values.val());
        looked_up * others.cast(dtype) + rows.cast(dtype)
    }
}

/// A head and the rows that stand in place of some of its own.
#[derive(Clone, Copy)]
pub struct Head<'a> {
    /// `[vocabulary, hidden]`.
    pub weight: &'a Weight,
    /// Rows in place of its own.
    pub trained: Option<&'a TrainedRows>,
}

impl Head<'_> {
    /// Rows of the head.
    pub fn vocabulary(&self) -> usize {
        self.weight.size()[0]
    }

    /// Logits before any soft-cap: `[rows, hidden]` to `[rows, vocabulary]`.
    pub fn project(&self, x: Tensor<2>) -> Tensor<2> {
        let Some(rows) = self.trained else { return self.weight.project(x) };
        let values = rows.values.val().cast(x.dtype());
        match rows.index(&self.weight.device()) {
            None => cai_kernels::linear(x, values),
            Some(index) => {
                let logits = self.weight.project(x.clone());
                let own = x.matmul(values.transpose());
                logits.select_assign(1, index, own, IndexingUpdateOp::Assign)
            }
        }
    }

    /// `y·W`, untracked: `[rows, vocabulary]` to `[rows, hidden]`.
    pub fn project_back(&self, y: Tensor<2>) -> Tensor<2> {
        let Some(rows) = self.trained else { return self.weight.project_back(y).inner() };
        let values = rows.values.val().inner().cast(y.dtype());
        match rows.index(&self.weight.device()) {
            None => y.matmul(values),
            Some(index) => {
                let own = y.clone().select(1, index.clone());
                let none = own.zeros_like();
                let others = y.select_assign(1, index, none, IndexingUpdateOp::Assign);
                self.weight.project_back(others).inner() + own.matmul(values)
            }
        }
    }
}
