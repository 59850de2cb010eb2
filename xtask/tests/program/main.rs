//! Tests of the program as a person runs it: the binary, the shipped model and configs, files in and
//! out.

mod bad_input;
mod common;
mod devices;
mod doctor;
mod files;
mod judge;
mod kill;
mod leakage;
mod pipeline;
mod score;
mod serve;
mod shards;
mod show_batch;
mod tasks;
