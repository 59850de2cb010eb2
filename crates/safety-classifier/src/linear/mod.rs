//! The linear path: words and pieces of words, weighted by how much they tell the classes apart,
//! under multinomial logistic regression.
//!
//! Bags of n-grams weighted by a naive-Bayes log-count ratio are a baseline that small neural
//! networks seldom beat on short texts (Wang and Manning, "Baselines and Bigrams", ACL 2012). Here
//! they are one half of the hybrid classifier.

mod features;
mod model;
mod solver;

pub use features::{FeatureConfig, Vectoriser};
pub use model::{LinearConfig, LinearModel};
