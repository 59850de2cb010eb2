//! Model folders on disk and on the hub.

mod folder;
pub mod hub;
mod weights;

pub use folder::{load_gemma, save_folder};
pub use weights::{WeightFiles, write_safetensors};
