//! Preference training on a tiny random Gemma.

mod data;
mod fixture;
mod gradient;
mod losses;
mod parity;
mod reference;
mod references;
mod training;
