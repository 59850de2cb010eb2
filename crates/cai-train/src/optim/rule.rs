//! One of Burn's rules with its states by parameter path.

use std::collections::BTreeMap;

use burn::optim::{Optimizer, RecordState, StateSink, StateSource};
use burn::tensor::{Device, Tensor, TensorData};

/// The last part of the names of counters, which are numbers and not tensors in Burn's states.
const COUNTER: &str = ".time";

/// A rule with its states, whatever the rule.
pub(super) trait AnyRule {
    /// The parameter after one update; its state is kept under `name`.
    fn step(&mut self, name: &str, rate: f64, weight: Tensor<2>, grad: Tensor<2>) -> Tensor<2>;

    /// All states as named tensors.
    fn values(&self) -> BTreeMap<String, TensorData>;

    /// Takes the state of the parameter `name`, which has `shape`, out of `values`, if it is there.
    ///
    /// # Errors
    ///
    /// What is wrong with the state, in words.
    fn load(
        &mut self,
        name: &str,
        shape: [usize; 2],
        values: &mut BTreeMap<String, TensorData>,
        device: &Device,
    ) -> Result<(), String>;
}

pub(super) struct Rule<O: Optimizer> {
    rule: O,
    states: BTreeMap<String, O::State<2>>,
}

impl<O: Optimizer> Rule<O> {
    pub(super) fn new(rule: O) -> Self {
        Self { rule, states: BTreeMap::new() }
    }
}

impl<O: Optimizer> AnyRule for Rule<O> {
    fn step(&mut self, name: &str, rate: f64, weight: Tensor<2>, grad: Tensor<2>) -> Tensor<2> {
        let state = self.states.remove(name);
        let (weight, state) = self.rule.step(rate, weight, grad, state);
        self.states.extend(state.map(|state| (name.to_owned(), state)));
        weight
    }

    fn values(&self) -> BTreeMap<String, TensorData> {
        let mut sink = StateSink::default();
        for (name, state) in &self.states {
            state.state_flatten(name, &mut sink);
        }
        let counter = |(name, value)| {
            // All of Burn's counters are numbers of updates.
            let updates = usize::try_from(value).unwrap_or_default();
            (name, TensorData::new(vec![updates as f32], [1]))
        };
        sink.scalars.into_iter().map(counter).chain(sink.tensors).collect()
    }

    fn load(
        &mut self,
        name: &str,
        shape: [usize; 2],
        values: &mut BTreeMap<String, TensorData>,
        device: &Device,
    ) -> Result<(), String> {
        let prefix = format!("{name}.");
        let of_state =
            values.range(prefix.clone()..).take_while(|(key, _)| key.starts_with(&prefix));
        let keys: Vec<String> = of_state.map(|(key, _)| key.clone()).collect();
        if keys.is_empty() {
            return Ok(());
        }
        let (mut counters, mut tensors) = (BTreeMap::new(), Vec::new());
        for key in keys {
            let Some(data) = values.remove(&key) else { continue };
            if key.ends_with(COUNTER) {
                let updates = data.iter::<f32>().next().unwrap_or_default() as usize;
                counters.insert(key, updates.into());
            } else if fits(data.shape().as_slice(), shape) {
                tensors.push((key, data));
            } else {
                let found = data.shape().as_slice();
                return Err(format!("is for another shape: {key} is {found:?}, not {shape:?}"));
            }
        }
        let mut source = StateSource::new(counters);
        tensors.into_iter().for_each(|(key, data)| source.insert_tensor(key, data));
        let state = O::State::<2>::state_unflatten(name, &mut source, device);
        self.states
            .insert(name.to_owned(), state.ok_or("lacks a part, or is another optimiser's")?);
        Ok(())
    }
}

/// Whether a moment may belong to a parameter: of its shape, or one row or column of means.
fn fits(moment: &[usize], shape: [usize; 2]) -> bool {
    moment.len() == 2 && moment.iter().zip(shape).all(|(&m, s)| m == s || m == 1)
}
