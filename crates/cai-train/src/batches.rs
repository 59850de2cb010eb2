//! Which examples each step sees. Decided by the seed and the step alone.

use std::cmp::Reverse;

use cai_data::seed::Seed;
use rand::seq::SliceRandom;

use crate::{Error, Result, TrainArgs};

/// Most micro-batches whose examples are sorted by length together, as in transformers.
const BUCKET: usize = 50;

/// The order of examples, epoch by epoch.
pub struct Batches {
    lengths: Vec<usize>,
    size: usize,
    accumulation: usize,
    group_by_length: bool,
    seed: Seed,
    /// The epoch that `order` is of.
    epoch: Option<usize>,
    order: Vec<Vec<usize>>,
}

impl Batches {
    /// Batches over examples with these token counts.
    ///
    /// # Errors
    ///
    /// [`Error::NoExamples`].
    pub fn new(lengths: Vec<usize>, args: &TrainArgs) -> Result<Self> {
        if lengths.is_empty() {
            return Err(Error::NoExamples);
        }
        Ok(Self {
            lengths,
            size: args.per_device_train_batch_size,
            accumulation: args.gradient_accumulation_steps,
            group_by_length: args.group_by_length,
            seed: Seed(args.seed).derive("batches"),
            epoch: None,
            order: Vec::new(),
        })
    }

    /// Optimiser steps in one pass over the examples; the last may have fewer examples.
    pub fn steps_per_epoch(&self) -> usize {
        self.lengths.len().div_ceil(self.size).div_ceil(self.accumulation)
    }

    /// The micro-batches of the step after `step` steps.
    pub fn step(&mut self, step: usize) -> &[Vec<usize>] {
        let per_epoch = self.steps_per_epoch();
        let (epoch, within) = (step / per_epoch, step % per_epoch);
        if self.epoch != Some(epoch) {
            self.order = self.shuffled(epoch);
            self.epoch = Some(epoch);
        }
        let start = within * self.accumulation;
        &self.order[start..(start + self.accumulation).min(self.order.len())]
    }

    /// All micro-batches of an epoch: shuffle, sort by length within large groups, cut, shuffle the
    /// micro-batches.
    fn shuffled(&self, epoch: usize) -> Vec<Vec<usize>> {
        let mut rng = self.seed.index(epoch as u64).rng();
        let mut items: Vec<usize> = (0..self.lengths.len()).collect();
        items.shuffle(&mut rng);
        if self.group_by_length {
            // At least four groups if there are batches enough, or each epoch would see the same
            // batches again.
            let bucket = (items.len() / (4 * self.size)).clamp(1, BUCKET);
            for group in items.chunks_mut(bucket * self.size) {
                group.sort_by_key(|&item| Reverse(self.lengths[item]));
            }
        }
        let mut batches: Vec<Vec<usize>> = items.chunks(self.size).map(<[_]>::to_vec).collect();
        batches.shuffle(&mut rng);
        batches
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn batches(examples: usize, group_by_length: bool) -> Batches {
        let lengths = (0..examples).map(|i| (i * 7919) % 101).collect();
        let args = TrainArgs {
            per_device_train_batch_size: 4,
            gradient_accumulation_steps: 3,
            group_by_length,
            ..Default::default()
        };
        Batches::new(lengths, &args).unwrap()
    }

    #[test]
    fn an_epoch_sees_each_example_once_and_epochs_differ() {
        for grouped in [false, true] {
            let mut batches = batches(250, grouped);
            let steps = batches.steps_per_epoch();
            assert_eq!(steps, 21);
            let mut epoch = |n: usize| -> Vec<usize> {
                (0..steps).flat_map(|s| batches.step(n * steps + s).concat()).collect()
            };
            let (first, second) = (epoch(0), epoch(1));
            assert_ne!(first, second);
            assert_eq!(first, epoch(0));
            let mut sorted = first;
            sorted.sort_unstable();
            assert_eq!(sorted, (0..250).collect::<Vec<_>>());
        }
    }

    #[test]
    fn grouping_saves_padding() {
        let padding = |grouped| -> usize {
            let mut batches = batches(400, grouped);
            let lengths = batches.lengths.clone();
            let cost = |batch: &Vec<usize>| {
                let longest = batch.iter().map(|&i| lengths[i]).max().unwrap_or(0);
                batch.iter().map(|&i| longest - lengths[i]).sum::<usize>()
            };
            (0..batches.steps_per_epoch())
                .map(|s| batches.step(s).iter().map(cost).sum::<usize>())
                .sum()
        };
        assert!(padding(true) * 3 < padding(false));
    }

    #[test]
    fn no_examples_is_an_error() {
        assert!(Batches::new(vec![], &TrainArgs::default()).is_err());
    }
}
