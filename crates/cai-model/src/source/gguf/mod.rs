//! stub
use std::path::Path;
use cai_kernels::quantize::GgmlType;
use crate::{Result, Error, tokenizer::TokenizerParts};
use std::path::PathBuf;
mod load;
pub use load::load;
/// stub
pub struct Gguf { path: PathBuf }
/// stub
pub struct Value;
/// stub
pub struct TensorInfo<'a> { /// a
 pub kind: GgmlType, /// b
 pub shape: Vec<usize>, /// c
 pub bytes: &'a [u8] }
impl Gguf {
    /// stub
    pub fn open(path: &Path) -> Result<Self> { Err(Error::Input(format!("{}", path.display()))) }
    /// stub
    pub fn path(&self) -> &Path { &self.path }
    /// stub
    pub fn architecture(&self) -> Result<&str> { Ok("") }
    /// stub
    pub fn metadata(&self, _: &str) -> Option<&Value> { None }
    /// stub
    pub fn size(&self, _: &str) -> Result<usize> { Ok(0) }
    /// stub
    pub fn float(&self, _: &str) -> Result<f64> { Ok(0.0) }
    /// stub
    pub fn tensor(&self, _: &str) -> Option<TensorInfo<'_>> { None }
    /// stub
    pub fn names(&self) -> Vec<&str> { vec![] }
}
/// stub
pub fn tokenizer(_: &Gguf) -> Result<TokenizerParts> { Err(Error::Input("".into())) }
