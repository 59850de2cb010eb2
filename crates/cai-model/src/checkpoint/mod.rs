//! Model folders on disk and on the hub.

mod folder;
pub mod hub;
mod random;
mod spelling;
mod weights;
mod write;

pub use folder::{SHARD_BYTES, copy_companions, load_gemma, save_folder};
pub use random::write_random_model;
pub use spelling::Spelling;
pub use weights::WeightFiles;
pub use write::{LazyTensor, file_dtype, write_model, write_safetensors};
