//! Models over weighted n-grams: words and pieces of words, by how much they tell the classes apart.
//!
//! Bags of n-grams weighted by a naive-Bayes log-count ratio are a baseline that small neural
//! networks seldom beat on short texts (Wang and Manning, "Baselines and Bigrams", ACL 2012). Two
//! models read them: logistic regression ([`LinearModel`]), and a small network over a learnt vector
//! for each n-gram ([`Bag`]).

mod bag;
mod linear;
mod solver;
mod sparse;
mod weighted;

pub use bag::{Bag, BagConfig, BagShape};
pub use linear::{LinearConfig, LinearModel};
pub use sparse::Sparse;
pub use weighted::{NgramConfig, Ngrams};
