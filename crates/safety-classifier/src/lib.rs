//! Stage 1: sorts text into safe and four kinds of harm.
//!
//! Small models over tokens and n-grams, or a head on a decoder ([`decoder`]), are trained on labelled texts
//! ([`train`]), and their probabilities are calibrated on held-out texts. A folder holds all of it;
//! [`SafetyClassifier::load`] reads one and [`SafetyClassifier::predict`] classifies texts.
//! The labels are those of the config: a text with another label is an error, never a default.

pub mod assess;
pub mod attack;
pub mod batch;
pub mod bootstrap;
pub mod calibrate;
pub mod checkpoint;
pub mod config;
pub mod curves;
pub mod data;
pub mod decoder;
pub mod ensemble;
pub mod error;
pub mod evaluate;
pub mod explain;
pub mod fairness;
mod html;
pub mod identity;
pub mod inference;
mod members;
pub mod metrics;
pub mod model;
pub mod near;
pub mod network;
pub mod ngrams;
pub mod objective;
pub mod ood;
mod optimise;
pub mod outputs;
pub mod predict;
pub mod report;
pub mod sources;
pub mod stream;
pub mod text;
pub mod tokenizer;
pub mod train;
mod warm_start;
mod weights;
pub mod written;

pub use checkpoint::files;
pub use config::{Architecture, ClassWeights, ClassifierConfig, Pooling, Task};
pub use error::{Error, Result};
pub use evaluate::evaluate;
pub use metrics::Evaluation;
pub use predict::{Prediction, SafetyClassifier};
pub use report::Report;
pub use train::{train, train_on};
pub use warm_start::WarmStart;
