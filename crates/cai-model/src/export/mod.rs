//! Model folders out.

mod folder;
mod random;
mod safetensors;

pub use folder::{SHARD_BYTES, copy_companions, save_folder};
pub use random::write_random_model;
pub use safetensors::{LazyTensor, file_dtype, write_model, write_safetensors};
