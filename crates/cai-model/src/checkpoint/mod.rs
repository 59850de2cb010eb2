//! Model folders on disk and on the hub.

mod folder;
pub mod hub;
mod spelling;
mod weights;

pub use folder::{load_gemma, save_folder};
pub use spelling::Spelling;
pub use weights::{WeightFiles, write_safetensors};
