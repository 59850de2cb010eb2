//! API keys.

use std::fmt;
use std::path::Path;

use axum::extract::{Request, State};
use axum::http::{HeaderMap, header};
use axum::middleware::Next;
use axum::response::Response;
use sha2::{Digest, Sha256};
use subtle::{Choice, ConstantTimeEq};

use crate::api::ApiError;
use crate::app::App;
use crate::{Error, Result};

/// The keys that are accepted; without any, everybody is. Only their hashes are held.
#[derive(Clone, Default)]
pub struct Keys(Vec<[u8; 32]>);

impl Keys {
    /// Keys from a file: one a line; blank lines and lines that begin with `#` are left out.
    ///
    /// # Errors
    ///
    /// A file that cannot be read or holds no key: it must not open the server to everybody.
    pub fn read(path: &Path) -> Result<Self> {
        let io = |source| Error::Io { path: path.into(), source };
        let text = std::fs::read_to_string(path).map_err(io)?;
        let keys = Self::parse(&text);
        if !keys.required() {
            let empty = std::io::Error::other("it holds no key; write one a line");
            return Err(io(empty));
        }
        Ok(keys)
    }

    /// Keys from a text, as [`read`](Self::read) takes them from a file.
    pub fn parse(text: &str) -> Self {
        let lines = text.lines().map(str::trim);
        let keys = lines.filter(|line| !line.is_empty() && !line.starts_with('#'));
        Self(keys.map(hash).collect())
    }

    /// These and those.
    pub fn and(mut self, others: Self) -> Self {
        self.0.extend(others.0);
        self
    }

    /// Whether a key is needed.
    pub fn required(&self) -> bool {
        !self.0.is_empty()
    }

    /// Whether `key` is one of them, in a time that tells nothing about them: hashes have one length,
    /// and every one is compared.
    pub fn accepts(&self, key: &str) -> bool {
        let given = hash(key);
        let equal = self.0.iter().fold(Choice::from(0), |any, key| any | key.ct_eq(&given));
        !self.required() || bool::from(equal)
    }
}

impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} keys", self.0.len())
    }
}

fn hash(key: &str) -> [u8; 32] {
    Sha256::digest(key).into()
}

/// Lets requests with a key pass.
pub(crate) async fn demand_key(
    State(app): State<App>,
    request: Request,
    next: Next,
) -> std::result::Result<Response, ApiError> {
    if app.keys.required() {
        let Some(key) = bearer(request.headers()) else {
            let message = "this server needs a key: send the header Authorization: Bearer KEY";
            return Err(ApiError::key(message));
        };
        if !app.keys.accepts(key) {
            return Err(ApiError::key("the key is not one of this server's"));
        }
    }
    Ok(next.run(request).await)
}

fn bearer(headers: &HeaderMap) -> Option<&str> {
    let (scheme, key) = headers.get(header::AUTHORIZATION)?.to_str().ok()?.split_once(' ')?;
    scheme.eq_ignore_ascii_case("bearer").then_some(key.trim())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_keys_of_the_file_are_accepted() {
        let keys = Keys::parse("# team\nsk-one\n\n  sk-two \n");
        assert!(keys.required() && keys.accepts("sk-one") && keys.accepts("sk-two"));
        for wrong in ["", "sk-on", "sk-one ", "# team", "SK-ONE", "sk-one\nsk-two"] {
            assert!(!keys.accepts(wrong), "{wrong:?}");
        }
        assert!(!format!("{keys:?}").contains("sk-"));
        assert!(Keys::default().accepts("anything"));
    }

    #[test]
    fn a_file_without_a_key_does_not_open_the_server() {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), "# nothing yet\n").unwrap();
        assert!(Keys::read(file.path()).is_err());
        assert!(Keys::read("there/is/none".as_ref()).is_err());
    }
}
